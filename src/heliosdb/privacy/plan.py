"""How a run divides its privacy budget before it starts: statistics, training rounds, evaluations.

What always holds: everything a dataset has spent before, and everything planned, composed together, stays
within the budget by the accountant that the ledgers use; so a node's ledger refuses no round of a plan that
was made from its own past, and every number of a plan lies within the bounds that a task must keep. "Shares"
are of the squared noise: for Gaussian releases the squares of 1/σ add up. Of Laplace noise they are of 1/b,
which adds up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.bounds import EXPECTED_SUBJECTS, NOISE_MULTIPLIER, SAMPLING_RATE
from heliosdb.domain.privacy import Budget, Mechanism, Noise
from heliosdb.domain.wording import counted
from heliosdb.privacy.accountant import Accountant, calibrate, check_mechanism

STATISTICS_SHARE = 1.0 / 3.0
"""Of what remains when a run starts, for its round 0."""

EXCHANGE_SHARES = (1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0)
"""Of round 0's part, for each of its exchanges: see decision 0014."""

CLASSES_SHARE = 0.1
"""Of round 0's part, for counting the classes of a target where no catalog declares them; the rest is divided
as above. With ε = 1 and three nodes 1,000 subjects are enough to see that a third is of neither class; what
is not enough is said."""

LEVELS_SHARE = 1.0 / 3.0
"""Of round 0's part, for finding the levels of categories where no catalog declares them: what is not found
is lost for the whole run, while a scale that is found with a fifth more noise is hardly another one."""

EVALUATION_SHARE = 0.1
"""Of what remains after round 0, for all evaluations of a run together."""

REPORT_SHARE = 0.05
"""Of what remains after round 0, for the one report of a run."""

SMALLEST_ACCURACY_ERROR = 0.005
"""No budget is spent on noise in the accuracy, or the report's figure, below this."""


@dataclass(frozen=True, slots=True)
class AccuracyNoise:
    """How noise bears on the accuracy of a private evaluation.

    sensitivity: the L2 norm of what one subject adds. per_noise: the accuracy's standard deviation where that
    of every coordinate of the sum is 1 and one subject is held out, at worst. sampling: its standard error
    without noise for one held-out subject, at worst. largest: the standard error beyond which it is of no
    use: evaluations are left out, and a figure is withheld.
    """

    sensitivity: float
    per_noise: float
    sampling: float
    largest: float

    def of_noise(self, noise_multiplier: float, held_out: float, noise_variance: float) -> float:
        """Return the part of the error that a sum's noise has. noise_variance: one node's having 1."""
        return math.sqrt(noise_variance) * noise_multiplier * self.sensitivity * self.per_noise / held_out

    def error(self, noise_multiplier: float, held_out: float, noise_variance: float) -> float:
        """Return the standard error over `held_out` subjects, at worst."""
        if held_out <= 0:
            return math.inf
        noise = self.of_noise(noise_multiplier, held_out, noise_variance)
        return math.hypot(noise, self.sampling / math.sqrt(held_out))


CLASSIFICATION_NOISE = AccuracyNoise(math.sqrt(3.0) / 2.0, math.sqrt(2.0), 0.5, largest=0.1)
"""At an accuracy of 0 or 1, the count's noise weighs as much as the right answers'."""

REGRESSION_NOISE = AccuracyNoise(math.sqrt(13.0) / 4.0, 8.0 * math.sqrt(2.0), 0.77, largest=0.25)
"""R² = 1 - L / B, where the scaling is right: B is 1/2, an eighth of the cap to which the noise is
proportional. At R² of 0 or 1 two coordinates bear on it whole. By sampling 2 (1 - R²) R at most, at
R² = 1/3."""


NORMS_SHARE = 0.1
"""Of what remains after round 0, for all counts that an adaptive clipping norm follows."""

NORM_SENSITIVITY = 0.5
"""A subject adds half a one to such a count, or takes it away."""

SMALLEST_SHARE_ERROR = 0.05
"""No budget is spent on noise in the share of subjects below this: the noise of Andrew et al. 2021,
section 3.1, a twentieth of the subjects."""

