"""What a node computes and how a model predicts: pure numerics, no I/O.

Importing this package registers the algorithms that are built.
"""

from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION
from heliosdb.algorithms.registry import Algorithm, Evaluation, algorithm, names, register
from heliosdb.algorithms.sgd import derive_rng
from heliosdb.algorithms.table import Table, held_out

register(LOGISTIC_REGRESSION)
register(LINEAR_REGRESSION)

__all__ = ["Algorithm", "Evaluation", "Table", "algorithm", "derive_rng", "held_out", "names", "register"]
