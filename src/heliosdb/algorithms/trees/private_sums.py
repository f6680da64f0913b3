"""A node's sums over leaves under a privacy budget: every subject bounded over all leaves of all trees asked.

What always holds: what a subject adds is a vector of whole lattice steps that is a function of its own rows,
the task and whether it was sampled, to the last bit, and no longer than the clipping norm but for the
rounding that privacy/mechanisms.py allows for: whatever its rows hold, however many there are, whatever
trees the task brings. A row ends in one leaf of each of B trees, and adds its vector over sqrt(B) to each.
One tree is looked at at a time, so that what it takes in memory follows the rows and not the task.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Grouping, Mask
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import column_norms
from heliosdb.privacy.mechanisms import Integers, Lattice

_AT_ONCE = 1 << 20
"""Rows whose steps (below 2^32) doubles add exactly."""

_FINE = 2.0**20
"""Of the bound, in whole numbers whose squares are added exactly: of 2,000,000 sums less than 2^61."""

Places = Callable[[int], Integers]
"""In which cell of all each row ends, by the number of a tree; (n,)."""


@dataclass(frozen=True, slots=True)
class LeafAdding:
    """cells: of all trees asked. trees: how many these are. bound: the clipping norm, in the units of
    `Lattice`."""

    cells: int
    trees: int
    bound: float
    lattice: Lattice

    def total(self, rows: Matrix, places: Places, grouping: Grouping, taken: Mask) -> Integers:
        """Sum over the subjects that are `taken`, (s,), in lattice steps; (channels x cells,).

        rows: what each adds to its cells, (channels, n), no longer than 1.
        """
        steps, owner = self._row_steps(rows), _owners(grouping)
        total = np.zeros((len(rows), self.cells), dtype=np.int64)
        is_several = (grouping.sizes > 1)[owner]
        alone = np.flatnonzero(taken[owner] & ~is_several)
        several = np.flatnonzero(taken[owner] & is_several)
        for tree in range(self.trees) if alone.size else ():
            self._add_alone(total, steps, places(tree), alone)
        if several.size:
            self._add_several(total, steps, places, (several, owner[several], grouping.subjects))
        return total.ravel()

    def _row_steps(self, rows: Matrix) -> Integers:
        """Return a row's steps in each of its cells, all trees together no longer than the bound."""
        kept = np.minimum(1.0, self.bound / np.maximum(column_norms(rows), 1e-300))
        return np.rint(rows * (kept / math.sqrt(self.trees)) / self.lattice.step).astype(np.int64)

    def _add_alone(self, total: Integers, steps: Integers, place: Integers, alone: Integers) -> None:
        """Add the rows of subjects that have one."""
        for start in range(0, alone.size, _AT_ONCE):
            chosen = alone[start : start + _AT_ONCE]
            for channel, own in enumerate(steps):
                added = np.bincount(place[chosen], own[chosen].astype(np.float64), self.cells)
                total[channel] += added.astype(np.int64)

    def _add_several(
        self, total: Integers, steps: Integers, places: Places, whose: tuple[Integers, Integers, int]
    ) -> None:
        """Add the subjects that have several rows. whose: their rows, the subject of each, all subjects."""
        rows, owner, subjects = whose
        squares = np.zeros(subjects, dtype=np.int64)
        bound = self.bound / self.lattice.step
        for tree in range(self.trees):
            subject, _, sums = self._in_cells(steps[:, rows], places(tree)[rows], owner)
            # Rounded up: what is not longer by these is not longer.
            units = np.ceil(np.abs(sums) * (_FINE / bound)).astype(np.int64)
            np.add.at(squares, subject, (units * units).sum(axis=0))
        factors: Vector = np.minimum(1.0, _FINE / np.sqrt(np.maximum(squares, 1)))
        for tree in range(self.trees):
            subject, cell, sums = self._in_cells(steps[:, rows], places(tree)[rows], owner)
            for channel, own in enumerate(np.rint(sums * factors[subject]).astype(np.int64)):
                np.add.at(total[channel], cell, own)

    def _in_cells(
        self, steps: Integers, place: Integers, owner: Integers
    ) -> tuple[Integers, Integers, NDArray[np.int64]]:
        """Sum each subject's rows in each cell of one tree: whose, which, and the sums, cut to the bound,
        (channels, groups)."""
        key = owner * self.cells + place
        order = np.argsort(key, kind="stable")
        ranked, most = key[order], math.ceil(self.bound / self.lattice.step)
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        sums = np.add.reduceat(steps[:, order], starts, axis=1)
        first = ranked[starts]
        return first // self.cells, first % self.cells, np.minimum(np.maximum(sums, -most), most)


def _owners(grouping: Grouping) -> Integers:
    """Return the number of each row's subject, (n,)."""
    ranked = np.repeat(np.arange(grouping.subjects), grouping.sizes)
    if grouping.order is None:
        return ranked
    owner = np.empty(ranked.size, dtype=np.int64)
    owner[grouping.order] = ranked
    return owner
