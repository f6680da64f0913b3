"""A node's own part of a model: how it is come to, that nothing of it is answered, and that it predicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms import Table
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.local_terms import LocalTerms
from heliosdb.algorithms.neural import NEURAL_NETWORK
from heliosdb.algorithms.own_model import OWN
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.personalizing import PersonalizeStep, compare, personal_work
from heliosdb.algorithms.steps import PERSONALIZE
from heliosdb.algorithms.training import TRAIN
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.personal import PersonalPart
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE, State, freeze, make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey
from heliosdb.domain.update import Total, Update
from heliosdb.domain.vector import Contribution
from heliosdb.scoring.kinds import find_kind
from tests.support.runs import RUN, with_options

SCALING = Scaling((50.0, 120.0), (10.0, 15.0))
NAMES = ("age", "pressure")
ENCODING = Encoding(tuple(map(ColumnEncoding, NAMES)), ("0", "1"))
NODE = NodeName("a")


def rows(count: int = 200, seed: int = 3) -> Table:
    rng = np.random.default_rng(seed)
    features = rng.normal((50.0, 120.0), (10.0, 15.0), (count, 2))
    target = (features[:, 0] + rng.normal(0.0, 5.0, count) < 50.0).astype(np.float64)
    held_out = np.arange(count) % 5 == 0
    return Table(features, target, np.arange(count), held_out)


def plan_of(name: str = "logistic_regression", **options: Any) -> RunPlan:
    run = with_options(RUN, algorithm=name, **options)
    stated = {NODE: 200.0}
    return RunPlan(run, Findings(SCALING, encoding=ENCODING), RoundNumber(3), stated=stated)


def task_of(plan: RunPlan, step: Any, state: State) -> Task:
    asked = step.ask(plan, state)
    key = TaskKey(RUN.policy.workspace, RUN.id, plan.round, 0, step.name, NODE)
    reading = Reading("people", NAMES, "outcome", 0.2, 7)
    return Task(key, reading, asked.work, scaling=asked.scaling, state=asked.state, encoding=ENCODING)


def answered(plan: RunPlan, step: Any, state: State, memory: State = NO_STATE) -> Contribution:
    task = task_of(plan, step, state)
    step.check(task)
    found: Contribution = step.compute(rows(), task, memory, TaskDraws(task, b"key"))
    return found


def part_of(made: Contribution) -> PersonalPart:
    assert made.personal is not None
    return PersonalPart.from_state(freeze(made.personal))


LINEAR = make_state(parameters=np.array([0.3, -0.2, 0.1]))
NETWORK = Perceptron(2, (4, 1), "relu", "sigmoid")


def network() -> State:
    return NETWORK.to_state(np.random.default_rng(1).normal(0.0, 0.6, NETWORK.size).astype(np.float32))


@pytest.mark.parametrize("name", ["logistic_regression", "neural_network"])
def test_fine_tuning_goes_on_from_the_version_and_answers_evaluations_alone(name: str) -> None:
    method, state = (
        (LOGISTIC_REGRESSION, LINEAR) if name == "logistic_regression" else (NEURAL_NETWORK, network())
    )
    options: dict[str, Any] = {"layers": [4, 1]} if name == "neural_network" else {}
    plan = plan_of(name, personalization="fine_tune", personal_epochs=3, **options)
    step = method.steps[PERSONALIZE]

    made = answered(plan, step, state)

    assert made.stays is None
    measuring = personal_work(plan).measuring
    assert made.vector.size == 2 * measuring.size
    figures = compare(measuring, made.vector)
    assert figures["rows"] == 40 == made.weight
    assert figures["personal"]["loss"] < figures["global"]["loss"]
    part = part_of(made)
    assert (part.way, dict(part.figures)) == ("fine_tune", figures)
    predicted = find_kind(part.prediction.kind)(
        part.prediction.content, part.prediction.arrays, rows().features
    )
    held = rows().held_out
    accuracy = np.mean((predicted > 0.5)[held] == rows().target[held])
    assert accuracy == pytest.approx(figures["personal"]["accuracy"])


def test_fine_tuning_is_the_descent_of_a_training_round_with_its_own_epochs() -> None:
    plan = plan_of(personalization="fine_tune", personal_epochs=2)
    step = LOGISTIC_REGRESSION.steps[PERSONALIZE]
    task = task_of(plan, step, LINEAR)
    work = replace(personal_work(plan).training, local_epochs=2)
    moved = LOGISTIC_REGRESSION.train(rows(), LINEAR[PARAMETERS], work, TaskDraws(task, b"key").rng()).vector
    expected = LOGISTIC_REGRESSION.make_prediction(SCALING, LINEAR[PARAMETERS] + moved)

    part = part_of(answered(plan, step, LINEAR))

    assert part.prediction.content["slopes"] == list(expected.slopes)
    assert part.prediction.content["intercept"] == expected.intercept


def test_layers_that_stay_are_answered_as_not_moved_and_go_on_at_the_node() -> None:
    plan = plan_of("neural_network", layers=[4, 1], personalization="local_head")
    step, state, staying = NEURAL_NETWORK.steps[TRAIN], network(), 5

    first = answered(plan, step, state)
    assert first.stays is not None
    assert not first.vector[-staying:].any()
    assert first.vector[:-staying].any()
    head = first.stays[OWN]
    assert head.shape == (staying,)
    assert np.any(head != state[PARAMETERS][-staying:])

    again = answered(plan, step, state, freeze(first.stays))
    assert not again.vector[-staying:].any()
    assert np.any(again.vector[:-staying] != first.vector[:-staying])
    # The update of the shared layers is the one that a model with the node's own last layers gives.
    alike = freeze({**state, PARAMETERS: np.concatenate([state[PARAMETERS][:-staying], head])})
    assert answered(plan, step, alike).vector[:-staying].tobytes() == again.vector[:-staying].tobytes()


def test_a_model_with_layers_of_the_nodes_is_measured_and_kept_with_them() -> None:
    plan = plan_of("neural_network", layers=[4, 1], personalization="local_head")
    state = network()
    kept = answered(plan, NEURAL_NETWORK.steps[TRAIN], state).stays
    assert kept is not None
    memory = freeze(kept)
    own = np.concatenate([state[PARAMETERS][:-5], kept[OWN]])
    alike = freeze({**state, PARAMETERS: own})
    evaluate = NEURAL_NETWORK.steps[PERSONALIZE.__class__("evaluate")]
    plain = plan_of("neural_network", layers=[4, 1])

    measured = answered(plan, evaluate, state, memory).vector
    assert measured.tolist() == answered(plain, evaluate, alike).vector.tolist()

    part = part_of(answered(plan, NEURAL_NETWORK.steps[PERSONALIZE], state, memory))
    expected = NEURAL_NETWORK.predict(alike, Findings(SCALING, encoding=ENCODING))
    assert {k: v.tolist() for k, v in part.prediction.arrays.items()} == {
        k: v.tolist() for k, v in expected.arrays.items()
    }


def test_a_model_trained_beside_changes_no_bit_of_the_answer() -> None:
    plain = answered(plan_of(), LOGISTIC_REGRESSION.steps[TRAIN], LINEAR)
    beside = answered(plan_of(personalization="ditto"), LOGISTIC_REGRESSION.steps[TRAIN], LINEAR)

    assert plain.vector.tobytes() == beside.vector.tobytes()
    assert plain.stays is None
    assert beside.stays is not None


def test_the_pull_decides_between_the_node_and_the_federation() -> None:
    step, found = LOGISTIC_REGRESSION.steps[TRAIN], {}
    for term in (0.0, 1.0, 1e6):
        plan, memory = plan_of(personalization="ditto", personal_term=term), NO_STATE
        for _ in range(5):
            kept = answered(plan, step, LINEAR, memory).stays
            assert kept is not None
            memory = freeze(kept)
        found[term] = float(np.abs(memory[OWN] - LINEAR[PARAMETERS]).max())

    assert found[0.0] > 2 * found[1.0] > 0.0
    assert found[1e6] < 1e-4


def test_the_term_pulls_where_it_is_told_to() -> None:
    terms = LocalTerms(2.0, towards=np.array([1.0]))
    assert terms.apply(np.array([0.0]), np.array([9.0]), 0.5) == pytest.approx([0.5])


def test_a_node_that_took_part_in_no_round_makes_its_own_now() -> None:
    for options in ({"personalization": "ditto"}, {"personalization": "fine_tune"}):
        part = part_of(answered(plan_of(**options), LOGISTIC_REGRESSION.steps[PERSONALIZE], LINEAR))
        assert part.figures["personal"]["loss"] < part.figures["global"]["loss"]


def test_a_task_under_a_budget_is_refused_before_a_row() -> None:
    step = LOGISTIC_REGRESSION.steps[PERSONALIZE]
    task = task_of(plan_of(personalization="fine_tune"), step, LINEAR)
    with pytest.raises(FederatedError) as refused:
        step.check(replace(task, budget=Budget(1.0, 1e-5)))
    assert refused.value.code is ErrorCode.NOT_SUPPORTED
    for other in (TRAIN,):
        step = LOGISTIC_REGRESSION.steps[other]
        task = task_of(plan_of(personalization="ditto"), step, LINEAR)
        with pytest.raises(FederatedError) as refused:
            step.check(replace(task, budget=Budget(1.0, 1e-5)))
        assert refused.value.code is ErrorCode.NOT_SUPPORTED


def test_settings_of_one_way_are_not_those_of_another() -> None:
    step = LOGISTIC_REGRESSION.steps[PERSONALIZE]
    task = task_of(plan_of(personalization="ditto"), step, LINEAR)
    for settings in ({"way": "fine_tune"}, {"local_layers": 1}, {"personal_term": -1.0}, {"way": "mine"}):
        work = replace(task.work, settings={**task.work.settings, **settings})
        with pytest.raises(FederatedError) as refused:
            step.check(replace(task, work=work))
        assert refused.value.code is ErrorCode.INVALID_VALUE


def test_what_no_rows_can_have_led_to_is_a_fault() -> None:
    plan = plan_of(personalization="fine_tune")
    step = PersonalizeStep("logistic_regression")
    work = step.ask(plan, LINEAR).work
    vector = answered(plan, LOGISTIC_REGRESSION.steps[PERSONALIZE], LINEAR).vector

    def fault(vector: Any, weight: float = 40.0) -> str | None:
        return step.fault(plan, work, Update(NODE, vector, weight))

    assert fault(vector) is None
    other = vector.copy()
    other[0] += 1.0
    assert "not the same" in str(fault(other))
    assert fault(vector, 41.0) is not None
    half = vector.copy()
    half[vector.size // 2 + 1] = -1.0
    assert fault(half) is not None


def test_the_round_says_how_the_nodes_own_models_do_and_a_report_follows() -> None:
    plan = plan_of(personalization="fine_tune")
    step = PersonalizeStep("logistic_regression")
    vector = answered(plan, LOGISTIC_REGRESSION.steps[PERSONALIZE], LINEAR).vector

    taken = step.read(plan, LINEAR, Total(2.0 * vector, 80.0, 2))
    assert taken.following == "report"
    assert taken.state is LINEAR
    assert "2 nodes made a model of their own: accuracy" in taken.notes[0]
    none = step.read(plan, LINEAR, Total(0.0 * vector, 0.0, 0))
    assert none.following is None


def test_a_part_reads_back_as_it_was_written_and_fits_its_own_model_alone() -> None:
    part = part_of(
        answered(plan_of(personalization="fine_tune"), LOGISTIC_REGRESSION.steps[PERSONALIZE], LINEAR)
    )
    again = PersonalPart.from_bytes(part.to_bytes())
    assert again.to_bytes() == part.to_bytes()
    delivered = {
        "kind": "linear",
        "link": "logistic",
        "intercept": 9.0,
        "slopes": [],
        "booleans": [False, False],
    }
    made = again.replace_numbers(delivered)
    assert made["booleans"] == [False, False]
    assert made["intercept"] == part.prediction.content["intercept"]
    for other in ({**delivered, "link": "identity"}, {**delivered, "kind": "trees"}):
        with pytest.raises(FederatedError):
            again.replace_numbers(other)
