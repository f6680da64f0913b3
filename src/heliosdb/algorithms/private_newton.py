"""Newton steps under a privacy budget: each subject's gradient and Hessian are bounded together, and noised.

What always holds: every subject takes part once in every exchange, and what it adds is no longer than the
clipping norm; nodes tell no rows and no loss, and no denominator is counted (a Newton step needs none). How
many rounds there are is settled before the first (parts/algorithms.py); a run may end sooner, by what was
released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.answers import noised_fault
from heliosdb.algorithms.bounded_curvature import CurvatureLayout, Reach, Shares
from heliosdb.algorithms.bounded_sums import sum_bounded
from heliosdb.algorithms.checks import check_shape
from heliosdb.algorithms.columns import scale_columns
from heliosdb.algorithms.families import Family, sigmoid
from heliosdb.algorithms.noisy_newton import FURTHEST_SCORE, NoisySums, take_step
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import one_noise
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.events import Ended
from heliosdb.domain.findings import PrivacyPlan, RunPlan
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.task import Privacy, Scaling, Task, Work
from heliosdb.domain.update import Total
from heliosdb.domain.vector import ClippedSum, Contribution, Matrix, Vector
from heliosdb.privacy.clipping import fold
from heliosdb.privacy.mechanisms import Lattice

FURTHEST_TARGET = 2.5
"""In standard deviations of the target, as round 0 found them, from its mean: beyond it counts as this."""

ONE_ROUND = "the sums of a linear regression do not depend on the parameters, so one round tells all"


@dataclass(frozen=True, slots=True)
class _Settings:
    classes: int = within(bounds.CLASSES)
    clipping_norm: float = within(bounds.CLIPPING_NORM)


@dataclass(frozen=True, slots=True)
class NoisyWork:
    """What a private exchange of derivatives asks: the noise, and to what a subject is clipped."""

    noise_multiplier: float
    clipping_norm: float
    classes: int

    @classmethod
    def of(cls, work: Work) -> NoisyWork:
        """Read the envelope of a private task."""
        given, noise = read_settings(_Settings, work.settings, exact=True), one_noise(work)
        assert noise is not None
        return cls(noise, given.clipping_norm, given.classes)

    @classmethod
    def planned(cls, plan: RunPlan) -> NoisyWork:
        """What the plan's round asks."""
        noise, norm = training_noise(plan.findings.plan), plan.run.policy.clipping_threshold
        return cls(noise, norm, len(classes_of(plan)))

    def to_work(self, algorithm: str, size: int) -> Work:
        """Write the envelope."""
        settings = settings_of(_Settings(self.classes, self.clipping_norm))
        private = Privacy(Mechanism(self.noise_multiplier), 1.0)
        return Work(algorithm, size, privacy=private, settings=settings)


def lattice_of(noise_multiplier: float, clipping_norm: float, size: int) -> Lattice:
    """Return the noise's lattice, for so many values; FederatedError as `Lattice.of`."""
    return Lattice.of(clipping_norm, noise_multiplier, size)


def training_noise(made: PrivacyPlan | None) -> float:
    """The noise multiplier of a round of a plan."""
    assert made is not None
    assert made.training_noise is not None
    return made.training_noise


def shares_of(family: Family) -> Shares:
    """Return a and b of bounded_curvature.py: a residual at even odds is 1/2, and a weight 1/4 at most; of
    other families a residual is 2.5 at most where the model says nothing, and a weight about 1."""
    return Shares(2.0, 4.0) if family.link == "logistic" else Shares(1.0 / FURTHEST_TARGET, 1.0)


def largest_target(family: Family, scaling: Scaling) -> float | None:
    """Return to what a target counts, in the units of training: `FURTHEST_TARGET` deviations from its mean;
    None for a class. Of counts, by their mean, 0 is the least in any case."""
    if family.link == "exp":
        return min(1.0 + FURTHEST_TARGET * scaling.target_scale / scaling.target_mean, bounds.INPUT.most)
    return FURTHEST_TARGET if family.link == "identity" else None


def _largest_residuals(family: Family, scores: Vector, weights: Vector, most: float | None) -> Vector:
    """Return the largest residual of rows of these scores, whatever their targets; (n,)."""
    if most is None:
        return np.maximum(sigmoid(scores), sigmoid(-scores))
    # Of counts a mean is the weight; the target is between 0 and the most.
    return np.maximum(weights, most) if family.link == "exp" else np.abs(scores) + most


