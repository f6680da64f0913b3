"""Tasks and plans: pure, and the same in every life of a coordinator."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from heliosdb.coordinator.planning import Findings, PrivacyPlan

from heliosdb.aggregation import Update
from heliosdb.coordinator import planning
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import ModelName, NodeName, RoundNumber, RunId, WorkspaceName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.run import Policy, Run, TrainingOptions
from heliosdb.domain.task import Scaling, Step, TaskKey, TrainWork
from heliosdb.transport.messages import encode_task, task_from_header

OPTIONS = TrainingOptions(
    algorithm="logistic_regression",
    features=("age", "pressure"),
    target="outcome",
    dataset=None,
    feature_ranges=(),
    seed=7,
    rounds=10,
    local_epochs=2,
    batch_size=32,
    learning_rate=0.1,
    aggregation="fedavg",
    convergence_threshold=0.001,
    early_stopping_rounds=10,
    target_accuracy=None,
    validation_split=0.2,
    validation_frequency=3,
)
POLICY = Policy(
    workspace=WorkspaceName("w"),
    privacy_budget=None,
    delta=1e-5,
    privacy_per_round=None,
    noise_multiplier=None,
    clipping_threshold=1.0,
    min_nodes=2,
    max_nodes=10,
    min_nodes_per_round=2,
    round_timeout=300.0,
    stragglers_timeout=300.0,
    data_residency=None,
)
RUN = Run(RunId(UUID(int=1)), ModelName("m"), 1, 1, OPTIONS, POLICY)
PRIVATE = replace(RUN, policy=replace(POLICY, privacy_budget=4.0))
SCALING = Scaling((50.0, 120.0), (10.0, 1 / 3))
NODE = NodeName("a")


def key(step: Step, number: int = 1, node: str = "a") -> TaskKey:
    return TaskKey(POLICY.workspace, RUN.id, RoundNumber(number), step, NodeName(node))


def private_findings() -> Findings:
    plan = planning.plan_round_zero(PRIVATE, ())
    size = planning.expected_size(PRIVATE, plan, Step.STATISTICS, np.zeros(0))
    answer = np.zeros(size)
    answer[[8, 130]], answer[-1] = 5000.0, 5000.0
    return planning.read_statistics(PRIVATE, plan, [Update(NODE, answer, 1.0)], [Mechanism(_noise(plan))])


def _noise(findings: Findings) -> float:
    assert findings.plan is not None
    return findings.plan.statistics_noise


def test_findings_survive_the_catalog_to_the_bit() -> None:
    plan = PrivacyPlan(1 / 3, training_noise=0.1 + 0.2, sampling_rate=1 / 7, steps=3, expected_subjects=1e-17)
    findings = Findings(SCALING, plan)

    texts = (json.loads(json.dumps(one)) for one in (findings.scaling_json(), findings.plan_json()))

    assert Findings.from_json(*texts) == findings
    assert Findings.from_json(None, None) == Findings()


def test_which_features_are_boolean_is_known_again_before_and_after_round_zero_closed() -> None:
    for findings in (Findings(booleans=(True, False)), Findings(SCALING, None, (True, False))):
        text = json.loads(json.dumps(findings.scaling_json()))

        assert Findings.from_json(text, None) == findings


def test_a_policy_laxer_than_the_workspaces_is_told_apart() -> None:
    strict = replace(POLICY, privacy_budget=4.0)

    assert "no privacy_budget" in (POLICY.laxity(strict) or "")
    assert "larger" in (replace(strict, privacy_budget=4.1).laxity(strict) or "")
    assert "delta" in (replace(strict, delta=1e-4).laxity(strict) or "")
    assert strict.laxity(strict) is None
    assert strict.laxity(POLICY) is None


def test_a_plain_run_of_laxer_compliance_than_the_workspaces_is_told_apart() -> None:
    plain, strict = POLICY, replace(POLICY, compliance_mode="HIPAA")

    assert "started under compliance_mode none, and workspace w is under HIPAA" in (
        plain.laxity(strict) or ""
    )
    assert strict.laxity(strict) is None
    assert strict.laxity(plain) is None
    assert replace(plain, privacy_budget=1.0).laxity(strict) is None


def test_a_task_says_the_compliance_mode_of_its_run() -> None:
    strict = replace(RUN, policy=replace(POLICY, compliance_mode="HIPAA"))

    for run, mode in ((RUN, "none"), (strict, "HIPAA")):
        task = planning.build_task(run, Findings(SCALING), key(Step.TRAIN), np.zeros(3), None)
        assert task.compliance_mode == mode


@pytest.mark.parametrize(("count", "budget"), [(1e12, 4.0), (0.0, 4.0), (30.0, 1e6), (3e5, 1e6), (1e6, 1e-2)])
def test_no_plan_makes_a_task_that_nodes_refuse(count: float, budget: float) -> None:
    run = replace(PRIVATE, policy=replace(PRIVATE.policy, privacy_budget=budget))
    plan = planning.plan_round_zero(run, ())
    answer = np.zeros(planning.expected_size(run, plan, Step.STATISTICS, np.zeros(0)))
    answer[[8, 130]], answer[-1] = max(count, 1e5), count
    try:
        findings = planning.read_statistics(run, plan, [Update(NODE, answer, 1.0)], [Mechanism(_noise(plan))])
    except FederatedError as error:
        assert error.code in (ErrorCode.BUDGET_EXHAUSTED, ErrorCode.INVALID_VALUE)
        return
    assert findings.plan is not None
    steps = [Step.TRAIN] + ([Step.EVALUATE] if findings.plan.evaluation_noise is not None else [])
    for known, step in ((plan, Step.STATISTICS), *((findings, step) for step in steps)):
        parameters = np.zeros(0 if step is Step.STATISTICS else 3)
        task = planning.build_task(run, known, key(step, int(step is not Step.STATISTICS)), parameters, None)
        assert task_from_header(encode_task(task, b"k" * 32)[0]).task.work == task.work


def test_a_round_of_more_steps_than_a_task_may_have_is_refused_with_what_to_do() -> None:
    plan = planning.plan_round_zero(PRIVATE, ())
    answer = np.zeros(planning.expected_size(PRIVATE, plan, Step.STATISTICS, np.zeros(0)))
    answer[[8, 130]], answer[-1] = 1e10, 1e10

    with pytest.raises(FederatedError, match="more than 1e\\+07") as caught:
        planning.read_statistics(PRIVATE, plan, [Update(NODE, answer, 1.0)], [Mechanism(_noise(plan))])

    assert caught.value.hint == "Raise batch_size, or lower local_epochs."


def test_features_of_next_to_no_spread_have_a_scale_that_nodes_take() -> None:
    sums = [4.0, 4.0, 0.0, 4e-304, 4.0, 8.0, 20.0, 2.0]

    findings = planning.read_statistics(RUN, Findings(), [Update(NODE, np.array(sums), 4.0)], ())

    assert findings.scaling is not None
    assert findings.scaling.scales == (1e-150, 1.0)


def test_a_given_seed_is_in_every_task_whatever_the_run() -> None:
    seeds = {
        planning.build_task(run, Findings(SCALING), key(step, 1, "a"), np.zeros(3), None).reading.seed
        for run in (RUN, replace(RUN, id=RunId(UUID(int=2))))
        for step in Step
    }

    assert seeds == {7}


def test_a_run_without_a_seed_has_one_of_its_own() -> None:
    drawn = {
        replace(RUN, id=RunId(UUID(int=number)), options=replace(OPTIONS, seed=None)).seed
        for number in (1, 1, 2)
    }

    assert len(drawn) == 2
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_a_node_reads_the_dataset_that_the_model_names_else_its_own() -> None:
    named = replace(RUN, options=replace(OPTIONS, dataset="of the model"))

    for run, expected in ((RUN, "of the node"), (named, "of the model")):
        task = planning.build_task(run, Findings(), key(Step.STATISTICS, 0), np.zeros(0), "of the node")
        assert task.reading.dataset == expected


def test_evaluations_are_counted_as_the_machine_makes_them() -> None:
    assert planning.count_evaluations(RUN) == 4  # rounds 3, 6, 9 and the last
    assert planning.count_evaluations(replace(RUN, options=replace(OPTIONS, rounds=9))) == 3
    assert planning.count_evaluations(replace(RUN, options=replace(OPTIONS, validation_split=0.0))) == 0


def test_without_a_budget_nothing_is_charged() -> None:
    assert planning.releases(RUN, Findings(SCALING), RoundNumber(1), evaluated=True) == []
    assert planning.expected_mechanism(RUN, Findings(SCALING), Step.TRAIN) is None


def test_a_private_run_charges_what_its_tasks_ask_for() -> None:
    findings = private_findings()
    assert findings.plan is not None

    train = planning.build_task(PRIVATE, findings, key(Step.TRAIN), np.zeros(3), None)

    assert isinstance(train.work, TrainWork)
    asked = train.work.privacy
    assert asked is not None
    charged = dict(planning.releases(PRIVATE, findings, RoundNumber(1), evaluated=True))
    assert charged[Step.TRAIN] == Mechanism(asked.noise_multiplier, asked.sampling_rate, asked.steps)
    assert charged[Step.TRAIN] == planning.expected_mechanism(PRIVATE, findings, Step.TRAIN)
    assert findings.plan.epsilon is not None
    assert findings.plan.epsilon <= 4.0


def test_no_evaluation_is_made_where_noise_leaves_no_figures() -> None:
    findings = private_findings()
    assert findings.plan is not None
    silent = replace(findings, plan=replace(findings.plan, evaluation_noise=None))

    assert planning.make_rules(PRIVATE, findings).evaluate_every == 3
    assert planning.make_rules(PRIVATE, silent).evaluate_every == 0
    assert planning.make_rules(PRIVATE, Findings(plan=silent.plan)).evaluate_every == 3


def test_a_run_is_not_begun_on_the_crumbs_of_a_budget() -> None:
    whole = planning.plan_round_zero(PRIVATE, ())
    assert whole.plan is not None
    all_of_it = Mechanism(whole.plan.statistics_noise / 2)  # a quarter was planned: twice the noise

    with pytest.raises(FederatedError) as caught:
        planning.plan_round_zero(PRIVATE, (all_of_it,))

    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_ranges_under_a_budget_are_for_every_column_or_none() -> None:
    ranges = (("age", 0.0, 120.0), ("pressure", 50.0, 250.0))
    declared = replace(PRIVATE, options=replace(OPTIONS, feature_ranges=ranges))
    plan = planning.plan_round_zero(declared, ())

    assert planning.statistics_work(declared, plan).ranges == ((0.0, 120.0), (50.0, 250.0))
    partly = replace(PRIVATE, options=replace(OPTIONS, feature_ranges=ranges[:1]))
    with pytest.raises(FederatedError, match="pressure"):
        planning.statistics_work(partly, plan)


def test_an_evaluation_is_read_over_all_nodes() -> None:
    answers = [Update(NodeName(node), np.array([1.0, 2.0, 5.0]), 5.0) for node in "ab"]

    figures = planning.read_evaluation(RUN, Findings(SCALING), answers)

    assert (figures.loss, figures.accuracy) == (0.2, 0.4)
