"""What a version predicts, computed by numpy: inside the server, at the coordinator and in tests alike.

What always holds: it needs numpy and the domain alone; a row's prediction depends on that row and the
version's numbers; nothing here reads a table or decides who may.
"""
