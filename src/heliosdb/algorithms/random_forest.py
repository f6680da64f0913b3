"""Random forests (Breiman 2001) from federated histograms.

What always holds: see `TreeModel`.
"""

from __future__ import annotations

from heliosdb.algorithms.trees.algorithm import TreeModel

RANDOM_FOREST = TreeModel("random_forest", boosts=False)
