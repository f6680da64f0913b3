"""The classes of an undeclared target: counted under noise, read with care, and at a price that is known before."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms import Table
from heliosdb.algorithms.classes import CLASSES, DEVIATIONS, ClassesStep, count_classes, read_counts
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION
from heliosdb.algorithms.statistics import REFINE, STATISTICS
from heliosdb.algorithms.training import TRAIN
from heliosdb.algorithms.works import ClassesWork
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Run
from heliosdb.domain.state import NO_STATE, make_state
from heliosdb.domain.task import Privacy, Task
from heliosdb.domain.update import Total, Update
from heliosdb.domain.vector import ClippedSum, Vector
from heliosdb.node.guards import make_private
from heliosdb.privacy.accountant import Accountant
from heliosdb.privacy.mechanisms import Lattice
from tests.support.runs import NODE, PRIVATE, RUN, SCALING, with_options, with_policy

STEP = ClassesStep("logistic_regression")
NODES = 3
TARGETS = [0.0, -0.0, 1.0, 1.0, 2.0, 0.5, -1.0, 1.7e308, -1e300, 5e-324]


def opened(run: Run, *, undeclared: bool = True) -> RunPlan:
    """What is known when round 0 opens."""
    plan = RunPlan(run, Findings(undeclared_target=undeclared), RoundNumber(0))
    return replace(plan, findings=LOGISTIC_REGRESSION.prepare(plan))


def table(target: Vector, others: int = 0, subjects: np.ndarray | None = None) -> Table:
    codes = np.arange(target.size) if subjects is None else subjects[: target.size]
    of_others = np.arange(target.size, target.size + others) if subjects is None else subjects[target.size :]
    return Table.from_rows(
        np.zeros((target.size, 1)), target, codes, np.zeros(target.size, dtype=bool), of_others
    )


def steps(made: Table, noise: float) -> np.ndarray:
    """The integers that the release door adds noise to."""
    answer = count_classes(made, ClassesWork("logistic_regression", noise))
    assert answer.guard == ClippedSum(1.0, Mechanism(noise))
    assert (answer.weight, answer.vector.shape) == (1.0, (3,))
    return np.rint(answer.vector / Lattice.of(1.0, noise, 3).step).astype(np.int64)


def read(plan: RunPlan, total: Vector) -> tuple[str, ...]:
    taken = STEP.read(plan, NO_STATE, Total(total, float(NODES), NODES))
    assert (taken.following, taken.findings, dict(taken.state)) == (STATISTICS, None, {})
    return tuple(taken.notes)


def released(plan: RunPlan, zeros: int, ones: int, others: int) -> Vector:
    """The sum of three nodes' answers, among which so many subjects are divided."""
    task = asked(plan)
    total = np.zeros(3)
    for k in range(NODES):
        target = np.concatenate([np.zeros(zeros // NODES), np.ones(ones // NODES)])
        answer = count_classes(table(target, others // NODES), ClassesWork.of(task.work))
        update = Update(NODE, make_private(answer), answer.weight)
        assert STEP.fault(plan, task.work, update) is None, k
        assert STEP.rows(plan, update) is None
        total += update.vector
    return total


def asked(plan: RunPlan) -> Task:
    return Course.of(plan.run).ask(plan, 0, CLASSES, ModelState(NO_STATE), 1).task(NODE, "d", NO_STATE)


# What it costs, and when it is asked.


@pytest.mark.parametrize("budget", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("ranges", [(), (("age", 0.0, 120.0), ("pressure", 0.0, 300.0))])
def test_it_is_the_first_exchange_has_a_tenth_of_round_zero_and_makes_that_no_dearer(
    budget: float, ranges: tuple[tuple[str, float, float], ...]
) -> None:
    run = with_options(with_policy(PRIVATE, privacy_budget=budget), feature_ranges=ranges)
    plan, declared = opened(run), opened(run, undeclared=False)
    rest = [STATISTICS] if ranges else [STATISTICS, REFINE, REFINE]

    costs, before = LOGISTIC_REGRESSION.releases(plan), LOGISTIC_REGRESSION.releases(declared)

    assert [cost.step for cost in costs] == [CLASSES, *rest]
    assert [cost.step for cost in before] == rest
    weights = [cost.mechanism.noise_multiplier**-2 for cost in costs]
    assert weights[0] == pytest.approx(0.1 * sum(weights))
    assert weights[1:] == pytest.approx([0.9 * one.mechanism.noise_multiplier**-2 for one in before])
    accountant = Accountant(run.policy.delta)
    whole = [accountant.epsilon(*(cost.mechanism for cost in every)) for every in (costs, before)]
    assert whole[0] == pytest.approx(whole[1], rel=1e-6)
    assert asked(plan).work.privacy == Privacy(costs[0].mechanism, 1.0)


def test_round_zero_begins_with_it_only_where_it_was_reserved() -> None:
    plan = opened(PRIVATE)

    assert LOGISTIC_REGRESSION.first(plan) == CLASSES
    assert LOGISTIC_REGRESSION.first(replace(plan, round=RoundNumber(1))) == TRAIN
    for other in (opened(PRIVATE, undeclared=False), RunPlan(RUN, Findings(), RoundNumber(0))):
        assert LOGISTIC_REGRESSION.first(other) == STATISTICS
    regression = with_options(PRIVATE, algorithm="linear_regression")
    assert LINEAR_REGRESSION.first(opened(regression, undeclared=False)) == STATISTICS


def test_a_node_refuses_to_count_without_noise_or_with_what_counting_has_no_use_for() -> None:
    task = asked(opened(PRIVATE))
    STEP.check(task)

    for wrong in (
        replace(task, work=replace(task.work, privacy=None)),
        replace(task, work=replace(task.work, size=4)),
        replace(task, work=replace(task.work, settings={"batch_size": 3})),
        replace(task, work=replace(task.work, privacy=Privacy(Mechanism(1.0, 0.5, 2), 1.0))),
        replace(task, scaling=SCALING),
        replace(task, state=make_state(parameters=np.zeros(3))),
    ):
        with pytest.raises(FederatedError) as caught:
            STEP.check(wrong)
        assert caught.value.code is ErrorCode.INVALID_VALUE


# What nodes answer.


def test_a_subject_counts_once_by_the_shares_of_its_rows() -> None:
    subjects = np.array([5, 5, 5, 9, 9, 7, 5, 8, 8])
    made = table(np.array([0.0, 0.0, 1.0, 1.0, 0.5, 1.0]), subjects=subjects)

    answer = count_classes(made, ClassesWork("logistic_regression", 1.0))

    # 5: two zeros, a one, an other; 9: a one and 1/2; 7: a one; 8: others.
    np.testing.assert_allclose(answer.vector, [0.5, 0.25 + 0.5 + 1.0, 0.25 + 0.5 + 1.0], atol=1e-6)


def test_nothing_is_counted_in_an_empty_table() -> None:
    assert steps(table(np.empty(0)), 1.0).tolist() == [0, 0, 0]
    assert steps(table(np.empty(0), others=2), 1.0)[:2].tolist() == [0, 0]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_one_subject_moves_the_counts_by_no_more_than_declared_and_by_itself_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, others = int(rng.integers(0, 60)), int(rng.integers(0, 60))
    target = rng.choice(TARGETS, size=rows)
    subjects = rng.integers(0, 1 + (rows + others) // 3, size=rows + others)
    noise = float(rng.choice([0.01, 1.0, 300.0]))
    whole = steps(table(target, subjects=subjects), noise)
    for subject in np.unique(subjects)[:5]:
        keep = subjects != subject
        rest = steps(table(target[keep[:rows]], subjects=subjects[keep]), noise)
        own = steps(table(target[~keep[:rows]], subjects=subjects[~keep]), noise)
        assert (whole - rest).tolist() == own.tolist()
        assert (
            math.hypot(*own.tolist())
            <= Lattice.of(1.0, noise, 3).std / noise / Lattice.of(1.0, noise, 3).step
        )


@pytest.mark.parametrize("rows", [1, 1000])
@pytest.mark.parametrize("value", TARGETS)
def test_a_subject_of_many_rows_of_one_value_adds_one(rows: int, value: float) -> None:
    made = table(np.full(rows, value), subjects=np.zeros(rows, dtype=np.int64))
    one = np.rint(1.0 / Lattice.of(1.0, 1.0, 3).step)

    place = {0.0: 0, 1.0: 1}.get(value, 2)

    assert steps(made, 1.0).tolist() == [int(one) if k == place else 0 for k in range(3)]


# How they are read.


def test_more_than_noise_of_neither_class_ends_the_run_naming_the_target_and_what_was_released() -> None:
    with pytest.raises(FederatedError) as caught:
        read_counts(np.array([3.2, 416.1, 166.7]), 4.7, "Class")

    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert caught.value.message == (
        'the target "Class" is neither 0 nor 1 for about 167 of about 586 subjects,'
        " as counted under the privacy budget: target_classes names its two classes, class 0 first"
    )


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([300.0, 200.0, 19.9], []),
        ([30_000.0, 20_000.0, 490.0], []),
        ([300.0, 20.0, -3.0], ['class 1 of the target "y" could not be told from noise']),
        ([-3.0, 300.0, 12.0], ['class 0 of the target "y" could not be told from noise']),
        (
            [15.0, 14.0, 1.0],
            [
                'whether the target "y" is 0 or 1 could not be told from noise:'
                " target_classes, or a CHECK at every node, declares it"
            ],
        ),
    ],
)
def test_what_is_lost_in_noise_is_said_and_ends_nothing(counts: list[float], said: list[str]) -> None:
    assert list(read_counts(np.array(counts), 5.0, "y")) == said


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("subjects", [376, 1000, 6000])
def test_classes_1_and_2_do_not_pass_in_silence_and_are_refused_where_there_are_subjects_enough(
    epsilon: float, subjects: int
) -> None:
    plan = opened(with_policy(PRIVATE, privacy_budget=epsilon))
    refused = noted = 0
    for _ in range(40):
        total = released(plan, 0, round(0.7 * subjects), round(0.3 * subjects))
        try:
            noted += bool(read(plan, total))
        except FederatedError as error:
            assert 'the target "outcome"' in error.message
            refused += 1

    # Noise alone stands out once in 30,000 times: of forty one or two do now and then, and three do not.
    assert refused + noted >= 38
    if epsilon * subjects >= 3000:
        assert refused == 40


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 8.0])
@pytest.mark.parametrize("subjects", [376, 1000, 6000])
def test_classes_0_and_1_pass(epsilon: float, subjects: int) -> None:
    plan, refused = opened(with_policy(PRIVATE, privacy_budget=epsilon)), 0

    for _ in range(40):
        try:
            read(plan, released(plan, round(0.7 * subjects), round(0.3 * subjects), 0))
        except FederatedError:
            refused += 1

    # As noise alone does, once in 30,000 times; of forty not three times.
    assert refused <= 2


def test_noise_alone_is_refused_in_less_than_one_run_of_ten_thousand() -> None:
    # It is Gaussian, and the sum of the nodes' too; the part of the subjects only makes it rarer.
    assert 0.5 * math.erfc(DEVIATIONS / math.sqrt(2.0)) < 1e-4
