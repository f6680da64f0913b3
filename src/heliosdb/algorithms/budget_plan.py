"""How a run divides its budget: before round 0 over that round's exchanges, after it over all that follow.

What always holds: everything is a pure function of the run, of its committed findings and of what was
released; a plan's numbers lie within the bounds that a task must keep, and together with what was released
they cost no more than the budget allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heliosdb.algorithms.described_inputs import measured_inputs, scaled_columns, statistics_work
from heliosdb.algorithms.features import sensitivity
from heliosdb.algorithms.measures import measure
from heliosdb.algorithms.private_wish import why_unreported, wished_report
from heliosdb.algorithms.registry import algorithm, check_classes, classes_of
from heliosdb.algorithms.schedule import count_evaluations
from heliosdb.algorithms.sum_noise import noise_variance
from heliosdb.domain import bounds
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.findings import Findings, PrivacyPlan, RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import (
    ALGORITHMS,
    DescentSettings,
    SumDescentSettings,
    TreeSettings,
    by_newton,
    last_round,
)
from heliosdb.parts.selections import count_chosen
from heliosdb.privacy.accountant import Accountant, renyi_epsilon
from heliosdb.privacy.mechanisms import Lattice, deviation
from heliosdb.privacy.plan import (
    CLASSES_SHARE,
    EXCHANGE_SHARES,
    LEVELS_SHARE,
    AccuracyNoise,
    SamplingPlan,
    TrainingPlan,
    TrainingRequest,
    plan_sampling,
    plan_statistics,
    plan_training,
    split_statistics,
)

_EVALUATE = StepName("evaluate")

LEAST_REMAINDER = 0.01
"""With less than this part of its budget left a run is not begun: its noise would drown everything."""


def prepare(plan: RunPlan) -> Findings:
    """Choose the noise of round 0's exchanges; UF001 where the budget is spent, or all but; 0A000 for more
    classes than the algorithm learns."""
    budget, already = allowed(plan), plan.past
    check_classes(plan.run.options.algorithm, classes_of(plan))
    if budget is None:
        return plan.findings
    spent = Accountant(budget.delta).epsilon(*already)
    if not budget.epsilon > 0.0:
        raise FederatedError(ErrorCode.BUDGET_EXHAUSTED, "other nodes have spent the workspace's budget")
    if budget.epsilon - spent < LEAST_REMAINDER * budget.epsilon:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            f"epsilon {spent:.6g} of {_whose(plan, budget)} is spent: the rest trains nothing",
        )
    budget = share_of(plan, budget, spent)
    levels = _levels_noise(plan, budget)
    noises = _noises_of_exchanges(plan, budget, 1.0 if levels is None else 1.0 - LEVELS_SHARE)
    _check_counted(plan, max(noises), budget)
    # Beside a sampled release all are reckoned by Rényi: where that leaves nothing to train with, the
    # statistics of one more run are not charged first.
    found = [] if levels is None else [Mechanism(levels)]
    together = _beside_sampled([*already, *found], noises, plan)
    if already and together >= budget.epsilon:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            f"epsilon {spent:.6g} of {_whose(plan, budget)} is spent: with one more round 0"
            f" beside training it would be {together:.6g}",
        )
    counting = noises.pop(0) if plan.findings.undeclared_target else None
    made = PrivacyPlan(
        noises[0],
        tuple(noises[1:]),
        classes_noise=counting,
        budget_epsilon=budget.epsilon,
        levels_noise=levels,
    )
    return replace(plan.findings, plan=made)


def _noises_of_exchanges(plan: RunPlan, budget: Budget, whole: float) -> list[float]:
    """Return the noise of round 0's exchanges, in their order: of the target's classes where they are not
    declared, then of the statistics. whole: the part of round 0 that they have together, in 1/σ²."""
    classes = CLASSES_SHARE * whole if plan.findings.undeclared_target else 0.0
    exchanges = (1.0,) if plan.run.options.feature_ranges else EXCHANGE_SHARES
    shares = [*([classes] if classes else []), *((whole - classes) * share for share in exchanges)]
    parts = split_statistics(plan_statistics(budget, plan.past, plan.run.policy.noise), shares)
    return [_least_noise(one.noise_multiplier) for one in parts]


def _levels_noise(plan: RunPlan, budget: Budget) -> float | None:
    """The noise under which levels are found, Gaussian whatever the workspace's is; None where they are
    known. 22023 for more categories than one release names the levels of."""
    encoding = plan.findings.encoding
    if encoding is None or not encoding.unnamed:
        return None
    if not bounds.UNNAMED.hold(len(encoding.unnamed)):
        raise invalid_value(
            f"the levels of {len(encoding.unnamed)} categories are declared nowhere, and at most"
            f" {bounds.UNNAMED.most:.0f} are read from noise",
            hint="Declare levels: as an enum type, or by a CHECK that lists them. Or use fewer categories.",
        )
    (part,) = split_statistics(plan_statistics(budget, plan.past), [LEVELS_SHARE])
    return _least_noise(part.noise_multiplier)


def _whose(plan: RunPlan, budget: Budget) -> str:
    """Name a budget that is the workspace's, or of it a node's part or the part of one run of a series."""
    whole = plan.run.policy.budget
    if whole is None or budget.epsilon == whole.epsilon:
        return f"the workspace's {budget.epsilon:g}"
    return f"{budget.epsilon:.6g} (a part of the workspace's {whole.epsilon:g})"


def _check_counted(plan: RunPlan, noise: float, budget: Budget) -> None:
    """Raise FederatedError UF001 where counts would need more noise than can be added to them: a budget that
    is smaller than one round, of which no node is asked."""
    columns = len(scaled_columns(plan))
    work = statistics_work(replace(plan, findings=replace(plan.findings, plan=PrivacyPlan(noise))))
    try:
        Lattice.of(sensitivity(columns, work), noise, work.size(len(measured_inputs(plan))), work.noise)
    except FederatedError as error:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            "what is left of the privacy budget is less than one round needs",
            detail=f"Epsilon {budget.epsilon:.6g} at delta {budget.delta:g} calls for a noise_multiplier of"
            f" {noise:.6g} over {counted(columns, 'column')}.",
            hint="Raise privacy_budget, or declare feature_ranges, which take less.",
        ) from error


def _beside_sampled(already: Sequence[Mechanism], noises: Sequence[float], plan: RunPlan) -> float:
    """Return ε of what was released and of round 0, as reckoned beside a release that is sampled."""
    noise, delta = plan.run.policy.noise, plan.run.policy.delta
    releases = [*already, *(Mechanism(one, noise=noise) for one in noises)]
    if noise == "laplacian":
        return Accountant(delta).epsilon(*releases)
    return renyi_epsilon(releases, delta)


def allowed(plan: RunPlan) -> Budget | None:
    """Return what each node may come to: the budget, or a part of it where the nodes' ε add up."""
    budget = plan.run.policy.budget
    if budget is None or plan.allowance is None:
        return budget
    return replace(budget, epsilon=min(budget.epsilon, plan.allowance))


