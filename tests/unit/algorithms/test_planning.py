"""What round 0 of supervised learning decides: scaling, noise, and no task that a node would refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heliosdb.algorithms import budget_plan, described_inputs, training
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.exact import exact_moments
from heliosdb.algorithms.gradient import GradientStep
from heliosdb.algorithms.layout import BINS
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.schedule import count_evaluations, evaluates
from heliosdb.algorithms.statistics import REFINE, STATISTICS
from heliosdb.algorithms.steps import Step, Taken
from heliosdb.algorithms.training import TRAIN
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.bounds import SCALE
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, PrivacyPlan, RunPlan
from heliosdb.domain.ids import RoundNumber, StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, make_state
from heliosdb.domain.task import Task
from heliosdb.domain.update import Moved, Total
from heliosdb.transport.messages import encode_task, task_from_header
from tests.support.runs import NODE, OPTIONS, PRIVATE, RUN, SCALING, with_options, with_policy

MODEL = ModelState(make_state(parameters=np.zeros(3)))


def step(name: StepName) -> Step:
    return algorithm("logistic_regression").steps[name]


def before(run: Run, *past: Mechanism) -> RunPlan:
    """What is known when round 0 opens."""
    found = budget_plan.prepare(RunPlan(run, Findings(), RoundNumber(0), past=past))
    return RunPlan(run, found, RoundNumber(0), past=past)


def after(run: Run, plan: RunPlan, *, count: float, subjects: float | None = None) -> RunPlan:
    """What is known once one node has answered that it has so many rows (or subjects)."""
    charged = replace(plan, past=[cost.mechanism for cost in algorithm("logistic_regression").releases(plan)])
    taken = Taken(NO_STATE, following=STATISTICS)
    while taken.following is not None:
        asked = step(taken.following)
        answer = np.zeros(asked.ask(charged, taken.state).work.size)
        # Half of either column lies in each of two octaves, and all of it about the middle of a window.
        places = [62, 63] if taken.following == STATISTICS else [125, 135]
        answer[places] = answer[[BINS + place for place in places]] = count / 2
        answer[-1] = count if subjects is None else subjects
        taken = asked.read(charged, taken.state, Total(answer, 1.0, 1))
    assert taken.findings is not None
    assert taken.state == NO_STATE
    return RunPlan(run, taken.findings, RoundNumber(1), stated={NODE: 1.0})


def task(plan: RunPlan, name: StepName) -> Task:
    course = Course.of(plan.run)
    exchange = 1 if name == EVALUATE else 0
    return course.ask(plan, exchange, name, ModelState(NO_STATE) if name == STATISTICS else MODEL, 1).task(
        NODE, None, NO_STATE
    )


@pytest.mark.parametrize("ranges", [(), (("age", 0.0, 120.0), ("pressure", 50.0, 250.0))])
@pytest.mark.parametrize(("count", "budget"), [(1e12, 4.0), (0.0, 4.0), (30.0, 1e6), (3e5, 1e6), (1e6, 1e-2)])
def test_no_plan_makes_a_task_that_nodes_refuse(
    count: float, budget: float, ranges: tuple[tuple[str, float, float], ...]
) -> None:
    run = with_options(with_policy(PRIVATE, privacy_budget=budget), feature_ranges=ranges)
    plan = before(run)
    try:
        found = _answered(run, plan, count)
    except FederatedError as error:
        assert error.code in (ErrorCode.BUDGET_EXHAUSTED, ErrorCode.INVALID_VALUE)
        return
    assert found.findings.plan is not None
    names = [TRAIN] + ([EVALUATE] if found.findings.plan.evaluation_noise is not None else [])
    for known, name in ((plan, STATISTICS), *((found, name) for name in names)):
        made = task(known, name)
        step(name).check(made)
        assert task_from_header(encode_task(made, b"k" * 32)[0]).task.work == made.work


def _answered(run: Run, plan: RunPlan, count: float) -> RunPlan:
    if not run.options.feature_ranges:
        return after(run, plan, count=max(count, 1e5), subjects=count)
    answer = np.zeros(step(STATISTICS).ask(plan, NO_STATE).work.size)
    answer[-1] = count
    taken = step(STATISTICS).read(plan, NO_STATE, Total(answer, 1.0, 1))
    assert taken.findings is not None
    return RunPlan(run, taken.findings, RoundNumber(1), stated={NODE: 1.0})


def test_a_round_of_more_steps_than_a_task_may_have_is_refused_with_what_to_do() -> None:
    with pytest.raises(FederatedError, match="more than 1e\\+07") as caught:
        after(PRIVATE, before(PRIVATE), count=1e10)

    assert caught.value.hint == "Raise batch_size, or lower local_epochs."


def test_features_of_next_to_no_spread_have_a_scale_that_nodes_take() -> None:
    tiny, usual = (exact_moments(np.array(values)) for values in ([1e-310, 0.0] * 2, [1.0, 3.0] * 2))
    sums = np.array([4.0, *tiny, *usual, 2.0])

    taken = step(STATISTICS).read(RunPlan(RUN, Findings(), RoundNumber(0)), NO_STATE, Total(sums, 4.0, 1))

    assert taken.findings is not None
    assert taken.findings.scaling is not None
    assert taken.findings.scaling.scales == (SCALE.least, 1.0)


def test_evaluations_are_counted_as_they_are_made() -> None:
    for changes, expected in (
        ({}, [3, 6, 9, 10]),
        ({"rounds": 9}, [3, 6, 9]),
        ({"validation_split": 0.0}, []),
    ):
        run = with_options(RUN, **changes)
        plans = (RunPlan(run, Findings(SCALING), RoundNumber(number)) for number in range(11))

        assert [
            plan.round for plan in plans if evaluates(plan) and plan.round <= run.options.rounds
        ] == expected
        assert count_evaluations(run.options) == len(expected)


def test_an_evaluation_follows_training_where_one_is_made() -> None:
    moved = Moved(np.ones(3), 2)

    following = [
        step(TRAIN).read(RunPlan(RUN, Findings(SCALING), RoundNumber(number)), MODEL.state, moved).following
        for number in (2, 3)
    ]

    assert following == [None, EVALUATE]


def test_no_evaluation_is_made_where_noise_leaves_no_figures() -> None:
    known = replace(after(PRIVATE, before(PRIVATE), count=5000.0), round=RoundNumber(3))
    assert known.findings.plan is not None
    silent = replace(
        known, findings=replace(known.findings, plan=replace(known.findings.plan, evaluation_noise=None))
    )

    assert evaluates(known)
    assert not evaluates(silent)
    assert [cost.step for cost in algorithm("logistic_regression").releases(known)] == [TRAIN, EVALUATE]
    assert [cost.step for cost in algorithm("logistic_regression").releases(silent)] == [TRAIN]


def test_without_a_budget_nothing_is_charged() -> None:
    plan = RunPlan(RUN, Findings(SCALING), RoundNumber(3))

    assert algorithm("logistic_regression").releases(plan) == []
    assert task(plan, TRAIN).work.privacy is None


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_private_run_charges_what_its_tasks_ask_for(number: int) -> None:
    plan = before(PRIVATE)
    if number:
        plan = replace(after(PRIVATE, plan, count=5000.0), round=RoundNumber(number))
        assert plan.findings.plan is not None
        assert plan.findings.plan.epsilon is not None
        assert plan.findings.plan.epsilon <= 4.0

    costs = algorithm("logistic_regression").releases(plan)

    assert costs
    for cost in costs:
        if cost.step == REFINE:
            # What it asks for follows from the exchange before it; the contract of algorithms compares them.
            continue
        asked = task(plan, cost.step).work.privacy
        assert asked is not None
        assert asked.mechanism == cost.mechanism


def test_a_run_is_not_begun_on_the_crumbs_of_a_budget() -> None:
    whole = before(PRIVATE).findings.plan
    assert whole is not None
    all_of_it = Mechanism(whole.statistics_noise / 3)  # a ninth was planned: three times the noise

    with pytest.raises(FederatedError) as caught:
        before(PRIVATE, all_of_it)

    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_ranges_under_a_budget_are_for_every_column_or_none() -> None:
    ranges = (("age", 0.0, 120.0), ("pressure", 50.0, 250.0))
    declared = with_options(PRIVATE, feature_ranges=ranges)

    assert described_inputs.statistics_work(before(declared)).ranges == ((0.0, 120.0), (50.0, 250.0))
    partly = with_options(PRIVATE, feature_ranges=ranges[:1])
    with pytest.raises(FederatedError, match="pressure"):
        described_inputs.statistics_work(before(partly))


def test_an_evaluation_is_read_over_all_nodes() -> None:
    plan = RunPlan(RUN, Findings(SCALING), RoundNumber(3))

    taken = step(EVALUATE).read(
        plan, MODEL.state, Total(np.array([10.0, 2.0, 1.0, 4.0, 10.0, 2.0, 6.0, 4.0]), 10.0, 2)
    )

    figures = taken.figures
    assert figures is not None
    assert (figures.loss, figures.accuracy) == (0.2, 0.4)
    assert (figures.precision, figures.recall, figures.f1_score) == (1 / 3, 0.5, 0.4)
    assert taken.state is MODEL.state
    assert taken.following is None


def test_parameters_that_no_task_may_carry_name_the_largest_update() -> None:
    moved = Moved(np.array([0.0, 1e31, 0.0]), 2, (NODE, 1e31))

    with pytest.raises(FederatedError) as caught:
        training.check_combined(4, moved)

    assert caught.value.message == "training diverged in round 4: the largest update is node a's (norm 1e+31)"


def test_a_runs_settings_are_in_its_training_tasks() -> None:
    work = training.train_work(RunPlan(RUN, Findings(SCALING), RoundNumber(1)))

    assert (work.local_epochs, work.batch_size, work.learning_rate) == (2, 32, 0.1)
    assert OPTIONS.given["local_epochs"] == 2


@pytest.mark.parametrize(("clipping_norm", "least"), [(1.0, 0.45), (3.0, 0.4), (10.0, 0.2)])
@pytest.mark.parametrize("adapted", [False, True])
def test_steps_on_a_sum_converge_for_a_number_whose_inputs_go_together(
    clipping_norm: float, least: float, *, adapted: bool
) -> None:
    """Where no learning_rate is named: 20 inputs that share a part, 50 rounds, noise as of an epsilon of 1."""
    rng, n, size = np.random.default_rng(4), 4_000, 21
    inputs = rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, size - 1))
    rows = np.column_stack([inputs / inputs.std(axis=0), np.ones(n)])
    score = rows[:, :-1] @ rng.normal(size=size - 1)
    target = score / score.std() + 0.9 * rng.normal(size=n)
    target = (target - target.mean()) / target.std()

    threshold = 1.0 if adapted else clipping_norm
    run = with_policy(RUN, privacy_budget=1.0, trust_model="distributed", clipping_threshold=threshold)
    given = {"secure_aggregation": True, "aggregation_protocol": "shamir"}
    run = replace(run, options=replace(run.options, algorithm="linear_regression", given=given))
    norm = clipping_norm if adapted else None
    made = PrivacyPlan(1.0, sampling_rate=1.0, steps=1, expected_subjects=float(n), clipping_norm=norm)
    plan, step = RunPlan(run, Findings(SCALING, made), RoundNumber(1)), GradientStep("linear_regression")
    parameters = np.zeros(size)
    for _ in range(50):
        gradients = (rows @ parameters - target)[:, None] * rows
        lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
        total = (gradients * np.minimum(1.0, clipping_norm / lengths)).sum(axis=0)
        total += 30.0 * clipping_norm * rng.normal(size=size)
        parameters += step.scaled(plan, Total(total, 1.0, 1)).vector
    assert 1.0 - np.square(rows @ parameters - target).mean() > least


def test_where_the_noise_is_that_of_a_sum_a_round_is_one_step_over_all_unless_a_batch_is_named() -> None:
    secure = {"secure_aggregation": True, "aggregation_protocol": "shamir", "local_epochs": 1}
    for named, rate, moved in (({}, 1.0, 1.0), ({"batch_size": 25, "learning_rate": 0.5}, 0.25, 0.5)):
        run = with_policy(RUN, privacy_budget=4.0, trust_model="distributed")
        run = replace(run, options=replace(run.options, given={**secure, **named}, validation_split=0.0))
        made = after(run, before(run), count=100.0).findings.plan
        assert made is not None
        assert (made.sampling_rate, made.steps) == (pytest.approx(rate, rel=0.01), 1)
        plan = RunPlan(run, Findings(SCALING, made), RoundNumber(1))
        gradient = GradientStep("logistic_regression")
        assert made.expected_subjects is not None
        mean = gradient.scaled(plan, Total(np.ones(3), 1.0, 1)).vector * made.expected_subjects * rate
        assert mean == pytest.approx(-moved * np.ones(3), rel=0.01)
