"""The product by HTTP: a process beside the coordinator's database, reached as roles of that database.

What always holds: what a call may see and do is the database's answer to its role; nothing here decides it a
second time more generously, and no caller's text is run as SQL but in the box, which it cannot leave.
"""
