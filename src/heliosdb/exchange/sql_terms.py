"""What a column adds to a linear score, in SQL.

What always holds: it is what `scoring.linear` sums over the column's inputs, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlglot import exp

from heliosdb.domain.encoding import ColumnEncoding
from heliosdb.exchange.sql_inputs import all_null
from heliosdb.exchange.sql_levels import Dialect, case, coalesce, is_null, multiply, number

_LARGEST = 1e290

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A column, and of each of its inputs a slope, what it is filled with, and what is taken from it."""

    column: ColumnEncoding
    slopes: Numbers
    fills: Numbers
    shifts: Numbers

    @property
    def width(self) -> int:
        """Inputs but for the one that says what is missing."""
        return len(self.slopes) - self.column.missing_indicator

    def weigh(self, inputs: Numbers, *, missing: bool) -> float:
        """What the column adds where its inputs are these; missing: whether it is."""
        given = np.append(inputs, float(missing)) if self.column.missing_indicator else inputs
        with np.errstate(all="ignore"):
            return float(np.clip(self.slopes @ (given - self.shifts), -_LARGEST, _LARGEST))

    @property
    def absent(self) -> float:
        """What it adds where it is missing."""
        return self.weigh(self.fills[: self.width], missing=True)


def column_terms(one: Weighed, known: Sequence[exp.Expression], dialect: Dialect) -> list[exp.Expression]:
    """Return the terms of a column. known: its values, NULL where they are missing."""
    match one.column.form:
        case "indicators":
            return [_by_level(one, known[0], dialect)]
        case "bins":
            return [_by_bin(one, known[0], dialect)]
        case _:
            return _by_value(one, known, dialect)


def _by_level(one: Weighed, known: exp.Expression, dialect: Dialect) -> exp.Expression:
    absent = number(one.absent, dialect)
    chosen = [
        (exp.EQ(this=known.copy(), expression=number(float(level), dialect)),
         number(one.weigh((np.arange(1, one.width + 1) == level).astype(np.float64), missing=False), dialect))
        for level in range(one.width + 1)
    ]  # fmt: skip
    return case([(is_null(known.copy()), absent), *chosen], absent.copy())


def _by_bin(one: Weighed, known: exp.Expression, dialect: Dialect) -> exp.Expression:
    def added(below: int) -> exp.Expression:
        inputs = (np.arange(one.width) < below).astype(np.float64)
        return number(one.weigh(inputs, missing=False), dialect)

    above = [
        (exp.GT(this=known.copy(), expression=number(one.column.edges[below - 1], dialect)), added(below))
        for below in range(one.width, 0, -1)
    ]
    return case([(is_null(known.copy()), number(one.absent, dialect)), *above], added(0))


def _by_value(one: Weighed, known: Sequence[exp.Expression], dialect: Dialect) -> list[exp.Expression]:
    found = []
    for value, slope, fill, shift in zip(known, one.slopes, one.fills, one.shifts, strict=False):
        if slope != 0.0:
            filled = coalesce(value.copy(), number(float(fill), dialect))
            centred = exp.Sub(this=filled, expression=number(float(shift), dialect))
            found.append(multiply(number(float(slope), dialect), centred))
    if one.column.missing_indicator:
        with np.errstate(all="ignore"):
            there, gone = (float(one.slopes[-1] * (value - one.shifts[-1])) for value in (0.0, 1.0))
        found.append(case([(all_null(list(known)), number(gone, dialect))], number(there, dialect)))
    return found
