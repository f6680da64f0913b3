"""Whether two inputs nearly agree: their sums, subtracted, would be about the few in whom they differ.

What always holds: of any two inputs, and of an input and the target, one is never the other in other units
(one times a number plus a number, so also its complement) but for fewer than `least` data subjects: it is for
nobody, or for as many. It is looked at over all rows and over those that are trained on, once for a table and
what an encoding makes of it.

Whether one is the other in other units is found from pairs of rows: where fewer than `least` subjects break
the rule, of as many pairs of rows of different subjects at least one has none of them, and tells the units.
Most pairs of inputs are told apart by a few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.space import held
from heliosdb.algorithms.table import Codes, Mask, Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.domain.wording import counted

_GLANCE = 1_000
"""Rows, of different subjects, that tell most inputs apart."""

_OPERATIONS = 2e8
"""Of a look at some rows; fewer rows are looked at where there are more inputs."""

_LEAST_GLANCE, _FIRST_LOOK = 32, 64

_MOST_PAIRS = 64
"""Of rows that tell units."""

_ROUNDING = 1e-9
"""Of the range of an input: how far it may be from another in other units and still be the same."""

_LAST_BITS = 4.0 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The columns that enter sums. features: those of a table, named; beside: further ones, such as the
    target; values (n,)."""

    table: Table
    names: Sequence[str]
    beside: Sequence[tuple[str, Vector]] = ()

    @property
    def all_names(self) -> list[str]:
        """Of the features and of what is beside them."""
        return [*self.names, *(name for name, _ in self.beside)]

    def at(self, rows: Codes) -> Matrix:
        """The values in some rows, in memory; (rows, columns)."""
        features = self.table.at(rows).features
        further = [values[rows][:, np.newaxis] for _, values in self.beside]
        return np.concatenate([np.asarray(features), *further], axis=1)

    def column(self, place: int) -> Vector:
        """All values of one."""
        if place >= len(self.names):
            return self.beside[place - len(self.names)][1]
        return held(self.table.features[:, place], self.table.space)


def check_alike(inputs: Inputs, least: int, dataset: str) -> None:
    """FederatedError NODE_REFUSED for two inputs that differ in fewer than `least` subjects and in one at
    least.

    It names both; least: 1: nothing is looked at.
    """
    names = inputs.all_names
    for one, other in find_alike(inputs, least):
        raise refused_as_alike(names[one], names[other], least, dataset)


def find_alike(inputs: Inputs, least: int) -> Iterator[tuple[int, int]]:
    """Yield the places of two inputs, rising, that differ in fewer than `least` subjects and in one at least.

    Either may be changed before the next two are asked for.
    """
    names = inputs.all_names
    if least <= 1 or len(names) < 2 or not inputs.table.rows:
        return
    firsts = np.unique(inputs.table.subjects, return_index=True)[1].astype(np.int64)
    glance = firsts[: _rows_at_once(len(names), least)]
    some = inputs.at(glance)
    for one in range(len(names) - 1):
        rows, seen = glance, some
        pairs = _pairs(seen[:, one], least)
        if len(pairs) < least and glance.size < firsts.size:
            # Too few of the rows that were looked at differ.
            further = firsts[_ends(inputs.column(one)[firsts], least)]
            rows, seen = np.concatenate([glance, further]), np.concatenate([some, inputs.at(further)])
            pairs = _pairs(seen[:, one], least)
        trained = ~inputs.table.held_out[rows]
        alike = _alike_at_a_glance(seen[:, one], seen[:, one + 1 :], pairs, trained, least=least)
        for other in (alike + one + 1).tolist():
            found = [(int(rows[low]), int(rows[high])) for low, high in pairs]
            if _differ_in_few(inputs.column(one), inputs.column(other), found, inputs.table, least):
                yield one, other


def _rows_at_once(columns: int, least: int) -> int:
    fit = int(_OPERATIONS / (min(least, _MOST_PAIRS) * columns**2))
    return max(min(_GLANCE, fit), _LEAST_GLANCE, 4 * least)


