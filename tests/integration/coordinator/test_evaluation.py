"""After a real run what analysts know of an evaluation is there: curves, confusion, importance, each node's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb
from sklearn.metrics import brier_score_loss, roc_auc_score

from tests.integration.coordinator.support import FEATURES, World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_evaluation")

REPORTS = ("confusion_matrix", "roc_curve", "calibration", "feature_importance", "explain_model")


async def trained(world: World, *, rows: int = 400, **options: Any) -> None:
    for number, name in enumerate(("north", "south", "west")):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))
    create_model(world, **options)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    run = await world.finished()
    assert run["status"] in ("completed", "converged", "budget_exhausted"), run


def evaluation(world: World) -> dict[str, Any]:
    return {row["metric"]: row["value"] for row in world.query("SELECT * FROM federated_evaluate('risk')")}


def all_rows(world: World) -> tuple[Any, Any]:
    """Probabilities and outcomes of all rows of all nodes, by the version's function."""
    rows = []
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            rows += connection.execute("SELECT age, pressure, outcome FROM patient").fetchall()
    given = [{"age": age, "pressure": pressure} for age, pressure, _ in rows]
    with world.catalog() as connection:
        predicted = connection.execute(
            "SELECT federated_predict('risk', v.row) AS p FROM unnest(%s::jsonb[]) WITH ORDINALITY AS v (row, n)"
            " ORDER BY n",
            [[Jsonb(one) for one in given]],
        ).fetchall()
    return np.array([one["p"] for one in predicted]), np.array([outcome for *_, outcome in rows])


async def test_a_run_ends_with_a_report_of_the_version_that_it_publishes(world: World) -> None:
    create_workspace(world, min_nodes=3)
    await trained(world, validation_split=0.5, rounds=4)
    found, (chances, outcomes) = evaluation(world), all_rows(world)

    # Half of the rows are held out, by a secret of each node: what they say is what all say, but for chance.
    [held_out] = world.query(
        "SELECT sum((n.value -> 'figures' ->> 'rows')::int)::int AS rows"
        " FROM federated.version AS v, jsonb_each(v.report -> 'nodes') AS n"
    )
    assert 500 < held_out["rows"] < 700
    assert found["global_auc"] == pytest.approx(
        roc_auc_score(outcomes, chances), abs=3 * found["global_auc_std_error"]
    )
    assert found["global_brier"] == pytest.approx(brier_score_loss(outcomes, chances), abs=0.03)
    assert (found["global_mae"], found["global_r2"], found["global_c_index"]) == (None, None, None)

    confusion = world.query("SELECT * FROM federated_confusion_matrix('risk')")
    assert [(row["predicted"], row["actual"]) for row in confusion] == [
        ("0", "0"), ("0", "1"), ("1", "0"), ("1", "1"),
    ]  # fmt: skip
    counts = [row["count"] for row in confusion]
    assert sum(counts) == held_out["rows"]
    assert (counts[0] + counts[3]) / sum(counts) == pytest.approx(found["global_accuracy"])
    assert counts[3] / (counts[2] + counts[3]) == pytest.approx(found["global_precision"])

    curve = world.query("SELECT * FROM federated_roc_curve('risk')")
    assert (curve[0]["threshold"], curve[0]["fpr"], curve[0]["tpr"]) == (float("inf"), 0.0, 0.0)
    assert (curve[-1]["threshold"], curve[-1]["fpr"], curve[-1]["tpr"]) == (0.0, 1.0, 1.0)
    for name in ("fpr", "tpr"):
        assert [row[name] for row in curve] == sorted(row[name] for row in curve)
    area = np.trapezoid([row["tpr"] for row in curve], [row["fpr"] for row in curve])
    assert area == pytest.approx(found["global_auc"], abs=0.02)

    calibration = world.query("SELECT * FROM federated_calibration('risk')")
    assert [row["bin"] for row in calibration] == list(range(1, 11))
    assert sum(row["count"] for row in calibration) == pytest.approx(held_out["rows"], abs=5)
    for row in calibration:
        assert row["predicted"] is None or row["bin"] - 1 <= 10 * row["predicted"] <= row["bin"]

    importance = {
        row["feature"]: row for row in world.query("SELECT * FROM federated_feature_importance('risk')")
    }
    assert set(importance) == set(FEATURES)
    assert all(row["importance"] > 3 * row["std_error"] > 0 for row in importance.values())

    [each] = world.query(
        "SELECT federated._evaluate_columns('risk', columns => '{per_node_metrics}') AS found"
    )
    nodes = each["found"][0]["per_node_metrics"]
    assert set(nodes) == {"north", "south", "west"}
    assert all(0.5 < one["auc"] <= 1.0 and one["rows"] > 150 for one in nodes.values())


