"""Columns beside features and target: what a row counts (weights), and what is added to its score (offset).

What always holds: a row has a finite value in each of them; whether a weight is one is asked for plain
answers alone, since the answer tells of single rows, and no private computation reads one.
"""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.vector import Vector


def weights_of(table: Table) -> Vector:
    """Return what each row counts, 1 where no column says; (n,)."""
    found = table.roles.get("weights")
    return np.ones(table.rows) if found is None else found


def offset_of(table: Table, unit: float) -> Vector:
    """Return what is added to each row's score, in units of `unit`; (n,)."""
    found = table.roles.get("offset")
    if found is None:
        return np.zeros(table.rows)
    shifts: Vector = found / unit
    return shifts


def check_weights(table: Table) -> None:
    """Raise FederatedError (22023), without revealing a value, for a weight that is not more than 0."""
    if not bool((weights_of(table) > 0.0).all()):
        raise invalid_value(
            "a row's weight must be more than 0",
            hint="Rows that are not to count are left out by the dataset's WHERE, or have the weight NULL.",
        )
