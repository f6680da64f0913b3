"""What a run asks for: tasks from options and findings, and how round 0 becomes findings.

What always holds: everything here is a pure function of the run, of its committed findings and parameters,
so that a task asked for again after a restart is the same task to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from heliosdb.aggregation import Update, total
from heliosdb.algorithms import algorithm
from heliosdb.algorithms.features import vector_size
from heliosdb.algorithms.summary import Summary, summarise
from heliosdb.coordinator.budget import Release, spent_epsilon
from heliosdb.domain import bounds
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.round import Rules
from heliosdb.domain.run import Run
from heliosdb.domain.task import (
    EvaluateWork,
    PrivateTraining,
    Reading,
    Scaling,
    StatisticsWork,
    Step,
    Task,
    TaskKey,
    TrainWork,
    Work,
)
from heliosdb.domain.vector import Vector
from heliosdb.privacy.accountant import renyi_epsilon
from heliosdb.privacy.plan import TrainingPlan, TrainingRequest, plan_sampling, plan_statistics, plan_training

LEAST_REMAINDER = 0.01
"""With less than this part of its budget left a run is not begun: its noise would drown everything."""

EVALUATION_SIZE = 3
"""Loss, quality and count."""


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """The noise of a run; what round 0 decides is None before it.

    evaluation_noise None after round 0: nothing is evaluated, and `reason` says why. expected_subjects: the
    fixed denominator of each node's training.
    """

    statistics_noise: float
    training_noise: float | None = None
    sampling_rate: float | None = None
    steps: int | None = None
    expected_subjects: float | None = None
    evaluation_noise: float | None = None
    reason: str | None = None
    epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of a run beyond its options; scaling None before round 0, plan None without a budget.

    booleans: which features are boolean at every node of round 0, in their order; () before it was opened.
    """

    scaling: Scaling | None = None
    plan: PrivacyPlan | None = None
    booleans: tuple[bool, ...] = ()

    @classmethod
    def from_json(cls, scaling: Mapping[str, Any] | None, plan: Mapping[str, Any] | None) -> Findings:
        """Read what `scaling_json` and `plan_json` wrote."""
        return cls(
            None
            if scaling is None or "means" not in scaling
            else Scaling(
                tuple(scaling["means"]),
                tuple(scaling["scales"]),
                scaling["target_mean"],
                scaling["target_scale"],
            ),
            None if plan is None else PrivacyPlan(**plan),
            () if scaling is None else tuple(scaling.get("booleans", ())),
        )

    def scaling_json(self) -> dict[str, Any] | None:
        """Return the scaling, and which features are boolean, for run.scaling."""
        if self.scaling is None and not self.booleans:
            return None
        return {"booleans": list(self.booleans)} | ({} if self.scaling is None else asdict(self.scaling))

    def plan_json(self) -> dict[str, Any] | None:
        """Return the plan for run.plan."""
        return None if self.plan is None else asdict(self.plan)


def make_rules(run: Run, findings: Findings) -> Rules:
    """Return the rules of the round machine for a run."""
    options, policy = run.options, run.policy
    decided = findings.scaling is not None and findings.plan is not None
    measured = options.validation_split > 0 and not (
        decided and findings.plan is not None and findings.plan.evaluation_noise is None
    )
    return Rules(
        rounds=options.rounds,
        min_nodes=policy.min_nodes,
        max_nodes=policy.max_nodes,
        min_nodes_per_round=policy.min_nodes_per_round,
        evaluate_every=options.validation_frequency if measured else 0,
        target_accuracy=options.target_accuracy,
    )


def plan_round_zero(run: Run, already: Sequence[Mechanism], booleans: tuple[bool, ...] = ()) -> Findings:
    """Choose the noise of the feature statistics; UF001 where the budget is spent, or all but."""
    budget = run.policy.budget
    if budget is None:
        return Findings(booleans=booleans)
    spent = spent_epsilon(already, budget.delta)
    if budget.epsilon - spent < LEAST_REMAINDER * budget.epsilon:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            f"epsilon {spent:.6g} of the workspace's {budget.epsilon:g} is spent: the rest trains nothing",
        )
    noise = _least_noise(plan_statistics(budget, already).noise_multiplier)
    # Beside a sampled release all are reckoned by Rényi: where that leaves nothing to train with, the
    # statistics of one more run are not charged first.
    together = renyi_epsilon([*already, Mechanism(noise)], budget.delta)
    if already and together >= budget.epsilon:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            f"epsilon {spent:.6g} of the workspace's {budget.epsilon:g} is spent: with one more round 0"
            f" beside training it would be {together:.6g}",
        )
    return Findings(plan=PrivacyPlan(noise), booleans=booleans)


