"""Neural networks under every aggregation rule: as the coordinator and its nodes do it, without either."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Update
from heliosdb.node.guards import make_private
from heliosdb.parts.strategies import STRATEGIES
from tests.contracts.journeys import compute, make_rows, make_run
from tests.support.runs import with_options

NODES = [NodeName(f"n{place}") for place in range(5)]
TABLES = {node: make_rows(number) for number, node in enumerate(NODES)}
OWN: dict[str, dict[str, object]] = {
    "fltrust": {"root_node": "n0"},
    "scaffold": {"local_epochs": 2},
    "fedadam": {"server_learning_rate": 0.05},
    "fedyogi": {"server_learning_rate": 0.05},
    "fedadagrad": {"server_learning_rate": 0.05},
}
RULES = [name for name in STRATEGIES.names() if isinstance(STRATEGIES.entry(name).part, str)]


def losses(rule: str, **options: object) -> list[float]:
    """The loss after every round of a run."""
    given = {
        "layers": [8, 1],
        "learning_rate": 0.1,
        "rounds": 4,
        "validation_frequency": 1,
        "local_epochs": 2,
    }
    run = with_options(
        make_run("neural_network"), aggregation=rule, **{**given, **OWN.get(rule, {}), **options}
    )
    course, model, findings = Course.of(run), ModelState(NO_STATE), Findings()
    stated: dict[NodeName, float] = {}
    kept: dict[NodeName, State] = dict.fromkeys(NODES, NO_STATE)
    found: list[float] = []
    for number in range(run.options.rounds + 1):
        plan = RunPlan(run, findings, RoundNumber(number), stated)
        name: StepName | None = course.algorithm.first(plan)
        exchange = 0
        while name is not None:
            question = course.ask(plan, exchange, name, model, len(NODES))
            gathering = question.gathering()
            for node in NODES:
                task = question.task(node, None, NO_STATE)
                question.step.check(task)
                made = compute(question.step, TABLES[node], task, kept[node])
                kept[node] = kept[node] if made.stays is None else made.stays
                update = Update(node, make_private(made), made.weight)
                question.check(update)
                gathering.take(update)
                if number == 0:
                    stated[node] = made.weight
            conclusion = course.conclude(question, model, gathering.result())
            model, taken = conclusion.model, conclusion.taken
            findings = taken.findings or findings
            plan, name, exchange = replace(plan, findings=findings), taken.following, exchange + 1
            if taken.figures is not None and taken.figures.loss is not None:
                found.append(taken.figures.loss)
        if not model.state:
            model = course.initial_model(replace(plan, stated=stated))
    return found


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_moves_a_network_to_a_better_one(rule: str) -> None:
    found = losses(rule)
    assert len(found) == 4
    assert found[-1] < min(found[0], math.log(2.0)) - 0.01


def test_what_a_rule_adds_at_the_nodes_changes_the_network() -> None:
    plain = losses("fedavg", rounds=3)
    assert losses("fedprox", rounds=3, proximal_term=0.0) == pytest.approx(plain, rel=1e-6)
    assert losses("fedprox", rounds=3, proximal_term=5.0)[-1] > plain[-1] + 0.01
    assert losses("scaffold", rounds=3) != pytest.approx(plain, rel=1e-6)


def test_networks_whose_steps_are_too_long_learn_where_nodes_find_their_own() -> None:
    rough = {"learning_rate": 30.0, "rounds": 8}
    assert losses("fedavg", **rough, adaptive_learning=True)[-1] < losses("fedavg", **rough)[-1] - 0.05
    assert losses("fedavg", adaptive_learning=True) == losses("fedavg")