async def test_data_quality_is_that_of_each_node_and_of_all(world: World) -> None:
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(("north", "south", "west")):
        site = await world.add_site(name, rows=200, seed=0.1 * (number + 1))
        with world.cluster.connect(site.database) as connection:
            if name == "north":
                connection.execute("UPDATE patient SET pressure = NULL WHERE patient_id <= 12")
            if name == "west":
                connection.execute("UPDATE patient SET age = 9000 WHERE patient_id <= 6")
        world.register(site)
    create_model(world, rounds=1)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    assert (await world.finished())["status"] == "completed"

    everyone, *nodes = world.query("SELECT * FROM federated_data_quality_check('risk')")

    assert everyone["node_name"] is None
    assert everyone["missing_values"] == {"age": 0, "pressure": 12}
    assert everyone["outliers"] == {"age": 6, "pressure": 0}
    assert [row["node_name"] for row in nodes] == ["north", "south", "west"]
    assert [row["missing_values"]["pressure"] for row in nodes] == [12, 0, 0]
    assert [row["outliers"]["age"] for row in nodes] == [0, 0, 6]
    for site, row in zip(world.sites, nodes, strict=True):
        with world.cluster.connect(site.database) as connection:
            [(mean, scale)] = connection.execute(
                "SELECT avg(pressure), stddev_pop(pressure) FROM patient"
            ).fetchall()
        assert row["feature_statistics"]["pressure"]["mean"] == pytest.approx(mean)
        assert row["feature_statistics"]["pressure"]["scale"] == pytest.approx(scale)


async def test_under_a_budget_of_too_little_there_is_no_report_and_each_function_says_so(
    world: World,
) -> None:
    create_workspace(world, min_nodes=3, privacy_budget=2.0)
    await trained(world, rounds=1)

    for name in REPORTS:
        is_explained = name == "explain_model"
        expected = "is not supported under" if is_explained else "no report of version 1 of federated model"
        kind = errors.FeatureNotSupported if is_explained else errors.ObjectNotInPrerequisiteState
        with pytest.raises(kind, match=expected) as caught:
            world.query(f"SELECT * FROM federated_{name}('risk')")
        assert caught.value.diag.message_hint
        told = caught.value.diag.message_detail or ""
        assert is_explained or told.startswith("No report is made of the model: with about")
    found = evaluation(world)
    assert (found["global_auc"], found["global_brier"]) == (None, None)
    [quality] = world.query("SELECT * FROM federated_data_quality_check('risk')")
    assert quality["node_name"] is None
    assert quality["outliers"].keys() == quality["outliers_std_error"].keys() == set(FEATURES)
    assert quality["missing_values"].keys() == quality["missing_values_std_error"].keys() == set(FEATURES)
    assert world.query("SELECT count(*) AS n FROM federated.participation WHERE described IS NOT NULL") == [
        {"n": 0}
    ]


async def test_regression_has_its_errors_and_no_curves(world: World) -> None:
    create_workspace(world, min_nodes=3)
    await trained(
        world,
        algorithm="linear_regression",
        features=["pressure"],
        target="age",
        rounds=3,
        validation_split=0.3,
    )

    found = evaluation(world)
    assert 0.0 < found["global_mae"] < found["global_rmse"]
    assert found["global_r2"] == found["global_accuracy"]
    assert found["global_auc"] is None
    assert [row["feature"] for row in world.query("SELECT * FROM federated_feature_importance('risk')")] == [
        "pressure"
    ]
    for name, targets in (("roc_curve", "two classes"), ("confusion_matrix", "classes")):
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="is not defined for") as caught:
            world.query(f"SELECT * FROM federated_{name}('risk')")
        assert targets in (caught.value.diag.message_detail or "")


async def test_without_held_out_rows_the_reason_is_said(world: World) -> None:
    create_workspace(world, min_nodes=3)
    await trained(world, rows=200, rounds=1, validation_split=0.0)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="no report of version 1") as caught:
        world.query("SELECT * FROM federated_roc_curve('risk')")
    assert "validation_split is 0" in (caught.value.diag.message_detail or "")
    # Six of a node's 200 subjects; twenty would be enough for a report.
    world.execute("ALTER FEDERATED MODEL risk SET (validation_split = 0.03)")
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished(count=2))["status"] == "completed"
    with pytest.raises(errors.ObjectNotInPrerequisiteState) as caught:
        world.query("SELECT * FROM federated_roc_curve('risk')")
    assert "min_rows" in (caught.value.diag.message_detail or "")