_LARGEST_SHARE_ERROR = 0.25
"""With more noise than half of the way from the median to everybody the norm would follow the noise."""


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """The Poisson sampling of one round at one node: rate in (0, 1], steps ≥ 1."""

    sampling_rate: float
    steps: int


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What a run asks of its remaining budget.

    evaluations: how many are wished for. held_out: the released (noisy) count of held-out subjects over all
    nodes. noise_variance: of a sum's noise, one node's having 1. accuracy: how it is measured.
    privacy_per_round and noise_multiplier: the workspace's options of these names, None where they are not
    given. norm_counts: how many counts an adaptive clipping norm is to follow; trained: about how many
    subjects these are over. noise: of all releases, but that counts of norms and a report are Gaussian.
    """

    rounds: int
    sampling: SamplingPlan
    evaluations: int
    held_out: float
    noise_variance: float
    accuracy: AccuracyNoise = CLASSIFICATION_NOISE
    privacy_per_round: float | None = None
    noise_multiplier: float | None = None
    report: AccuracyNoise | None = None
    norm_counts: int = 0
    trained: float = 0.0
    noise: Noise = "gaussian"

    def rounds_under(self, noise_multiplier: float, rounds: int) -> Mechanism:
        """Return so many rounds as one mechanism."""
        rate, steps = self.sampling.sampling_rate, self.sampling.steps
        return Mechanism(noise_multiplier, rate, steps * rounds, self.noise)


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Noise for every round, for every evaluation where there are any, and for a report.

    evaluation_noise_multiplier: None where evaluations are left out; `reason` then says why. So do
    report_noise_multiplier and report_reason of a report.
    norm_noise_multiplier: of every count of norms; None where none is made, of which `reason` then tells too.
    epsilon: the tight total at the end of the run, everything before it included.
    """

    noise_multiplier: float
    evaluation_noise_multiplier: float | None
    reason: str | None
    epsilon: float
    report_noise_multiplier: float | None = None
    report_reason: str | None = None
    norm_noise_multiplier: float | None = None


def plan_sampling(expected_subjects: float, batch_size: int, local_epochs: int) -> SamplingPlan:
    """Turn batches and epochs into a rate and as many steps as see each subject `local_epochs` times.

    Whether a task may have so many is not asked here.
    """
    rate = SAMPLING_RATE.clamp(batch_size / EXPECTED_SUBJECTS.clamp(expected_subjects))
    return SamplingPlan(sampling_rate=rate, steps=max(1, math.ceil(local_epochs / rate)))


def plan_statistics(
    budget: Budget, already: Sequence[Mechanism] = (), noise: Noise = "gaussian"
) -> Mechanism:
    """Choose the noise of round 0: `STATISTICS_SHARE` of what remains after `already`.

    Raises FederatedError (UF001) where nothing remains.
    """
    whole = calibrate(lambda sigma: [Mechanism(sigma, noise=noise)], budget, already)
    return _part_of(Mechanism(whole, noise=noise), STATISTICS_SHARE)


def _part_of(whole: Mechanism, share: float) -> Mechanism:
    """Return the mechanism that costs this part of another's."""
    part = share if whole.noise == "laplacian" else math.sqrt(share)
    return replace(whole, noise_multiplier=NOISE_MULTIPLIER.clamp(whole.noise_multiplier / part))


def split_statistics(whole: Mechanism, shares: Sequence[float]) -> list[Mechanism]:
    """Divide the noise of one release into several that together cost the same; shares add up to 1."""
    return [_part_of(whole, share) for share in shares]


def plan_training(budget: Budget, already: Sequence[Mechanism], request: TrainingRequest) -> TrainingPlan:
    """Choose one noise multiplier for all rounds (one for the evaluations, one for the report) that
    spends the rest of the budget.

    budget: the workspace's total. already: everything released before, round 0 of this run included. Where
    several rules set the multiplier, the largest wins. Raises FederatedError (UF001) where nothing remains.
    """
    evaluation, reason = _plan_evaluations(budget, already, request)
    evaluations = [evaluation] * request.evaluations if evaluation is not None else []
    report, why_no_report = _plan_report(budget, already, request)
    reports = [report] if report is not None else []
    norms, left_out = _plan_norms(budget, already, request)
    counts = [norms] * request.norm_counts if norms is not None else []

    def all_rounds(sigma: float) -> list[Mechanism]:
        return [request.rounds_under(sigma, request.rounds)]

    fixed = [*already, *evaluations, *reports, *counts]
    sigma = max(
        calibrate(all_rounds, budget, fixed),
        _given_noise(request),
        _noise_for_one_round(budget, request, counts[:1]),
    )
    return TrainingPlan(
        noise_multiplier=sigma,
        evaluation_noise_multiplier=evaluation.noise_multiplier if evaluation is not None else None,
        reason="; ".join(one for one in (reason, left_out) if one is not None) or None,
        norm_noise_multiplier=None if norms is None else norms.noise_multiplier,
        epsilon=Accountant(budget.delta, fixed).epsilon(*all_rounds(sigma)),
        report_noise_multiplier=report.noise_multiplier if report is not None else None,
        report_reason=why_no_report,
    )


