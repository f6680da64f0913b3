"""Columns become inputs: what every step but those that ask for the encoding itself computes on.

What always holds: a row's inputs depend on that row and the encoding alone; a value that has none is NaN.
"""

from __future__ import annotations

from heliosdb.algorithms.table import Table
from heliosdb.domain.encoding import ColumnKind, Encoding
from heliosdb.domain.errors import not_supported

_NUMBERS = {ColumnKind.NUMBER, ColumnKind.BOOLEAN}


def encode(table: Table, encoding: Encoding) -> Table:
    """Return the table with its columns' inputs as features, (n, inputs), and its target's classes as
    0 … K - 1."""
    for column in encoding.columns:
        if column.kind not in _NUMBERS or column.form != "value" or column.missing_indicator:
            raise not_supported(f"columns of kind {column.kind} are not supported yet")
    return table
