"""Whether one data subject has most of a sum that an answer without noise tells: the dominance rule of
statistical offices (Hundepool et al. 2012, "Statistical Disclosure Control", section 4.2.2, with n = 1).

What always holds: the sums are those that tell most of one value: of magnitudes and of squares, about zero
and about the mean, since whoever has a sum and a count has the sum about any other origin too. Each is looked
at over all rows and over those that are trained on. What is refused names no column: which one has somebody
far above all others is told the node's DBA alone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.space import held
from heliosdb.algorithms.table import Codes, Mask, Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Vector

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows. chosen: which, None: all. whose: of each its subject's number, None: each row is
    another's."""

    chosen: Mask | None
    whose: Codes | None


class Dominance:
    """The rule for one table. most: the part of a sum that one subject may have; 1: all of it.

    FederatedError NODE_REFUSED at once where one subject has more than that of the rows themselves.
    """

    def __init__(self, table: Table, most: float, dataset: str) -> None:
        self._table, self._most, self._dataset = table, most, dataset
        self._parts: list[_Part] = []
        if most >= 1.0:
            return
        chosen = [None, ~table.held_out] if bool(table.held_out.any()) else [None]
        for rows in chosen:
            subjects = table.subjects if rows is None else table.subjects[rows]
            numbers = np.unique(subjects, return_inverse=True)[1].astype(np.int64)
            is_single = numbers.size == 0 or int(numbers.max()) + 1 == numbers.size
            self._parts.append(_Part(rows, None if is_single else numbers))
            if self._exceed(np.ones(subjects.size), self._parts[-1]):
                raise self._refused(None)

    def demand(self, name: str, values: Vector) -> None:
        """FederatedError NODE_REFUSED where one subject has too much of a column's sums."""
        if self.exceeded_by(values):
            raise self._refused(name)

    def exceeded_by(self, values: Vector) -> bool:
        """Whether one subject has too much of a column's sums; (n,)."""
        for part in self._parts:
            column = held(values, self._table.space, part.chosen)
            there = np.where(np.isfinite(column), column, 0.0)
            largest = float(np.abs(there).max(initial=0.0))
            if largest == 0.0:
                continue
            # Of ratios, so that no square overflows.
            there /= largest
            if self._exceed(np.square(there), part):
                return True
            # Of single rows the share of the squares is the larger one.
            if part.whose is not None and self._exceed(np.abs(there), part):
                return True
            missing = ~np.isfinite(column)
            count = there.size - int(np.count_nonzero(missing))
            there -= float(there.sum()) / count
            there[missing] = 0.0
            if self._exceed(np.square(there), part):
                return True
        return False

    def _exceed(self, amounts: Vector, part: _Part) -> bool:
        if part.whose is not None:
            amounts = np.bincount(part.whose, weights=amounts).astype(np.float64)
        total = float(amounts.sum())
        # What is next to nothing is rounding.
        return total > 1e-20 * amounts.size and float(amounts.max(initial=0.0)) > self._most * total

    def _refused(self, name: str | None) -> FederatedError:
        where = "among the rows" if name is None else f'in column "{name}"'
        log.warning(
            "dataset %s: %s one data subject has more than max_dominance = %g of a sum",
            self._dataset,
            where,
            self._most,
        )
        return FederatedError(
            ErrorCode.NODE_REFUSED,
            f"one data subject has more than max_dominance = {self._most:g} of a sum over dataset"
            f' "{self._dataset}"',
            hint="A sum without noise would be about that one. The node's own log says where. Its DBA may"
            " leave the column out, share a bounded form of it by a view, or raise max_dominance.",
        )