def count_evaluations(run: Run) -> int:
    """Return how many rounds of a whole run end with an evaluation."""
    options = run.options
    if options.validation_split == 0:
        return 0
    whole, rest = divmod(options.rounds, options.validation_frequency)
    return whole + (1 if rest else 0)


def read_statistics(
    run: Run, findings: Findings, updates: Sequence[Update], already: Sequence[Mechanism]
) -> Findings:
    """Turn the answers of round 0 into scaling and plan; already: the ledger of the most charged node.

    FederatedError 22023 names a feature that cannot be scaled; UF001 where the budget leaves nothing to
    train on.
    """
    work = statistics_work(run, findings)
    summary = summarise(total(updates), work, run.options.features, len(updates))
    found = replace(findings, scaling=_within_bounds(summary.scaling))
    if findings.plan is None or run.policy.budget is None:
        return found
    return replace(found, plan=_plan_training(run, findings.plan, summary, len(updates), already))


def _within_bounds(scaling: Scaling) -> Scaling:
    """What rounding, or a spread next to nothing, would put outside of what a task may say."""
    return Scaling(
        tuple(map(bounds.LOCATION.clamp, scaling.means)),
        tuple(map(bounds.SCALE.clamp, scaling.scales)),
        bounds.LOCATION.clamp(scaling.target_mean),
        bounds.SCALE.clamp(scaling.target_scale),
    )


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


def _plan_training(
    run: Run, plan: PrivacyPlan, summary: Summary, nodes: int, already: Sequence[Mechanism]
) -> PrivacyPlan:
    options, policy = run.options, run.policy
    assert policy.budget is not None
    expected = bounds.EXPECTED_SUBJECTS.clamp(summary.training_per_node(options.validation_split))
    sampling = plan_sampling(expected, options.batch_size, options.local_epochs)
    if not (bounds.SAMPLING_RATE.hold(sampling.sampling_rate) and bounds.STEPS.hold(sampling.steps)):
        raise invalid_value(
            f"a round would take {sampling.steps:.3g} steps, more than {bounds.STEPS.most:g}",
            hint="Raise batch_size, or lower local_epochs.",
        )
    request = TrainingRequest(
        rounds=options.rounds,
        sampling=sampling,
        evaluations=count_evaluations(run),
        held_out=summary.held_out(options.validation_split),
        nodes=nodes,
        privacy_per_round=policy.privacy_per_round,
        noise_multiplier=policy.noise_multiplier,
    )
    made = _measurable(plan_training(policy.budget, already, request))
    return replace(
        plan,
        training_noise=_least_noise(made.noise_multiplier),
        sampling_rate=sampling.sampling_rate,
        steps=sampling.steps,
        expected_subjects=expected,
        evaluation_noise=made.evaluation_noise_multiplier,
        reason=made.reason,
        epsilon=made.epsilon,
    )


def _measurable(made: TrainingPlan) -> TrainingPlan:
    """The plan, without evaluations where their noise would be more than a task may name."""
    noise, within = made.evaluation_noise_multiplier, bounds.NOISE_MULTIPLIER
    if noise is None:
        return made
    if noise > within.most:
        reason = f"Loss and accuracy are not measured: that would take a noise_multiplier of {noise:.3g}."
        return replace(made, evaluation_noise_multiplier=None, reason=reason)
    return replace(made, evaluation_noise_multiplier=within.clamp(noise))


def releases(run: Run, findings: Findings, number: RoundNumber, *, evaluated: bool) -> list[Release]:
    """Return the private releases of a round at each node; none without a budget."""
    plan = findings.plan
    if plan is None:
        return []
    if number == 0:
        return [(Step.STATISTICS, Mechanism(plan.statistics_noise))]
    made = [(Step.TRAIN, _mechanism(_private_training(run, plan)))]
    if evaluated and plan.evaluation_noise is not None:
        made.append((Step.EVALUATE, Mechanism(plan.evaluation_noise)))
    return made


def clipping_norms(run: Run) -> dict[Step, float]:
    """Return the clipping norms that the ledger shows; the other releases are bounded by construction."""
    return {Step.TRAIN: run.policy.clipping_threshold}


