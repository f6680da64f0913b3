"""Rows as SQL hands them over become the inputs of a model.

What always holds: a row's inputs depend on that row and the encoding alone, and are what a node makes of the
same row; a value that is missing, that is not finite or that has no level is NaN in every input that is made
of it, but for the one that says so.

A row comes as *slots*: one number for each column in order (of a boolean 0 or 1, of a time days since
1970-01-01, of an interval days, of a category the index among `level_names`), for an array one for each
element, for a text the numbers that are made of it (words.py); NaN is NULL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding

Slots = NDArray[np.float64]
"""(n, slots)."""


_AS_THEY_ARE = ("value", "index", "hashed")
"""Forms of which slots are inputs."""


def count_slots(encoding: Encoding) -> int:
    """Return how many numbers a row comes as."""
    return sum(map(width_of, encoding.columns))


def encode_rows(slots: Slots, encoding: Encoding) -> NDArray[np.float64]:
    """Return the inputs, (n, inputs), of rows, (n, slots)."""
    return Encoder(encoding).encode(slots)


class Encoder:
    """An encoding with all that does not depend on rows in place, for many calls with few rows."""

    def __init__(self, encoding: Encoding) -> None:
        self._inputs = len(encoding.inputs)
        self._parts: list[tuple[int, int, int, int, _Encode]] = []
        kept: list[tuple[int, int]] = []
        slot = place = 0
        for column in encoding.columns:
            width, count = width_of(column), len(column.inputs)
            if column.form in _AS_THEY_ARE and not column.missing_indicator:
                kept += zip(range(slot, slot + width), range(place, place + width), strict=True)
            else:
                self._parts.append((slot, slot + width, place, place + count, _encoder(column)))
            slot, place = slot + width, place + count
        self._from, self._to = (np.array(kept, dtype=np.intp).reshape(-1, 2)).T
        self._one = _OneRow(encoding)

    def encode(self, slots: Slots) -> NDArray[np.float64]:
        """Return the inputs, (n, inputs), of rows, (n, slots)."""
        known = np.where(np.isfinite(slots), slots, np.nan)
        if not self._parts:
            return known
        inputs = np.empty((slots.shape[0], self._inputs))
        inputs[:, self._to] = known[:, self._from]
        for first, last, place, end, encode in self._parts:
            inputs[:, place:end] = encode(known[:, first:last])
        return inputs

    def encode_one(self, slots: Sequence[float]) -> NDArray[np.float64]:
        """Return the inputs, (inputs,), of one row of as many numbers as there are slots."""
        total = sum(slots)
        # What is not finite shows in the sum, but so does what is missing.
        if self._one.is_plain and (total - total == 0.0 or not (math.inf in slots or -math.inf in slots)):
            return self._one.encode(slots)
        inputs: NDArray[np.float64] = self.encode(np.array([slots]))[0]
        return inputs


class _OneRow:
    """The quick way for one row, without a call for each column: of values as they are, and of levels.

    is_plain: whether the encoding has nothing else.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.is_plain = True
        self._values: list[tuple[slice, slice]] = []
        self._levels: list[tuple[int, int, int]] = []
        slot = place = 0
        for column in encoding.columns:
            width, count = width_of(column), len(column.inputs)
            if column.missing_indicator or column.form not in (*_AS_THEY_ARE, "indicators"):
                self.is_plain = False
            elif column.form == "indicators":
                self._levels.append((slot, place, count))
            elif self._values and (self._values[-1][0].stop, self._values[-1][1].stop) == (slot, place):
                before = self._values.pop()
                self._values.append(
                    (slice(before[0].start, slot + width), slice(before[1].start, place + count))
                )
            else:
                self._values.append((slice(slot, slot + width), slice(place, place + count)))
            slot, place = slot + width, place + count
        self._blank = np.zeros(place)

    def encode(self, slots: Sequence[float]) -> NDArray[np.float64]:
        """Return the inputs, (inputs,). slots: finite numbers and NaN."""
        inputs = self._blank.copy()
        for of, to in self._values:
            inputs[to] = slots[of]
        for slot, place, count in self._levels:
            level = slots[slot]
            if not level <= count:
                inputs[place : place + count] = math.nan
            elif level >= 1.0:
                inputs[place + int(level) - 1] = 1.0
        return inputs


_Encode = Callable[[Slots], NDArray[np.float64]]
"""A column's slots, each a finite number or NaN, to its inputs."""


def width_of(column: ColumnEncoding) -> int:
    """Return how many slots a column comes as."""
    return column.elements if column.kind.is_several or column.kind is ColumnKind.TEXT else 1


def _encoder(column: ColumnEncoding) -> _Encode:
    match column.form:
        case "log1p":
            encode: _Encode = _log1p
        case "bins":
            # Of no bin's upper side, of one's, of two's, …; the last where the value is missing.
            counted = _rows(np.tri(len(column.edges) + 1, len(column.edges), -1))
            encode = partial(_look_up, counted, np.array(column.edges))
        case "indicators":
            count = len(column.level_names) - 1
            encode = partial(_look_up, _rows(np.eye(count + 1, count, -1)), None)
        case _:
            encode = _same
    return partial(_flagged, encode) if column.missing_indicator else encode


def _rows(known: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vstack([known, np.full((1, known.shape[1]), np.nan)])


def _same(known: Slots) -> NDArray[np.float64]:
    return known


def _log1p(known: Slots) -> NDArray[np.float64]:
    return np.asarray(np.log1p(np.where(known > -1.0, known, np.nan)))


def _look_up(
    rows: NDArray[np.float64], edges: NDArray[np.float64] | None, known: Slots
) -> NDArray[np.float64]:
    """Return the row of each value's place, or of the edges below it; of what has none, the last."""
    value = known[:, 0]
    place = value if edges is None else np.searchsorted(edges, value)
    last = len(rows) - 1
    return np.asarray(rows[np.where(~np.isnan(value) & (place < last), place, last).astype(np.intp)])


def _flagged(encode: _Encode, known: Slots) -> NDArray[np.float64]:
    """Say in one more input whether the column has no value."""
    inputs = encode(known)
    return np.column_stack([inputs, np.isnan(inputs if encode is _log1p else known).all(axis=1)])
