"""What a run would do, asked of the parts that would do it.

What always holds: nothing here reads a row, asks a node or writes; each figure is the answer of the code that
the coordinator itself runs, given what is known now.
"""
