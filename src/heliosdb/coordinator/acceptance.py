"""What an update must keep to before it counts, so that no single participant owns the model.

What always holds: how much an update counts follows from what is public or was committed before it came (the
task under a budget, else the rows that its node stated in round 0), never from its own word; how far it can
move the model is bounded by its norm; and every rejection has a reason that is recorded. All of it is a pure
function of committed rows, the same in every life of a coordinator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heliosdb.aggregation import Update, check_norm, norm
from heliosdb.algorithms.answers import evaluation_fault, statistics_fault
from heliosdb.algorithms.features import private_noise
from heliosdb.coordinator import planning
from heliosdb.coordinator.planning import Findings
from heliosdb.domain import bounds
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Run
from heliosdb.domain.task import EvaluateWork, PrivateTraining, StatisticsWork, Step, TrainWork, Work
from heliosdb.domain.vector import Vector

_TAIL = 10.0
"""Standard deviations that chance exceeds less than once in 10²¹ times."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the updates of one exchange must keep to.

    columns: features, then target. stated: by node its weight in round 0; empty before that is closed.
    largest_norm: of a training update.
    """

    work: Work
    columns: tuple[str, ...]
    stated: Mapping[NodeName, float]
    largest_norm: float

    def check(self, update: Update) -> None:
        """Raise FederatedError UPDATE_REJECTED with the reason, for an update that passed `check_update`."""
        fault = self._fault(update)
        if fault is not None:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, fault)
        if isinstance(self.work, TrainWork):
            check_norm(update, self.largest_norm)

    def _fault(self, update: Update) -> str | None:
        public = _public_weight(self.work)
        if public is not None and update.weight != public:
            return f"its weight {update.weight:g} is not the {public:g} that its task says"
        match self.work:
            case StatisticsWork() as work:
                return statistics_fault(update.vector, update.weight, work, self.columns)
            case EvaluateWork() as work:
                fault = evaluation_fault(update.vector, update.weight, work)
                return fault or (self._weight_fault(update) if public is None else None)
            case TrainWork():
                return self._weight_fault(update) if public is None else None

    def _weight_fault(self, update: Update) -> str | None:
        stated = self.stated.get(update.node, 0.0)
        if update.weight > stated:
            return f"its weight {update.weight:g} is more than the {stated:g} rows that it stated in round 0"
        return None if update.weight.is_integer() else f"its weight {update.weight:g} is no number of rows"


def make_acceptance(
    run: Run, findings: Findings, step: Step, size: int, stated: Mapping[NodeName, float]
) -> Acceptance:
    """Return what the updates of a step must keep to. size: values of an update."""
    work = planning.make_work(run, findings, step)
    columns = (*run.options.features, run.options.target)
    return Acceptance(work, columns, stated, _largest_norm(run, findings, work, size, len(stated)))


def check_combined(number: int, combined: Vector, updates: Sequence[Update]) -> None:
    """Raise FederatedError INVALID_VALUE, naming the largest update, where no task may carry the result."""
    within = bounds.PARAMETER
    if np.all((combined >= within.least) & (combined <= within.most)):
        return
    largest = max(updates, key=lambda update: (norm(update.vector), update.node))
    raise invalid_value(
        f"training diverged in round {number}: the largest update is node {largest.node}'s"
        f" (norm {norm(largest.vector):.3g})"
    )


def _public_weight(work: Work) -> float | None:
    """Return the weight that follows from a private task; None for a plain one."""
    if isinstance(work, TrainWork):
        return None if work.privacy is None else work.privacy.expected_subjects
    return None if work.noise_multiplier is None else 1.0


def _largest_norm(run: Run, findings: Findings, work: Work, size: int, nodes: int) -> float:
    """Return max_update_norm, else what no honest training meets.

    Inputs are scaled, so plain training that has not diverged stays orders of magnitude below UPDATE_NORM.
    Private training is moved by noise too, and may honestly go further: see `private_reach`.
    """
    given = run.options.max_update_norm
    if given is not None:
        return given
    if not isinstance(work, TrainWork) or work.privacy is None:
        return bounds.UPDATE_NORM
    counted = planning.statistics_work(run, findings)
    whole = nodes * work.privacy.expected_subjects / (1.0 - run.options.validation_split)
    whole += _TAIL * private_noise(len(run.options.features), counted, max(1, nodes))
    return bounds.UPDATE_NORM + private_reach(work.privacy, work.learning_rate, size, whole)


def private_reach(privacy: PrivateTraining, learning_rate: float, size: int, subjects: float) -> float:
    """Return an L2 norm that a DP-SGD update of `size` values at a node of at most `subjects` never meets.

    The update is the sum over T steps of learning_rate / (q N) x (clipped gradients + noise).

    No clipped gradient is longer than C, so all together are no longer than C times the subjects sampled,
    which are binomial with mean m = q T subjects: by Bernstein's inequality more than m + 10 √m + 100 with
    probability below e⁻⁵⁰. The noise of T steps is Gaussian, its deviation at most 2 σ C √T a value (the
    lattice's slack at most doubles it): longer than 2 σ C √T (√size + 10) with probability below e⁻⁵⁰
    (Laurent and Massart 2000, lemma 1). N is the nodes' mean, so that a node with all subjects of the
    federation reaches further than the others: hence `subjects` is the federation's count, its own noise on
    top.
    """
    sampled = privacy.sampling_rate * privacy.steps * subjects
    clipped = sampled + _TAIL * math.sqrt(sampled) + _TAIL**2
    noise = 2.0 * privacy.noise_multiplier * math.sqrt(privacy.steps) * (math.sqrt(size) + _TAIL)
    denominator = privacy.sampling_rate * privacy.expected_subjects
    return learning_rate * privacy.clipping_norm / denominator * (clipped + noise)
