"""`heliosdb simulate`: a federation of one table's parts in one process, for trying out before a real one.

What always holds: nodes compute by the node's own code and the coordinator decides by its own round machine;
there is no second implementation of a step, a rule or a privacy mechanism here. Nothing is written anywhere.
"""
