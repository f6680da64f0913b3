"""The plan of a run's budget: everything fits, the stricter rule wins, idle evaluations are left out."""

from __future__ import annotations

import math

import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.bounds import NOISE_MULTIPLIER, SAMPLING_RATE
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.privacy.accountant import Accountant, epsilon
from heliosdb.privacy.plan import (
    CLASSIFICATION_NOISE,
    EXCHANGE_SHARES,
    REGRESSION_NOISE,
    AccuracyNoise,
    SamplingPlan,
    TrainingPlan,
    TrainingRequest,
    plan_sampling,
    plan_statistics,
    plan_training,
    split_statistics,
)

BUDGET = Budget(0.5, 1e-5)
SAMPLING = SamplingPlan(0.27, 19)


def request(**given: object) -> TrainingRequest:
    values: dict[str, object] = {
        "rounds": 50,
        "sampling": SAMPLING,
        "evaluations": 0,
        "held_out": 88.0,
        "noise_variance": 3,
    }
    return TrainingRequest(**(values | given))  # type: ignore[arg-type]  # a test's shorthand


def everything(plan: TrainingPlan, asked: TrainingRequest, already: list[Mechanism]) -> list[Mechanism]:
    one = Mechanism(plan.noise_multiplier, asked.sampling.sampling_rate, asked.sampling.steps)
    evaluations = (
        []
        if plan.evaluation_noise_multiplier is None
        else [Mechanism(plan.evaluation_noise_multiplier)] * asked.evaluations
    )
    return [*already, *evaluations, *[one] * asked.rounds]


def test_statistics_take_a_third_of_the_squared_noise() -> None:
    statistics = plan_statistics(BUDGET)
    three_of_them = epsilon([statistics] * 3, BUDGET.delta)
    assert 0.49 < three_of_them <= 0.5
    assert statistics.noise_multiplier == pytest.approx(12.19, abs=0.05)


def test_the_exchanges_of_round_zero_cost_together_what_one_would() -> None:
    whole = plan_statistics(BUDGET)
    parts = split_statistics(whole, EXCHANGE_SHARES)
    assert epsilon(parts, BUDGET.delta) == pytest.approx(epsilon([whole], BUDGET.delta), rel=1e-6)
    assert sum(EXCHANGE_SHARES) == pytest.approx(1.0)


def test_statistics_are_content_with_a_third_of_what_earlier_runs_left() -> None:
    earlier = [Mechanism(10.0)]
    statistics = plan_statistics(BUDGET, earlier)
    assert 0.49 < epsilon([*earlier, *[statistics] * 3], BUDGET.delta) <= 0.5


def test_a_whole_run_spends_the_budget_and_not_more() -> None:
    already = [plan_statistics(BUDGET)]
    asked = request()
    plan = plan_training(BUDGET, already, asked)
    spent = epsilon(everything(plan, asked, already), BUDGET.delta)
    assert 0.499 < spent <= 0.5
    assert plan.epsilon == spent


def test_the_ledger_of_a_run_by_plan_ends_at_the_planned_number_exactly() -> None:
    already = [Mechanism(20.0), plan_statistics(BUDGET, [Mechanism(20.0)])]
    asked = request(rounds=4, evaluations=4, held_out=200_000.0)
    plan = plan_training(BUDGET, already, asked)
    assert plan.evaluation_noise_multiplier is not None
    ledger = Accountant(BUDGET.delta, already)
    for _ in range(asked.rounds):
        for release in (
            Mechanism(plan.noise_multiplier, 0.27, 19),
            Mechanism(plan.evaluation_noise_multiplier),
        ):
            assert ledger.fits(BUDGET.epsilon, release)
            ledger.add(release)
    assert ledger.epsilon() == plan.epsilon
    assert not ledger.fits(BUDGET.epsilon, Mechanism(plan.noise_multiplier, 0.27, 19))


def test_evaluations_that_would_mean_nothing_are_left_out_with_a_reason() -> None:
    already = [plan_statistics(BUDGET)]
    without = plan_training(BUDGET, already, request())
    plan = plan_training(BUDGET, already, request(evaluations=50))
    assert plan.evaluation_noise_multiplier is None
    assert plan.reason is not None
    assert "standard error" in plan.reason
    assert plan.noise_multiplier == without.noise_multiplier


def test_evaluations_of_many_subjects_are_planned_and_mean_something() -> None:
    already = [plan_statistics(BUDGET)]
    asked = request(rounds=10, evaluations=10, held_out=50_000.0)
    plan = plan_training(BUDGET, already, asked)
    assert plan.reason is None
    assert plan.evaluation_noise_multiplier is not None
    error = CLASSIFICATION_NOISE.error(plan.evaluation_noise_multiplier, 50_000.0, 3)
    assert error <= CLASSIFICATION_NOISE.largest
    assert epsilon(everything(plan, asked, already), BUDGET.delta) <= 0.5


def test_a_regression_has_to_hold_out_more_subjects_for_a_figure_to_be_of_use() -> None:
    already = [plan_statistics(BUDGET)]
    plans = [
        plan_training(
            BUDGET, already, request(rounds=10, evaluations=10, held_out=3_000.0, accuracy=accuracy)
        )
        for accuracy in (CLASSIFICATION_NOISE, REGRESSION_NOISE)
    ]
    assert [plan.evaluation_noise_multiplier is None for plan in plans] == [False, True]
    assert "standard error" in str(plans[1].reason)


