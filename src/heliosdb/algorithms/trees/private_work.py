"""What sums over leaves under a privacy budget read of a task, and what a budget is divided by.

What always holds: what `of` returns is within its bounds and fits the task's inputs, and any table computes
it without an error; anything else raises FederatedError INVALID_VALUE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.sum_noise import noise_variance
from heliosdb.algorithms.trees.grown import LEAF
from heliosdb.algorithms.trees.private_learner import PrivateLearner
from heliosdb.algorithms.trees.work import (
    MOST_VALUES,
    Model,
    check_scaling,
    check_shape,
    levels_of,
    make_learner,
)
from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import PrivacyPlan, RunPlan
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import outside, read_settings, settings_of, within
from heliosdb.domain.task import Privacy, Task, Work
from heliosdb.parts.algorithms import ALGORITHMS, TreeSettings
from heliosdb.privacy.mechanisms import Lattice

Numbers = NDArray[np.int64]

_MOST_AT_ONCE = 2**18
"""Sums of an exchange that a run asks for."""

_ROWS_TO_NOISE = 4.0
"""A leaf is meant to hold so many rows for one of the noise's deviation."""

_LEAST_DEPTH = 3
"""Trees are so deep, where they may be, however few rows there are: noisy leaves are shrunk."""


@dataclass(frozen=True, slots=True)
class _LeavesSettings:
    classes: int = within(bounds.CLASSES)
    finished: int = within(bounds.Bounds(0, 2**31 - 1))
    clipping_norm: float = within(bounds.CLIPPING_NORM)


@dataclass(frozen=True, slots=True)
class LeavesWork:
    """Sums over the leaves of a model's last trees.

    finished: how many trees are; of boosting these score rows. privacy: noise, sampling and, as weight, the
    expected number of subjects. model: with the new trees, which are whole.
    """

    algorithm: str
    classes: int
    finished: int
    clipping_norm: float
    privacy: Privacy
    model: Model

    @classmethod
    def of(cls, task: Task, *, boosts: bool) -> LeavesWork:
        """Read a task."""
        given = read_settings(_LeavesSettings, task.work.settings, exact=True)
        privacy = task.work.privacy
        if privacy is None:
            raise invalid_value("sums over leaves are asked for under a privacy budget alone")
        _check_privacy(privacy)
        check_scaling(task)
        learner = make_learner(given.classes, 0, boosts=boosts)
        if boosts and given.classes > 2:
            raise invalid_value("boosting under a privacy budget is of two classes, or of a number")
        model = Model.of(task.state, levels_of(task.encoding, task.n_inputs), learner)
        if set(task.state) != model.names() or np.any(model.trees.feature < LEAF):
            raise invalid_value("the task's trees are not whole")
        if given.finished >= model.trees.count:
            raise invalid_value("the task asks for the leaves of no tree")
        return cls(task.work.algorithm, given.classes, given.finished, given.clipping_norm, privacy, model)

    def check(self, task: Task, *, boosts: bool) -> None:
        """Raise FederatedError for an answer of another size, or for more noise than the lattice takes."""
        size = self.size(boosts=boosts)
        if size > MOST_VALUES:
            raise invalid_value("the task asks for more sums than an exchange has")
        check_shape(task.work, size)
        Lattice.of(self.clipping_norm, self.privacy.mechanism.noise_multiplier, size)

    @property
    def trees(self) -> int:
        """How many trees have leaves that are asked for."""
        return self.model.trees.count - self.finished

    @property
    def leaves(self) -> Numbers:
        """The nodes that are asked for, (leaves,)."""
        trees = self.model.trees
        return np.flatnonzero((trees.feature == LEAF) & (trees.tree >= self.finished))

    def size(self, *, boosts: bool) -> int:
        """How many values an answer has: (channels, leaves)."""
        return PrivateLearner(self.classes, boosts).channels * self.leaves.size

    def to_work(self, *, boosts: bool) -> Work:
        """Write the envelope."""
        given = _LeavesSettings(self.classes, self.finished, self.clipping_norm)
        size = self.size(boosts=boosts)
        return Work(self.algorithm, size, privacy=self.privacy, settings=settings_of(given))


def _check_privacy(privacy: Privacy) -> None:
    mechanism = privacy.mechanism
    for name, number, allowed in (
        ("noise_multiplier", mechanism.noise_multiplier, bounds.NOISE_MULTIPLIER),
        ("sampling_rate", mechanism.sampling_rate, bounds.SAMPLING_RATE),
        ("expected_subjects", privacy.weight, bounds.EXPECTED_SUBJECTS),
    ):
        if not allowed.hold(number):
            raise outside(name, number, allowed)
    if mechanism.steps != 1:
        raise invalid_value("sums over leaves are released once")


def settings_of_trees(plan: RunPlan) -> TreeSettings:
    """Return the options of a run of trees."""
    kind: type[TreeSettings] = ALGORITHMS.entry(plan.run.options.algorithm).settings
    return plan.run.options.settings(kind)


def trees_of_round(plan: RunPlan) -> int:
    """Return how many trees the plan's round grows; of round 0 as many as the first grows."""
    settings, rounds, number = settings_of_trees(plan), plan.run.options.rounds, max(1, plan.round)
    return settings.grown(number, rounds) - settings.grown(number - 1, rounds)


def privacy_of(made: PrivacyPlan) -> Privacy:
    """Return what one release costs, and whom it is over."""
    assert made.training_noise is not None
    assert made.sampling_rate is not None
    assert made.expected_subjects is not None
    return Privacy(Mechanism(made.training_noise, made.sampling_rate), made.expected_subjects)


def rows_to_noise(plan: RunPlan, nodes: int) -> float:
    """Return how many subjects a tree of the plan's round has for one of its leaves' noise's deviation."""
    made = plan.findings.plan
    assert made is not None
    privacy = privacy_of(made)
    subjects = nodes * privacy.weight * privacy.mechanism.sampling_rate
    noise = privacy.mechanism.noise_multiplier * math.sqrt(
        noise_variance(plan.run, nodes) * max(1, trees_of_round(plan))
    )
    return subjects / (noise * max(1.0, plan.run.policy.clipping_threshold))


def depth_of(plan: RunPlan, nodes: int) -> int:
    """Return how deep the trees of the plan's round are: max_depth at most, and no deeper than leaves hold
    rows enough beside their noise. Of released numbers alone."""
    settings, classes = settings_of_trees(plan), len(classes_of(plan))
    each = max(2, classes) * max(1, trees_of_round(plan))
    room = max(1, int(math.log2(_MOST_AT_ONCE / each))) if each < _MOST_AT_ONCE else 1
    held = int(math.log2(max(1.0, rows_to_noise(plan, nodes) / _ROWS_TO_NOISE)))
    return min(settings.max_depth, room, max(_LEAST_DEPTH, held))