def layout_of(family: Family, inputs: int) -> CurvatureLayout:
    """Return that of a regression."""
    return CurvatureLayout(inputs, 1, shares_of(family))


def check_noisy(task: Task, family: Family) -> None:
    """Raise FederatedError where no table could answer: 22023, 0A000 for several scores a row, 54000 for more
    noise than the lattice takes. Parameters and target were checked."""
    given, layout = NoisyWork.of(task.work), layout_of(family, task.n_inputs)
    if given.classes > 2:
        raise not_supported("more than two classes are not supported under a privacy_budget yet")
    if family.link == "exp" and not (task.scaling is not None and task.scaling.target_mean > 0.0):
        raise invalid_value("the mean of counts is more than 0")
    check_shape(task.work, layout.size)
    lattice_of(given.noise_multiplier, given.clipping_norm, layout.size)


def bounded_curvature(  # noqa: PLR0917
    rows: Table,
    parameters: Vector,
    scaling: Scaling,
    family: Family,
    targets_of: Callable[[Table, Scaling], Vector],
    work: NoisyWork,
) -> Contribution:
    """Return gradient and Hessian over some rows, each subject's clipped; the door adds the noise.

    parameters: (inputs + 1,). targets_of: finite targets in the units of training, each of its row alone.
    """
    layout = layout_of(family, parameters.size - 1)

    def vectors_of(block: Table) -> Matrix:
        columns = scale_columns(block.features, scaling)
        scores = fold(columns * parameters[:, None])
        if family.link == "exp":
            scores = np.minimum(np.maximum(scores, -FURTHEST_SCORE), FURTHEST_SCORE)
        targets, most = targets_of(block, scaling), largest_target(family, scaling)
        if most is not None:
            targets = np.minimum(np.maximum(targets, -most), most)
        residuals, weights = family.residuals(scores, targets), family.weights(scores)
        reach = Reach(_largest_residuals(family, scores, weights, most), weights)
        counts = layout.case_weights(columns[:-1], reach, work.clipping_norm)
        return layout.row_vectors(columns[:-1], residuals[None], weights[None], counts)

    lattice = lattice_of(work.noise_multiplier, work.clipping_norm, layout.size)
    total = sum_bounded(rows, vectors_of, layout.size, work.clipping_norm, lattice)
    return Contribution(total, 1.0, ClippedSum(work.clipping_norm, Mechanism(work.noise_multiplier)))


def noisy_fault(vector: Vector, work: Work, clipping_norm: float) -> str | None:
    """Say what no subjects and no noise can have led to in one node's answer; None for nothing."""
    noise = one_noise(work)
    assert noise is not None
    deviation = lattice_of(noise, clipping_norm, work.size).std
    return noised_fault(vector / clipping_norm, bounds.ROWS.most, deviation / clipping_norm)


@dataclass(frozen=True, slots=True)
class NoisyRound:
    """Where a round has led: the parameters, and why no further one is needed, or None."""

    parameters: Vector
    ended: Ended | None


def move_noisily(  # noqa: PLR0917
    plan: RunPlan, parameters: Vector, gathered: Total, layout: CurvatureLayout, link: str, within: Bounds
) -> NoisyRound:
    """Take a step on the sum of the nodes' answers; parameters: (P,), slopes, then intercepts."""
    noise, norm = training_noise(plan.findings.plan), plan.run.policy.clipping_threshold
    deviation = lattice_of(noise, norm, layout.size).std_of_sum(gathered.noise_variance)
    found = NoisySums.read(gathered.vector, layout, deviation)
    if link == "exp" and plan.round == 1:
        raising = layout.length * layout.intercepts
        shift = found.shift(raising)
        parameters, found = parameters + shift * layout.intercepts, found.moved_up(shift, raising)
    step = take_step(parameters, found, layout, within, bounded=link != "identity")
    return NoisyRound(step.parameters, _ending(plan.round, link, is_noise=step.is_noise))


def _ending(number: RoundNumber, link: str, *, is_noise: bool) -> Ended | None:
    if is_noise and number == 1:
        return Ended(
            "the sums of round 1 are not told from their noise: the model has next to nothing of rows",
            converged=False,
        )
    if link == "identity":
        return Ended(ONE_ROUND)
    if is_noise:
        return Ended(f"the step of round {number} is no longer than noise alone makes one")
    return None
