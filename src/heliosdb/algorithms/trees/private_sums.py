"""A node's sums over leaves under a privacy budget: every subject bounded over all leaves of all trees asked.

What always holds: what a subject adds is a vector of whole lattice steps that is a function of its own rows,
the task and whether it was sampled, to the last bit, and no longer than the clipping norm but for the
rounding that privacy/mechanisms.py allows for: whatever its rows hold, however many there are, whatever
trees the task brings. A row ends in one leaf of each of B trees, and adds its vector over sqrt(B) to each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Grouping, Mask
from heliosdb.domain.vector import Matrix
from heliosdb.privacy.clipping import column_norms
from heliosdb.privacy.mechanisms import Integers, Lattice

_AT_ONCE = 1 << 20
"""Rows whose steps (below 2^32) doubles add exactly."""

_FINE = 2.0**20
"""Of the bound, in whole numbers whose squares are added exactly: of 2,000,000 sums less than 2^61."""


@dataclass(frozen=True, slots=True)
class LeafAdding:
    """leaves: how many there are in all trees asked. bound: the clipping norm, in the units of `Lattice`."""

    leaves: int
    trees: int
    bound: float
    lattice: Lattice

    def total(self, rows: Matrix, places: list[Integers], grouping: Grouping, taken: Mask) -> Integers:
        """Sum over the subjects that are `taken`, (s,), in lattice steps; (channels x leaves,).

        rows: what each adds, (channels, n), no longer than 1. places: for each tree, in which of all leaves
        each row ends, (n,).
        """
        steps = self._row_steps(rows)
        total = np.zeros((len(rows), self.leaves), dtype=np.int64)
        if grouping.order is None:
            alone, several = np.flatnonzero(taken), np.empty(0, dtype=np.int64)
            subject = alone
        else:
            ranked = np.repeat(np.arange(grouping.subjects), grouping.sizes)
            subject = np.empty(ranked.size, dtype=np.int64)
            subject[grouping.order] = ranked
            is_several = (grouping.sizes > 1)[subject]
            alone = np.flatnonzero(taken[subject] & ~is_several)
            several = np.flatnonzero(taken[subject] & is_several)
        self._add_alone(total, steps, places, alone)
        if several.size:
            self._add_several(total, steps, places, (several, subject[several], grouping.subjects))
        return total.ravel()

    def _row_steps(self, rows: Matrix) -> Integers:
        """Return a row's steps in each of its leaves, all trees together no longer than the bound."""
        norms = column_norms(rows)
        scaled = rows * (np.minimum(1.0, self.bound / np.maximum(norms, 1e-300)) / math.sqrt(self.trees))
        return np.rint(scaled / self.lattice.step).astype(np.int64)

    def _add_alone(self, total: Integers, steps: Integers, places: list[Integers], alone: Integers) -> None:
        """Add the rows of subjects that have one."""
        for start in range(0, alone.size, _AT_ONCE):
            chosen = alone[start : start + _AT_ONCE]
            for place in places:
                for channel, own in enumerate(steps):
                    added = np.bincount(place[chosen], own[chosen].astype(np.float64), self.leaves)
                    total[channel] += added.astype(np.int64)

    def _add_several(
        self,
        total: Integers,
        steps: Integers,
        places: list[Integers],
        whose: tuple[Integers, Integers, int],
    ) -> None:
        """Add the subjects that have several rows. whose: their rows, the subject of each, all subjects."""
        rows, subject, subjects = whose
        found = [self._in_leaves(steps[:, rows], place[rows], subject) for place in places]
        bound, squares = self.bound / self.lattice.step, np.zeros(subjects, dtype=np.int64)
        for owner, _, sums in found:
            # Rounded up: what is not longer by these is not longer.
            units = np.ceil(np.minimum(np.abs(sums), math.ceil(bound)) * (_FINE / bound)).astype(np.int64)
            np.add.at(squares, owner, (units * units).sum(axis=0))
        factors = np.minimum(1.0, _FINE / np.sqrt(np.maximum(squares, 1)))
        for owner, leaf, sums in found:
            kept = np.minimum(np.maximum(sums, -math.ceil(bound)), math.ceil(bound)) * factors[owner]
            for channel, own in enumerate(np.rint(kept).astype(np.int64)):
                np.add.at(total[channel], leaf, own)

    def _in_leaves(
        self, steps: Integers, place: Integers, subject: Integers
    ) -> tuple[Integers, Integers, Integers]:
        """Sum each subject's rows in each leaf of one tree: whose, which, the sums, (channels, groups)."""
        key = subject * self.leaves + place
        order = np.argsort(key, kind="stable")
        ranked = key[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        sums: NDArray[np.int64] = np.add.reduceat(steps[:, order], starts, axis=1)
        first = ranked[starts]
        return first // self.leaves, first % self.leaves, sums