def share_of(plan: RunPlan, budget: Budget, spent: float) -> Budget:
    """Return how far a run may go: all of the budget, or where further runs of its series are to come an
    equal part of what is left.

    spent: ε of what was released before the run.
    """
    series = plan.run.series
    runs = 1 if series is None else 1 + series.to_come
    return budget if runs == 1 else replace(budget, epsilon=spent + (budget.epsilon - spent) / runs)


def plan_rounds(
    plan: RunPlan, before: PrivacyPlan, nodes: int, *, training_per_node: float, held_out: float
) -> PrivacyPlan:
    """Return the whole plan of a run, once round 0 has told how many subjects there are.

    plan: with what was released before, round 0 included. before: the plan of round 0. training_per_node:
    about how many subjects each of `nodes` nodes trains on. held_out: about how many they hold out together.
    UF001 where the budget leaves nothing to train on, 22023 where a round would take too many steps.
    """
    options, policy = plan.run.options, plan.run.policy
    assert policy.budget is not None
    expected = bounds.EXPECTED_SUBJECTS.clamp(training_per_node)
    sampling = _sampling(options, expected, of_sums=plan.run.noises_sums)
    if not (bounds.SAMPLING_RATE.hold(sampling.sampling_rate) and bounds.STEPS.hold(sampling.steps)):
        raise invalid_value(
            f"a round would take {sampling.steps:.3g} steps, more than {bounds.STEPS.most:g}",
            hint="Raise batch_size, or lower local_epochs.",
        )
    measures = _EVALUATE in algorithm(options.algorithm).steps
    # A figure is over the nodes that a round asks, and the held-out subjects that these have.
    chosen = count_chosen(policy.node_selection, nodes)
    request = TrainingRequest(
        rounds=last_round(options, private=True),
        sampling=sampling,
        evaluations=count_evaluations(options, private=True) if measures else 0,
        held_out=held_out * chosen / nodes,
        noise_variance=noise_variance(plan.run, chosen),
        accuracy=_accuracy_noise(plan),
        privacy_per_round=policy.privacy_per_round,
        noise_multiplier=policy.noise_multiplier,
        report=wished_report(plan),
        norm_counts=options.rounds - 1 if policy.adaptive_clipping else 0,
        trained=expected * chosen,
        noise=policy.noise,
    )
    # A plan of before there were series names no share: then it is the whole.
    budget = replace(policy.budget, epsilon=before.budget_epsilon or policy.budget.epsilon)
    made = plan_training(budget, plan.past, request)
    return replace(
        before,
        training_noise=_least_noise(made.noise_multiplier),
        sampling_rate=sampling.sampling_rate,
        steps=sampling.steps,
        expected_subjects=expected,
        evaluation_noise=made.evaluation_noise_multiplier,
        clipping_noise=made.norm_noise_multiplier,
        clipping_norm=policy.clipping_threshold if policy.adaptive_clipping else None,
        reason=made.reason if measures else _unmeasured(options, made),
        epsilon=made.epsilon,
        report_noise=made.report_noise_multiplier,
        report_reason=made.report_reason or why_unreported(plan),
    )


