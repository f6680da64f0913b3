"""Rows as SQL hands them over become the inputs of a model.

What always holds: a row's inputs depend on that row and the encoding alone, and are what a node makes of the
same row; a value that is missing, that is not finite or that has no level is NaN in every input that is made
of it, but for the one that says so.

A row comes as *slots*: one number for each column in order (of a boolean 0 or 1, of a time days since
1970-01-01, of an interval days, of a category the index among `level_names`), for an array one for each
element; NaN is NULL.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding

Slots = NDArray[np.float64]
"""(n, slots)."""


def count_slots(encoding: Encoding) -> int:
    """Return how many numbers a row comes as."""
    return sum(map(_width, encoding.columns))


def encode_rows(slots: Slots, encoding: Encoding) -> NDArray[np.float64]:
    """Return the inputs, (n, inputs), of rows, (n, slots)."""
    if all(column.form in ("value", "index") and not column.missing_indicator for column in encoding.columns):
        return np.where(np.isfinite(slots), slots, np.nan)
    inputs = np.empty((slots.shape[0], len(encoding.inputs)))
    first = place = 0
    for column in encoding.columns:
        for values in _encode(slots[:, first : first + _width(column)], column):
            inputs[:, place] = values
            place += 1
        first += _width(column)
    return inputs


def _width(column: ColumnEncoding) -> int:
    return column.elements if column.kind is ColumnKind.ARRAY else 1


def _encode(values: Slots, column: ColumnEncoding) -> Iterator[NDArray[np.float64]]:
    """Yield each input of one column, (n,)."""
    known = np.where(np.isfinite(values), values, np.nan)
    match column.form:
        case "log1p":
            known = np.log1p(np.where(known > -1.0, known, np.nan))
            yield from known.T
        case "bins":
            for edge in column.edges:
                yield np.where(np.isnan(known[:, 0]), np.nan, known[:, 0] > edge)
        case "indicators":
            for level in range(1, len(column.level_names)):
                yield np.where(np.isnan(known[:, 0]), np.nan, known[:, 0] == level)
        case _:
            yield from known.T
    if column.missing_indicator:
        yield np.asarray(np.isnan(known).all(axis=1), dtype=np.float64)