def _given_noise(request: TrainingRequest) -> float:
    if request.noise_multiplier is None:
        return 0.0
    check_mechanism(Mechanism(request.noise_multiplier))
    return request.noise_multiplier


def _noise_for_one_round(budget: Budget, request: TrainingRequest, beside: Sequence[Mechanism]) -> float:
    """Return the noise under which one round alone costs `privacy_per_round`; 0 where that is not given.

    beside: what else its training releases.
    """
    if request.privacy_per_round is None:
        return 0.0
    if request.privacy_per_round <= 0:
        raise FederatedError(
            ErrorCode.INVALID_VALUE, f"privacy_per_round must be positive, not {request.privacy_per_round}."
        )
    alone = Budget(request.privacy_per_round, budget.delta)
    return calibrate(lambda sigma: [request.rounds_under(sigma, 1)], alone, beside)


def _plan_norms(
    budget: Budget, already: Sequence[Mechanism], request: TrainingRequest
) -> tuple[Mechanism | None, str | None]:
    """Choose the noise of a count of norms, or say why none is made."""
    if request.norm_counts == 0:
        return None, None
    whole = calibrate(lambda sigma: [Mechanism(sigma)], budget, already)
    per_noise = NORM_SENSITIVITY * math.sqrt(request.noise_variance) / request.trained
    sigma = max(whole * math.sqrt(request.norm_counts / NORMS_SHARE), SMALLEST_SHARE_ERROR / per_noise)
    error = sigma * per_noise
    if error > _LARGEST_SHARE_ERROR:
        subjects, counts = counted(round(request.trained), "subject"), counted(request.norm_counts, "count")
        return None, (
            f"the clipping norm stays as it is: with about {subjects} and {counts}, privacy noise would give"
            f" the share of subjects within it a standard error of {error:.2g}; their budget goes to training"
        )
    return Mechanism(NOISE_MULTIPLIER.clamp(sigma)), None


def _plan_evaluations(
    budget: Budget, already: Sequence[Mechanism], request: TrainingRequest
) -> tuple[Mechanism | None, str | None]:
    """Choose the noise of an evaluation, or say why none is made."""
    if request.evaluations == 0:
        return None, "no evaluation was asked for"
    if request.held_out <= 0:
        return None, "loss and accuracy are not measured: no subject is held out"
    sigma = _evaluation_noise(budget, already, request)
    error = request.accuracy.error(sigma, request.held_out, request.noise_variance)
    if error > request.accuracy.largest:
        return None, (
            f"loss and accuracy are not measured: with about {request.held_out:.0f} held-out subjects and "
            f"{request.evaluations} evaluations, privacy noise would give the accuracy a standard error of "
            f"{error:.2g}; their budget goes to training"
        )
    enough = SMALLEST_ACCURACY_ERROR / request.accuracy.of_noise(
        1.0, request.held_out, request.noise_variance
    )
    return Mechanism(NOISE_MULTIPLIER.clamp(max(sigma, enough)), noise=request.noise), None


def _plan_report(
    budget: Budget, already: Sequence[Mechanism], request: TrainingRequest
) -> tuple[Mechanism | None, str | None]:
    """Choose the noise of the report, or say why none is made."""
    wished = request.report
    if wished is None or request.held_out <= 0:
        return None, None
    whole = calibrate(lambda sigma: [Mechanism(sigma)], budget, already)
    sigma = whole / math.sqrt(REPORT_SHARE)
    error = wished.error(sigma, request.held_out, request.noise_variance)
    if error > wished.largest or not NOISE_MULTIPLIER.hold(sigma):
        return None, (
            f"no report is made of the model: with about {request.held_out:.0f} held-out subjects, privacy"
            f" noise would give its figures a standard error of {error:.2g}; its budget goes to training"
        )
    enough = SMALLEST_ACCURACY_ERROR / wished.of_noise(1.0, request.held_out, request.noise_variance)
    return Mechanism(NOISE_MULTIPLIER.clamp(max(sigma, enough))), None


def _evaluation_noise(budget: Budget, already: Sequence[Mechanism], request: TrainingRequest) -> float:
    """Return the noise of each evaluation under which all of them cost `EVALUATION_SHARE` of what remains.

    What many Laplace releases cost follows no power of their noise: they are calibrated as they are.
    """
    if request.noise == "laplacian":
        spent = Accountant(budget.delta, already).epsilon()
        part = replace(budget, epsilon=spent + EVALUATION_SHARE * (budget.epsilon - spent))
        return calibrate(
            lambda sigma: [Mechanism(sigma, steps=request.evaluations, noise=request.noise)], part, already
        )
    whole = calibrate(lambda sigma: [Mechanism(sigma)], budget, already)
    return whole * math.sqrt(request.evaluations / EVALUATION_SHARE)