def describe_stricter(given: float | None, planned: float | None) -> list[str]:
    """Say which rule set the noise of training, where an option and the budget both do."""
    if given is None or planned is None:
        return []
    if planned > given:
        return [f"noise_multiplier {given:g} would pass the privacy budget: {planned:g} is used"]
    return [f"noise_multiplier {given:g} is stricter than the privacy budget, part of which stays unspent"]


def _accuracy_noise(plan: RunPlan) -> AccuracyNoise:
    """How noise bears on the accuracy; under Laplace noise a multiplier of 1 has another deviation."""
    measured, noise = measure(len(classes_of(plan))), plan.run.policy.noise
    if noise == "gaussian":
        return measured.noise
    return replace(measured.noise, sensitivity=deviation(measured.boxes.norm(noise), noise))


def _unmeasured(options: TrainingOptions, made: TrainingPlan) -> str | None:
    """Say that nothing is measured of an algorithm that has no evaluation where there is no report either,
    and what that costs."""
    if made.report_noise_multiplier is not None:
        return None
    aside = "; validation_split = 0 gives the held-out rows to training" if options.validation_split else ""
    only = "has no figure but those of a report under a privacy budget"
    return f"nothing is measured: {options.algorithm} {only}, and there is none{aside}"


def _sampling(options: TrainingOptions, expected: float, *, of_sums: bool) -> SamplingPlan:
    """Return what a round's training releases: of trees one sum, over a part of the subjects or all; of
    Newton steps one over all. of_sums: whether the noise is that of the nodes' sum: then descent has one
    gradient a round."""
    kind = ALGORITHMS.entry(options.algorithm).settings
    if issubclass(kind, TreeSettings):
        return SamplingPlan(bounds.SAMPLING_RATE.clamp(options.settings(kind).subsample), 1)
    if by_newton(options.algorithm, options.given):
        return SamplingPlan(1.0, 1)
    if of_sums:
        batch = options.settings(SumDescentSettings).batch_size
        return SamplingPlan(bounds.SAMPLING_RATE.clamp((batch or expected) / expected), 1)
    descent = options.settings(DescentSettings)
    return plan_sampling(expected, descent.batch_size, descent.local_epochs)


def _least_noise(noise_multiplier: float) -> float:
    """Return a multiplier that a task may name, of no less noise; UF001 where that is more than any may."""
    within = bounds.NOISE_MULTIPLIER
    if noise_multiplier > within.most:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            f"what is left of the budget calls for a noise_multiplier of {noise_multiplier:.3g},"
            f" more than {within.most:g}",
        )
    return within.clamp(noise_multiplier)
