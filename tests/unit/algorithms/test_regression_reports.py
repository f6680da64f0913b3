"""What regressions share with all supervised learning: reports agree with evaluations, local terms and optimizers
have the form of the parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from heliosdb.algorithms import Table
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.evaluation import EVALUATE
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.algorithms.steps import REPORT
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.state import NO_STATE
from tests.support.pooled import Played, make_run, make_tables, play

FEATURES = ("a", "b")


def make_target(kind: str, score: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    match kind:
        case "number":
            return 1e3 + 50.0 * score + rng.normal(size=score.size)
        case "count":
            return rng.poisson(np.exp(score)).astype(float)
        case "two":
            return (score + rng.logistic(size=score.size) > 0).astype(float)
        case _:
            scores = np.column_stack([np.zeros(score.size), score, 0.5 - score])
            return np.argmax(scores + rng.gumbel(size=scores.shape), axis=1).astype(float)


def trained(algorithm: str, kind: str, **options: Any) -> tuple[Played, Table]:
    """A model of two inputs, and one node's rows, of which a third is held out."""
    rng = np.random.default_rng(4)
    x, shift = rng.normal([10.0, -3.0], [2.0, 0.5], (300, 2)), rng.normal(0.0, 0.5, 300)
    unit = 50.0 if kind == "number" else 1.0
    y = make_target(kind, x @ [0.3, 0.8] - 0.5 + shift, rng)
    classes = {"two": ("0", "1"), "three": ("x", "y", "z")}.get(kind, ())
    run = make_run(algorithm, FEATURES, **options)
    given = {"offset": shift * unit} if "offset" in options else {}
    tables = make_tables(x, y, 2, **given)
    if given:
        run = replace(run, options=replace(run.options, roles=(("offset", "w"),)))
    played = play(run, tables, classes)
    return played, replace(tables[1], held_out=tables[1].subjects % 3 == 0)


def answer(played: Played, step: StepName, table: Table) -> np.ndarray:
    run = replace(played.course.run, options=replace(played.course.run.options, validation_split=0.3))
    plan = RunPlan(run, played.findings, RoundNumber(played.rounds), {NodeName("n1"): 1e9})
    question = played.course.ask(plan, 1, step, played.model, 1)
    task = question.task(NodeName("n1"), None, NO_STATE)
    question.step.check(task)
    return question.step.compute(table, task, NO_STATE, TaskDraws(task, b"secret")).vector


@pytest.mark.parametrize(
    ("algorithm", "kind", "options", "classes"),
    [
        ("linear_regression", "number", {"offset": "w"}, 0),
        ("linear_regression", "number", {"optimizer": "sgd", "rounds": 2}, 0),
        ("poisson_regression", "count", {}, 0),
        ("poisson_regression", "count", {"offset": "w"}, 0),
        ("logistic_regression", "two", {"offset": "w"}, 2),
        ("logistic_regression", "three", {}, 3),
        ("logistic_regression", "three", {"offset": "w"}, 3),
    ],
)
def test_a_report_measures_what_an_evaluation_does(
    algorithm: str, kind: str, options: dict[str, Any], classes: int
) -> None:
    played, table = trained(algorithm, kind, **options)

    evaluated = answer(played, EVALUATE, table)
    layout = ReportLayout(classes, 2, 2)
    reported = layout.split(answer(played, REPORT, table))

    np.testing.assert_allclose(reported["head"], evaluated, rtol=1e-9)
    assert evaluated[0] == table.held_out.sum()
    # What is learnt is worse where it is shuffled.
    assert (reported["importance"].reshape(2, -1).sum(axis=1) > 0.0).all()


@pytest.mark.parametrize(
    ("options", "off"),
    [
        ({"optimizer": "momentum", "learning_rate": 0.02}, 0.2),
        ({"optimizer": "adam", "learning_rate": 0.02}, 0.2),
        # Corrected steps lead to the estimate of the pooled rows.
        ({"optimizer": "sgd", "aggregation": "scaffold", "learning_rate": 0.2}, 0.005),
        ({"optimizer": "sgd", "aggregation": "fedprox", "learning_rate": 0.2}, 0.15),
    ],
    ids=["momentum", "adam", "scaffold", "fedprox"],
)
def test_three_classes_are_learnt_by_every_optimizer_and_under_local_terms(
    options: dict[str, Any], off: float
) -> None:
    whole, _ = trained("logistic_regression", "three")
    played, _ = trained("logistic_regression", "three", rounds=60, batch_size=32, local_epochs=2, **options)

    found, expected = played.model.state["parameters"], whole.model.state["parameters"]
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found, expected, atol=off)


def test_counts_with_an_offset_are_those_of_the_pooled_rows() -> None:
    played, _ = trained("poisson_regression", "count", offset="w")
    rng = np.random.default_rng(4)
    x, shift = rng.normal([10.0, -3.0], [2.0, 0.5], (300, 2)), rng.normal(0.0, 0.5, 300)
    y = make_target("count", x @ [0.3, 0.8] - 0.5 + shift, rng)
    oracle = sm.GLM(y, sm.add_constant(x), family=sm.families.Poisson(), offset=shift).fit(tol=1e-14)
    np.testing.assert_allclose(played.column("estimate"), oracle.params, rtol=1e-7)
