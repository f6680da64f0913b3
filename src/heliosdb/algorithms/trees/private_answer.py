"""A node's rows as the leaves of drawn trees see them.

What always holds: a target or a value is no reason to raise: what is no class counts as the nearest one, what
is not finite as the mean or as missing; each row's leaves and vector are its own to the last bit.
"""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.columns import private_targets
from heliosdb.algorithms.space import Space
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.trees.grown import LEAF
from heliosdb.algorithms.trees.private_learner import PrivateLearner
from heliosdb.algorithms.trees.private_sums import LeafAdding, Places
from heliosdb.algorithms.trees.private_work import LeavesWork
from heliosdb.algorithms.trees.seen import Seen, see
from heliosdb.algorithms.trees.work import make_learner
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector
from heliosdb.privacy.mechanisms import Integers, Lattice, Secret


class LeafAnswer:
    """What one task's leaves add up to, part by part.

    space: where the table lies of which these are parts. lattice: of the whole answer.
    """

    def __init__(self, work: LeavesWork, scaling: Scaling, space: Space, *, boosts: bool) -> None:
        self._work, self._scaling, self._space = work, scaling, space
        self._learner = PrivateLearner(work.classes, boosts)
        self._scoring = make_learner(work.classes, 0, boosts=boosts)
        size, noise = work.size(boosts=boosts), work.privacy.mechanism.noise_multiplier
        self.lattice = Lattice.of(work.clipping_norm, noise, size)
        self._leaves = work.leaves.size
        cells = self._leaves * (self._learner.channels if self._learner.counts else 1)
        self._adding = LeafAdding(cells, work.trees, work.clipping_norm, self.lattice)

    def steps(self, rows: Table, secret: Secret) -> Integers:
        """Return the sums over the subjects of some rows that are sampled, in lattice steps."""
        model, grouping = self._work.model, group_by_subject(rows.subjects)
        taken = secret.poisson_sample(grouping.subjects, self._work.privacy.mechanism.sampling_rate)
        seen = see(rows, model) if self._space.is_memory else Seen(rows, model, self._space)
        scores = seen.scores(model, self._work.finished, self._scoring)
        target = private_targets(rows.target, self._scaling, self._work.classes)
        return self._adding.total(
            self._learner.rows(target, scores), self._places(seen, target), grouping, taken
        )

    def _places(self, seen: Seen, target: Vector) -> Places:
        """Return in which of all leaves each row ends; where rows are counted, its class is told apart."""
        model = self._work.model
        trees = model.trees.part(self._work.finished, model.trees.count)
        numbers, roots = np.cumsum(trees.feature == LEAF) - 1, trees.roots()
        ways = trees.ways(model.edges.widths, model.categories)
        first = target.astype(np.int64) * self._leaves if self._learner.counts else 0

        def place_of(tree: int) -> Integers:
            leaves: Integers = first + numbers[ways.follow(seen.codes, roots[tree])]
            return leaves

        return place_of
