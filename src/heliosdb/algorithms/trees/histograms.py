"""A node's sums over the rows of open tree nodes.

What always holds: rows that are held out have no part in them; what a row adds depends on that row and the
task alone; sums pass only as `Crowds` lets them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.crowds import Crowds
from heliosdb.algorithms.trees.drawing import draws_of
from heliosdb.algorithms.trees.leaves import BoostingLearner
from heliosdb.algorithms.trees.seen import see
from heliosdb.algorithms.trees.work import AnyLearner, GrowingWork
from heliosdb.domain.vector import Vector

Padded = NDArray[np.float64]


def histograms(rows: Table, target: Vector, work: GrowingWork, seed: int, *, boosts: bool) -> Vector:
    """Return the sums, as `Layout` has them. rows: those that are trained on. target: theirs, scaled."""
    learner = work.learner(boosts=boosts)
    adding = _Adding(work, learner, rows, target, seed)
    for tree in np.unique(work.model.trees.tree[work.asked]):
        adding.add(int(tree))
    return adding.layout.flat(adding.out)


class _Adding:
    """The sums that one answer is made of, one tree after the other."""

    def __init__(
        self, work: GrowingWork, learner: AnyLearner, rows: Table, target: Vector, seed: int
    ) -> None:
        self._work, self._learner, self._seed = work, learner, seed
        self._seen = seen = see(rows, work.model)
        self._target, self._crowds = target, Crowds.of(rows)
        self._scores = seen.scores(work.model, work.finished, learner)
        self._draws_rows = not isinstance(learner, BoostingLearner) or work.subsample < 1.0
        self.layout = work.layout_of(learner)
        self.out: Padded = np.zeros((self.layout.channels, *work.candidates.shape, self.layout.widest))

    def add(self, tree: int) -> None:
        """Add those of the asked nodes of one tree."""
        trees, edges = self._work.model.trees, self._work.model.edges
        draws = self._draws(tree)
        part = trees.part(tree, tree + 1)
        places = part.ways(edges.widths, self._work.model.categories).follow(self._seen.codes, 0)
        allowed = self._crowds.answered(part, places, draws > 0)
        chosen = _number(np.flatnonzero(trees.tree == tree), self._work.asked, allowed)[places]
        there = np.flatnonzero((chosen >= 0) & (draws > 0))
        self._add(chosen[there], there, self._learner.row_sums(self._target, draws, self._scores, tree))

    def _draws(self, tree: int) -> Vector:
        learner = self._learner
        if not self._draws_rows:
            return np.ones(self._target.size)
        if isinstance(learner, BoostingLearner):
            # The trees of several classes are grown from the same rows.
            return draws_of(self._seen.hashes(), self._seed, tree // learner.scores, self._work.subsample)
        return draws_of(self._seen.hashes(), self._seed, tree, self._work.subsample, weighted=True)

    def _add(self, chosen: NDArray[np.int64], there: NDArray[np.int64], sums: Padded) -> None:
        """Add the rows `there`; chosen: which of the asked nodes each is in, (there,)."""
        layout, crowds, widest = self.layout, self._crowds, self.layout.widest
        own, asked = np.unique(chosen), layout.candidates.shape[0]
        for place in range(layout.candidates.shape[1]):
            feature = layout.candidates[chosen, place]
            code = self._seen.codes[feature, there].astype(np.int64)
            cells = chosen * widest + np.where(code == layout.widths[feature] - 1, widest - 1, code)
            added = [
                np.bincount(cells, one[there], asked * widest).reshape(asked, widest)[own]
                for one in (*sums, crowds.firsts)
            ]
            *found, subjects = np.array(added, dtype=np.float64)
            self.out[:, own, place] += crowds.joined(np.array(found), subjects)


def _number(nodes: NDArray[Any], asked: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which of the asked nodes each of a tree's nodes is; -1: none, or one that is not answered."""
    place = np.minimum(np.searchsorted(asked, nodes), asked.size - 1)
    return np.where((asked[place] == nodes) & allowed, place, -1)