def _ends(column: Vector, least: int) -> Codes:
    """Where the lowest values of a column are, and the highest; as many of each."""
    there = np.flatnonzero(~np.isnan(column))
    most = min(least, _MOST_PAIRS, there.size // 2)
    if not most:
        return np.empty(0, dtype=np.int64)
    order = np.argpartition(column[there], [most - 1, there.size - most])
    found: Codes = there[np.concatenate([order[:most], order[-most:]])]
    return found


def _pairs(column: Vector, least: int) -> list[tuple[int, int]]:
    """Pairs of rows in which a column has different values: its lowest and its highest, the next ones, …"""
    order = np.argsort(column, kind="stable")
    order = order[: int(np.count_nonzero(~np.isnan(column)))]
    pairs = []
    for place in range(min(least, _MOST_PAIRS, order.size // 2)):
        low, high = int(order[place]), int(order[-1 - place])
        if column[low] != column[high]:
            pairs.append((low, high))
    return pairs


def _alike_at_a_glance(
    column: Vector, others: Matrix, pairs: Sequence[tuple[int, int]], trained: Mask, *, least: int
) -> Codes:
    """Which of the others may be the column in other units, but for a few rows.

    column: (r,); others: (r, k); trained: which rows are trained on, (r,).
    """
    may_be = np.zeros(others.shape[1], dtype=np.bool_)
    for low, high in pairs:
        left = np.flatnonzero(~may_be)
        for some in (slice(_FIRST_LOOK), slice(None)):
            ends = (float(column[low]), float(column[high]), others[low, left], others[high, left])
            differs = _differences(column[some], others[some][:, left], ends)
            # Fewer of those that are trained on than of all.
            left = left[np.count_nonzero(differs[trained[some]], axis=0) < least]
        may_be[left] = True
    return np.flatnonzero(may_be)


def _differences(column: Vector, others: Matrix, ends: tuple[float, float, Vector, Vector]) -> Mask:
    """Say of each row and other whether that is not the column in the units that two rows tell; (r, k).

    ends: in these the column's two values, and those of the others.
    """
    low, high, at_low, at_high = ends
    with np.errstate(over="ignore", invalid="ignore"):
        share = (column - low) / (high - low)
        expected = at_low + np.multiply.outer(share, at_high - at_low)
        reach = _ROUNDING * np.abs(at_high - at_low)
        reach += _LAST_BITS * np.maximum(np.abs(at_low), np.abs(at_high))
        near = np.abs(others - expected) <= np.multiply.outer(np.maximum(1.0, np.abs(share)), reach)
    both_missing = np.isnan(column)[:, np.newaxis] & np.isnan(others)
    found: Mask = ~(near | both_missing)
    # A constant is in no units of the column.
    found[:, at_low == at_high] = True
    return found


def _differ_in_few(
    own: Vector, other: Vector, pairs: Sequence[tuple[int, int]], table: Table, least: int
) -> bool:
    """Whether some subjects, and fewer than `least`, keep one from being the other in other units."""
    for low, high in pairs:
        ends = (float(own[low]), float(own[high]), other[[low]], other[[high]])
        differs = _differences(own, other[:, np.newaxis], ends)[:, 0]
        for rows in _parts(table):
            count = np.unique(table.subjects[differs if rows is None else differs & rows]).size
            if 0 < count < least:
                return True
    return False


def _parts(table: Table) -> Iterator[Mask | None]:
    yield None
    if bool(table.held_out.any()):
        yield ~table.held_out


def refused_as_alike(one: str, other: str, least: int, dataset: str) -> FederatedError:
    """The error for two such inputs."""
    return FederatedError(
        ErrorCode.NODE_REFUSED,
        f'the inputs "{one}" and "{other}" of dataset "{dataset}" differ in fewer than'
        f" {counted(least, 'data subject')}",
        hint="Two sums without noise would differ by these few. Use one of the two, or a privacy_budget.",
    )
