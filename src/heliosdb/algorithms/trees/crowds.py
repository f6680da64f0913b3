"""What a node's sums without noise may be about: crowds of data subjects, never fewer than its min_rows.

What always holds: every sum that `Crowds` lets pass is over no data subject at all or over at least `least`
of them, and so is the difference between all of a tree node's rows and all of a child's. Not so that between
bins: a tree node's bin less the same bin of one child is what the other has there, be it little. With `least`
1 every sum passes as it is.

Each subject is counted by one row of its own, the first, so that a crowd of so many counted rows has as many
subjects. Where a tree's split leaves fewer than `least` on one side, and anybody there, neither side is
answered, nor anything below it: the one less the other would be about these few. Bins with fewer than `least`
are counted with those above them, until they are enough; the rest, and what is missing where that is too few,
with the last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.domain.vector import Vector

Flags = NDArray[np.bool_]
Padded = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Crowds:
    """firsts: 1 for the first row of each subject, else 0, (n,). least: subjects of a sum."""

    firsts: Vector
    least: int

    @classmethod
    def of(cls, rows: Table) -> Crowds:
        """Of a table's rows, and of what its node allows."""
        firsts = np.zeros(rows.rows)
        firsts[np.unique(rows.subjects, return_index=True)[1]] = 1.0
        return cls(firsts, rows.min_rows)

    def answered(self, trees: Trees, places: NDArray[np.int64], drawn: Flags) -> Flags:
        """Return which nodes of one tree may be answered; places: where each row ended, (n,)."""
        counts = np.bincount(places, self.firsts * drawn, trees.size)
        # A subject's further rows may lie, or be drawn, where its first one is not: there is somebody, too.
        rows = np.bincount(places, drawn, trees.size)
        ways, level = [], trees.roots()
        while level.size:
            ways.append(level)
            level = trees.children(level)
        for nodes in reversed(ways):
            inner = nodes[trees.feature[nodes] >= 0]
            left = trees.left[inner]
            counts[inner] = counts[left] + counts[left + 1]
            rows[inner] = rows[left] + rows[left + 1]
        allowed = counts >= self.least
        for nodes in ways:
            inner = nodes[trees.feature[nodes] >= 0]
            left = trees.left[inner].astype(np.int64)
            few = [(rows[side] > 0) & ~(counts[side] >= self.least) for side in (left, left + 1)]
            passes = allowed[inner] & ~few[0] & ~few[1]
            for side in (left, left + 1):
                allowed[side] &= passes
        return allowed

    def joined(self, sums: Padded, subjects: NDArray[np.float64]) -> Padded:
        """Return the sums of bins with the small ones joined to others; (channels, …, bins), (…, bins), of
        which the last bin is that of missing values."""
        if self.least <= 1:
            return sums
        out, last = np.zeros_like(sums), np.full(subjects.shape[:-1], -1)
        pending, waiting = np.zeros(sums.shape[:-1]), np.zeros(subjects.shape[:-1])
        for place in range(subjects.shape[-1] - 1):
            pending += sums[..., place]
            waiting += subjects[..., place]
            enough = waiting >= self.least
            out[..., place] = np.where(enough, pending, 0.0)
            last[enough] = place
            pending[:, enough], waiting[enough] = 0.0, 0.0
        alone = last < 0
        missing, absent = sums[..., -1].copy(), subjects[..., -1].copy()
        missing[:, alone] += pending[:, alone]
        absent[alone] += waiting[alone]
        pending[:, alone] = 0.0
        enough = absent >= self.least
        out[..., -1] = np.where(enough, missing, 0.0)
        pending += np.where(enough | alone, 0.0, missing)
        self._add_at(out, last, pending)
        return out

    @staticmethod
    def _add_at(out: Padded, last: NDArray[np.int64], pending: Padded) -> None:
        there = np.flatnonzero(last.ravel() >= 0)
        flat = out.reshape(out.shape[0], -1, out.shape[-1])
        flat[:, there, last.ravel()[there]] += pending.reshape(out.shape[0], -1)[:, there]
