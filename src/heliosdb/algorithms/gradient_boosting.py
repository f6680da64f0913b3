"""Gradient boosting (Friedman 2001; to second order: Chen and Guestrin 2016) from federated histograms.

What always holds: see `TreeModel`.
"""

from __future__ import annotations

from heliosdb.algorithms.trees.algorithm import TreeModel

GRADIENT_BOOSTING = TreeModel("gradient_boosting", boosts=True)
