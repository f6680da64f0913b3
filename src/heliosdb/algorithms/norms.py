"""After a training round: for how many data subjects the gradient is no longer than the clipping norm, which
then follows it (adaptive_clipping; Andrew et al. 2021, "Differentially private learning with adaptive
clipping", algorithm 1).

What always holds: a subject adds +1/2 or -1/2, a bit that is a function of its own rows; so the sum's
sensitivity is 1/2, whatever the clipping norm, and the sum's noise is charged as a release of its own. What
the share of subjects is taken of was fixed before: the run's expected subjects, never a count of this sum.
The next norm is a function of what was released, the same for all nodes; within a round it stays as it was
reserved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, cast

import numpy as np

from heliosdb.algorithms.answers import noised_fault
from heliosdb.algorithms.checks import check_shape, check_target
from heliosdb.algorithms.columns import clamp_parameters
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.private_layered import layered_rows
from heliosdb.algorithms.private_layers import Shape
from heliosdb.algorithms.registry import Supervised, classes_of, supervised
from heliosdb.algorithms.schedule import evaluates
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, one_noise, privacy_of_sum, scaling_of
from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import PrivacyPlan, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.state import State
from heliosdb.domain.task import Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import ClippedSum, Contribution, Vector
from heliosdb.parts.algorithms import last_round
from heliosdb.privacy.mechanisms import Lattice
from heliosdb.privacy.plan import NORM_SENSITIVITY

NORMS = StepName("norms")

TARGET_QUANTILE, RATE = 0.5, 0.2
"""Those of Andrew et al. 2021, section 3: the norm moves towards the median, by at most a tenth (e^0.1) a
round."""


class Layered(Supervised, Protocol):
    """An algorithm whose scores are those of layers."""

    def layers(self, classes: int, inputs: int) -> Shape:
        """Return what its private training is to know of it, in the form that `of` gave it."""
        ...


@dataclass(frozen=True, slots=True)
class _NormsSettings:
    classes: int = within(bounds.CLASSES)
    clipping_norm: float = within(bounds.CLIPPING_NORM)


@dataclass(frozen=True, slots=True)
class NormsWork:
    """How many subjects' gradients, at the task's parameters, are no longer than the clipping norm."""

    algorithm: str
    scaling: Scaling
    noise_multiplier: float
    clipping_norm: float
    classes: int

    @classmethod
    def of(cls, task: Task) -> NormsWork:
        """Read the envelope."""
        given, noise = read_settings(_NormsSettings, task.work.settings, exact=True), one_noise(task.work)
        if noise is None:
            raise invalid_value("norms of gradients are counted under a privacy budget alone")
        return cls(task.work.algorithm, scaling_of(task), noise, given.clipping_norm, given.classes)

    def to_work(self) -> Work:
        """Write the envelope."""
        given = settings_of(_NormsSettings(self.classes, self.clipping_norm))
        return Work(self.algorithm, 1, privacy=privacy_of_sum(self.noise_multiplier), settings=given)

    @property
    def lattice(self) -> Lattice:
        """Of the sum."""
        return Lattice.of(NORM_SENSITIVITY, self.noise_multiplier, 1)


@dataclass(frozen=True, slots=True)
class NormsStep:
    """One count, between a round's training and its evaluation."""

    algorithm: str
    name: StepName = NORMS
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    streams: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the count at the parameters to which the round has led."""
        work = _work(plan)
        return Asked(work.to_work(), work.scaling, state)

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        del work
        deviation = _work(plan).noise_multiplier * NORM_SENSITIVITY
        return noised_fault(update.vector, NORM_SENSITIVITY * bounds.ROWS.most, deviation)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: it counts no rows."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Take the norm to which the next round clips."""
        assert isinstance(gathered, Total)
        made = plan.findings.plan
        assert made is not None
        assert made.clipping_norm is not None
        assert made.expected_subjects is not None
        subjects = made.expected_subjects * gathered.nodes
        norm = next_norm(made.clipping_norm, float(gathered.vector[0]), subjects)
        found = replace(plan.findings, plan=replace(made, clipping_norm=norm))
        return Taken(state, found, following=EVALUATE if evaluates(plan) else None)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work = NormsWork.of(task)
        check_target(work.algorithm, work.classes)
        supervised(work.algorithm).check_state(task.state, task.n_inputs, work.classes)
        check_shape(task.work, 1)
        Lattice.of(NORM_SENSITIVITY, work.noise_multiplier, 1)

    def sensitivity(self, task: Task) -> float:
        """Return the norm of what a subject adds."""
        del task
        return NORM_SENSITIVITY

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the count, less half of the subjects."""
        del memory, draws
        work = NormsWork.of(task)
        method = cast(Layered, supervised(self.algorithm).of(task.state, task.n_inputs))
        shape = method.layers(work.classes, task.n_inputs)
        return count_norms(shape, table, task.state[PARAMETERS], work)


def count_norms(shape: Shape, table: Table, parameters: Vector, work: NormsWork) -> Contribution:
    """Return the sum over the subjects that are not held out of 1/2 where the gradient is no longer than the
    clipping norm, and of -1/2 where it is."""
    rows = table.training()
    held = layered_rows(shape, rows, work.scaling, work.classes, clipping_norm=work.clipping_norm)
    within_norm = held.counts_within(clamp_parameters(parameters.ravel().astype(np.float64)))
    bits = np.where(within_norm, NORM_SENSITIVITY, -NORM_SENSITIVITY)
    guard = ClippedSum(NORM_SENSITIVITY, Mechanism(work.noise_multiplier))
    return Contribution(work.lattice.total(work.lattice.sum_steps(bits[None])), 1.0, guard)


def next_norm(norm: float, total: float, subjects: float) -> float:
    """Return the next clipping norm: times e^(-rate (share - target)), within the bounds of one.

    total: the released sum of ±1/2. subjects: of how many it is expected to be.
    """
    share = min(1.0, max(0.0, 0.5 + total / subjects))
    return bounds.CLIPPING_NORM.clamp(norm * math.exp(-RATE * (share - TARGET_QUANTILE)))


def adapts(plan: RunPlan) -> bool:
    """Whether the plan's round finds the clipping norm of another one."""
    made = plan.findings.plan
    return (
        made is not None and made.clipping_noise is not None and 0 < plan.round < last_round(plan.run.options)
    )


def clipping_norm_of(plan: RunPlan, made: PrivacyPlan) -> float:
    """Return the norm to which the plan's round clips."""
    return plan.run.policy.clipping_threshold if made.clipping_norm is None else made.clipping_norm


def _work(plan: RunPlan) -> NormsWork:
    made, scaling = plan.findings.plan, plan.findings.scaling
    assert made is not None
    assert made.clipping_noise is not None
    assert scaling is not None
    return NormsWork(
        plan.run.options.algorithm,
        scaling,
        made.clipping_noise,
        clipping_norm_of(plan, made),
        len(classes_of(plan)),
    )
