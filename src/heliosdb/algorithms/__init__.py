"""What a node computes and how a model predicts: pure numerics, no I/O."""

from heliosdb.algorithms.registry import algorithm, supervised
from heliosdb.algorithms.sgd import derive_rng
from heliosdb.algorithms.table import Table, held_out

__all__ = ["Table", "algorithm", "derive_rng", "held_out", "supervised"]
