"""A node's sums over the rows of open tree nodes.

What always holds: rows that are held out have no part in them; what a row adds depends on that row and the
task alone; sums pass only as `Crowds` lets them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.bins import codes_of
from heliosdb.algorithms.trees.crowds import Crowds
from heliosdb.algorithms.trees.drawing import Hashes, draws_of, row_hashes
from heliosdb.algorithms.trees.leaves import BoostingLearner
from heliosdb.algorithms.trees.work import AnyLearner, GrowingWork, Model
from heliosdb.domain.vector import Matrix, Vector

Padded = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """A node's rows as trees see them. codes: bins, (inputs, n). target: (n,), scaled where it is a number.
    hashes: (n,), where some are drawn."""

    codes: NDArray[Any]
    target: Vector
    hashes: Hashes | None
    crowds: Crowds


def histograms(rows: Table, target: Vector, work: GrowingWork, seed: int, *, boosts: bool) -> Vector:
    """Return the sums, as `Layout` has them. rows: those that are trained on. target: theirs, scaled."""
    draws = not boosts or work.subsample < 1.0
    hashes = row_hashes(rows.features, rows.target) if draws else None
    seen = Rows(codes_of(rows.features, work.model.edges), target, hashes, Crowds.of(rows))
    learner = work.learner(boosts=boosts)
    scores = scores_of(seen.codes, work.model, work.finished, learner)
    adding = _Adding(work, learner, seen, scores, seed)
    for tree in np.unique(work.model.trees.tree[work.asked]):
        adding.add(int(tree))
    return adding.layout.flat(adding.out)


def scores_of(codes: NDArray[Any], model: Model, finished: int, learner: AnyLearner) -> Matrix:
    """Return the scores of boosting's first trees, (n, scores); of a forest nothing, (n, 0)."""
    scores = np.repeat(model.base[None], codes.shape[1], axis=0)
    if not isinstance(learner, BoostingLearner) or not finished:
        return scores
    done = model.trees.part(0, finished)
    ways = done.ways(model.edges.widths, model.categories)
    # One tree after the other: a row's score is the same sum, in the same order, wherever it is taken.
    for tree, root in enumerate(done.roots()):
        scores[:, tree % learner.scores] += done.values[ways.follow(codes, root), 0]
    return scores


class _Adding:
    """The sums that one answer is made of, one tree after the other."""

    def __init__(self, work: GrowingWork, learner: AnyLearner, rows: Rows, scores: Matrix, seed: int) -> None:
        self._work, self._learner = work, learner
        self._rows, self._scores, self._seed = rows, scores, seed
        self.layout = work.layout_of(learner)
        self.out: Padded = np.zeros((self.layout.channels, *work.candidates.shape, self.layout.widest))

    def add(self, tree: int) -> None:
        """Add those of the asked nodes of one tree."""
        trees, edges, rows = self._work.model.trees, self._work.model.edges, self._rows
        draws = self._draws(tree)
        part = trees.part(tree, tree + 1)
        places = part.ways(edges.widths, self._work.model.categories).follow(rows.codes, 0)
        allowed = rows.crowds.answered(part, places, draws > 0)
        chosen = _number(np.flatnonzero(trees.tree == tree), self._work.asked, allowed)[places]
        there = np.flatnonzero((chosen >= 0) & (draws > 0))
        self._add(chosen[there], there, self._learner.row_sums(rows.target, draws, self._scores, tree))

    def _draws(self, tree: int) -> Vector:
        rows, learner = self._rows, self._learner
        if rows.hashes is None:
            return np.ones(rows.target.size)
        if isinstance(learner, BoostingLearner):
            # The trees of several classes are grown from the same rows.
            return draws_of(rows.hashes, self._seed, tree // learner.scores, self._work.subsample)
        return draws_of(rows.hashes, self._seed, tree, self._work.subsample, repeated=True)

    def _add(self, chosen: NDArray[np.int64], there: NDArray[np.int64], sums: Padded) -> None:
        """Add the rows `there`; chosen: which of the asked nodes each is in, (there,)."""
        layout, rows, widest = self.layout, self._rows, self.layout.widest
        own, asked = np.unique(chosen), layout.candidates.shape[0]
        for place in range(layout.candidates.shape[1]):
            feature = layout.candidates[chosen, place]
            code = rows.codes[feature, there]
            cells = chosen * widest + np.where(code == layout.widths[feature] - 1, widest - 1, code)
            added = [
                np.bincount(cells, one[there], asked * widest).reshape(asked, widest)[own]
                for one in (*sums, rows.crowds.firsts)
            ]
            *found, subjects = np.array(added, dtype=np.float64)
            self.out[:, own, place] += rows.crowds.joined(np.array(found), subjects)


def _number(nodes: NDArray[Any], asked: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which of the asked nodes each of a tree's nodes is; -1: none, or one that is not answered."""
    place = np.minimum(np.searchsorted(asked, nodes), asked.size - 1)
    return np.where((asked[place] == nodes) & allowed, place, -1)