def build_task(
    run: Run,
    findings: Findings,
    key: TaskKey,
    parameters: Vector,
    node_dataset: str | None,
) -> Task:
    """Return the one task of this key. parameters: empty for statistics."""
    options = run.options
    return Task(
        key=key,
        reading=Reading(
            dataset=options.dataset or node_dataset,
            features=options.features,
            target=options.target,
            validation_split=options.validation_split,
            seed=run.seed,
        ),
        work=make_work(run, findings, key.step),
        parameters=parameters,
        budget=run.policy.budget,
        compliance_mode=run.policy.compliance_mode,
    )


def expected_size(run: Run, findings: Findings, step: Step, parameters: Vector) -> int:
    """Return how many values an update of this step must have."""
    match step:
        case Step.STATISTICS:
            return vector_size(len(run.options.features), statistics_work(run, findings))
        case Step.TRAIN:
            return parameters.size
        case Step.EVALUATE:
            return EVALUATION_SIZE


def expected_mechanism(run: Run, findings: Findings, step: Step) -> Mechanism | None:
    """Return what an update of this step must say that it cost; None without a budget."""
    if findings.plan is None:
        return None
    number = RoundNumber(0 if step is Step.STATISTICS else 1)
    return dict(releases(run, findings, number, evaluated=True)).get(step)


def initial_parameters(run: Run) -> Vector:
    """Return the parameters with which round 1 begins."""
    return algorithm(run.options.algorithm).initial_parameters(len(run.options.features))


def read_evaluation(run: Run, findings: Findings, updates: Sequence[Update]) -> Figures:
    """Return loss and accuracy over all nodes."""
    found = algorithm(run.options.algorithm).read_evaluation(total(updates), _evaluate_work(run, findings))
    return Figures(_finite(found.loss), _finite(found.accuracy))


def count_rows(findings: Findings, update: Update) -> int:
    """Return the node's rows (subjects where private, noised) as its answer to round 0 states them."""
    count = update.weight if findings.plan is None else float(update.vector[-1])
    return max(0, round(count))


def statistics_work(run: Run, findings: Findings) -> StatisticsWork:
    """Return the work of round 0; declared ranges replace the grid where there is a budget."""
    noise = findings.plan.statistics_noise if findings.plan is not None else None
    return StatisticsWork(run.options.algorithm, noise, None if noise is None else _ranges(run))


def _ranges(run: Run) -> tuple[tuple[float, float], ...] | None:
    options = run.options
    declared = {name: (low, high) for name, low, high in options.feature_ranges}
    if not declared:
        return None
    columns = list(options.features)
    if algorithm(options.algorithm).scales_target:
        columns.append(options.target)
    missing = [column for column in columns if column not in declared]
    if missing:
        raise invalid_value(
            f"feature_ranges does not name {', '.join(missing)}",
            hint="Under a privacy budget give the range of every column, or of none.",
        )
    return tuple(declared[column] for column in columns)


def make_work(run: Run, findings: Findings, step: Step) -> Work:
    """Return the work of a step; scaling and plan are known after round 0."""
    match step:
        case Step.STATISTICS:
            return statistics_work(run, findings)
        case Step.TRAIN:
            return _train_work(run, findings)
        case Step.EVALUATE:
            return _evaluate_work(run, findings)


def _train_work(run: Run, findings: Findings) -> TrainWork:
    assert findings.scaling is not None
    options = run.options
    return TrainWork(
        algorithm=options.algorithm,
        scaling=findings.scaling,
        local_epochs=options.local_epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        privacy=None if findings.plan is None else _private_training(run, findings.plan),
    )


def _evaluate_work(run: Run, findings: Findings) -> EvaluateWork:
    assert findings.scaling is not None
    noise = findings.plan.evaluation_noise if findings.plan is not None else None
    return EvaluateWork(run.options.algorithm, findings.scaling, noise)


def _private_training(run: Run, plan: PrivacyPlan) -> PrivateTraining:
    assert plan.training_noise is not None
    assert plan.sampling_rate is not None
    assert plan.steps is not None
    assert plan.expected_subjects is not None
    return PrivateTraining(
        noise_multiplier=plan.training_noise,
        clipping_norm=run.policy.clipping_threshold,
        sampling_rate=plan.sampling_rate,
        steps=plan.steps,
        expected_subjects=plan.expected_subjects,
    )


def _mechanism(training: PrivateTraining) -> Mechanism:
    return Mechanism(training.noise_multiplier, training.sampling_rate, training.steps)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