def test_nothing_held_out_is_said_so() -> None:
    plan = plan_training(BUDGET, [], request(evaluations=5, held_out=0.0))
    assert plan.evaluation_noise_multiplier is None
    assert plan.reason == "loss and accuracy are not measured: no subject is held out"


def test_a_limit_per_round_makes_each_round_cheaper() -> None:
    asked = request(privacy_per_round=0.02)
    plan = plan_training(BUDGET, [], asked)
    assert plan.noise_multiplier > plan_training(BUDGET, [], request()).noise_multiplier
    assert epsilon([Mechanism(plan.noise_multiplier, 0.27, 19)], BUDGET.delta) <= 0.02
    assert plan.epsilon < 0.5


def test_a_generous_limit_per_round_changes_nothing() -> None:
    assert plan_training(BUDGET, [], request(privacy_per_round=0.4)) == plan_training(BUDGET, [], request())


@pytest.mark.parametrize(("given", "wins"), [(500.0, True), (0.5, False)])
def test_of_a_given_and_a_derived_multiplier_the_larger_wins(given: float, wins: bool) -> None:
    derived = plan_training(BUDGET, [], request()).noise_multiplier
    plan = plan_training(BUDGET, [], request(noise_multiplier=given))
    assert plan.noise_multiplier == (given if wins else derived)


def test_a_spent_budget_is_refused() -> None:
    with pytest.raises(FederatedError) as caught:
        plan_training(BUDGET, [Mechanism(5.0)], request())
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED


@pytest.mark.parametrize(
    ("subjects", "batch", "epochs", "rate", "steps"),
    [(118.0, 32, 5, 32 / 118, 19), (20.0, 32, 5, 1.0, 5), (1_000_000.0, 32, 1, 32e-6, 31_250)],
)
def test_sampling_sees_each_subject_as_often_as_there_are_epochs(
    subjects: float, batch: int, epochs: int, rate: float, steps: int
) -> None:
    plan = plan_sampling(subjects, batch, epochs)
    assert plan.sampling_rate == pytest.approx(rate)
    assert plan.steps == steps


@pytest.mark.parametrize("budget", [Budget(1e9, 1e-5), Budget(1e4, 0.5), Budget(0.05, 1e-9)])
@pytest.mark.parametrize("sampling", [SamplingPlan(1.0, 5), SamplingPlan(1e-9, 10_000_000)])
def test_whatever_the_budget_a_plan_asks_for_no_noise_that_a_task_may_not_have(
    budget: Budget, sampling: SamplingPlan
) -> None:
    statistics = plan_statistics(budget)
    asked = request(rounds=1000, sampling=sampling, evaluations=1, held_out=1e12)
    plan = plan_training(budget, [statistics], asked)
    assert NOISE_MULTIPLIER.hold(statistics.noise_multiplier)
    assert NOISE_MULTIPLIER.hold(plan.noise_multiplier)
    assert plan.evaluation_noise_multiplier is None or NOISE_MULTIPLIER.hold(plan.evaluation_noise_multiplier)
    assert plan.epsilon <= budget.epsilon


@pytest.mark.parametrize(
    ("subjects", "batch", "epochs"), [(1e15, 1, 1), (1e12, 1, 10_000), (0.0, 1_000_000, 10_000), (-5.0, 1, 1)]
)
def test_whatever_the_count_of_subjects_a_task_may_have_the_sampling_rate(
    subjects: float, batch: int, epochs: int
) -> None:
    plan = plan_sampling(subjects, batch, epochs)
    assert SAMPLING_RATE.hold(plan.sampling_rate)
    assert plan.steps * plan.sampling_rate >= epochs


REPORT = AccuracyNoise(math.sqrt(2.0), 10.0, 0.67, largest=0.1)


def test_a_report_takes_a_twentieth_and_the_run_still_ends_at_its_budget() -> None:
    already = [plan_statistics(BUDGET)]
    asked = request(held_out=50_000.0, report=REPORT)
    plan = plan_training(BUDGET, already, asked)
    assert plan.report_reason is None and plan.report_noise_multiplier is not None
    report = Mechanism(plan.report_noise_multiplier)
    assert 0.499 < epsilon([*everything(plan, asked, already), report], BUDGET.delta) <= 0.5
    whole = plan_training(BUDGET, already, request(rounds=1, sampling=SamplingPlan(1.0, 1)))
    assert plan.report_noise_multiplier == pytest.approx(whole.noise_multiplier * math.sqrt(20.0), rel=1e-6)
    without = plan_training(BUDGET, already, request(held_out=50_000.0))
    assert without.noise_multiplier < plan.noise_multiplier < 1.1 * without.noise_multiplier


def test_a_report_that_would_mean_nothing_is_left_out_with_a_reason() -> None:
    already = [plan_statistics(BUDGET)]
    plan = plan_training(BUDGET, already, request(held_out=500.0, report=REPORT))
    assert plan.report_noise_multiplier is None
    assert "no report is made of the model: with about 500 held-out" in str(plan.report_reason)
    assert plan.noise_multiplier == plan_training(BUDGET, already, request(held_out=500.0)).noise_multiplier


def test_no_budget_is_spent_on_a_report_s_noise_below_what_matters() -> None:
    plan = plan_training(Budget(8.0, 1e-5), [], request(held_out=1e7, report=REPORT))
    assert plan.report_noise_multiplier is not None
    assert REPORT.of_noise(plan.report_noise_multiplier, 1e7, 3) == pytest.approx(0.005)
