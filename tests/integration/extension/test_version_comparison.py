"""Two versions compared: which figures are of the same rows, and what is said where they are not."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, finish_run, value
from tests.support.cluster import Cluster


def compare(session: psycopg.Connection, a: str, b: str) -> Any:
    """Compare two versions of the model."""
    return value(session, f"compare_federated_models('risk', version_a => '{a}', version_b => '{b}')")


def test_two_versions_are_compared(
    trained: psycopg.Connection,
    daemon: psycopg.Connection,
    operator: psycopg.Connection,
    cluster: Cluster,
    federated_database: str,
) -> None:
    finish_run(trained, daemon, slopes=[3.5, 6.0], target_scale=1.0)
    finish_run(trained, daemon, slopes=[0.25, 1.0], target_scale=2.0)
    finish_run(trained, daemon, features=["bmi", "smoker"])
    finish_run(trained, daemon, kept=False)
    execute(operator, "TAG FEDERATED MODEL risk VERSION 3 AS 'candidate'")
    trained.execute(
        "UPDATE federated.version SET global_loss_std_error = 0.03 * (2 - version / 3),"
        " global_accuracy_std_error = 0.04 * (2 - version / 3) WHERE version IN (1, 3)"
    )
    trained.execute("UPDATE federated.version SET global_loss_std_error = 0.08 WHERE version = 3")
    with cluster.connect(federated_database, user="an_analyst") as analyst:
        found = compare(analyst, "1", "candidate")
        assert found == {
            "version_a": {"version": 1, "round_number": 3, "global_loss": 1.0, "global_accuracy": 0.75, "epsilon": 0.25,
                          "global_loss_std_error": 0.06, "global_accuracy_std_error": 0.08, "parent": None},
            "version_b": {"version": 3, "round_number": 3, "global_loss": 1 / 3, "global_accuracy": 0.75, "epsilon": 0.25,
                          "global_loss_std_error": 0.08, "global_accuracy_std_error": 0.04, "parent": None},
            "comparable": True, "reason": None,
            "difference": {"global_loss": 1 / 3 - 1, "global_accuracy": 0, "epsilon": 0, "round_number": 0,
                           "global_loss_std_error": pytest.approx(0.1),
                           "global_accuracy_std_error": pytest.approx((0.08**2 * 1.25) ** 0.5)},
            "parameter_distance": 5.0,
        }  # fmt: skip
        assert compare(analyst, "1", "4")["parameter_distance"] == 0
        assert compare(analyst, "1", "5")["parameter_distance"] is None
        assert compare(analyst, "1", "6")["parameter_distance"] is None
        with pytest.raises(errors.UndefinedObject, match='has no version "7"'):
            compare(analyst, "1", "7")
        with pytest.raises(errors.NullValueNotAllowed):
            analyst.execute("SELECT compare_federated_models('risk', NULL, '1')")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("""options || '{"validation_split": 0.25}'""", "validation_split differs"),
        ("""options || '{"target": "other", "dataset": "d"}'""", "target differs; dataset differs"),
        ("""options || '{"algorithm": "linear_regression"}'""", "algorithm differs"),
        ("""options || '{"seed": 5, "rounds": 3, "features": ["age"]}'""", None),
    ],
)
def test_figures_of_other_rows_are_no_difference_and_compare_says_so(
    trained: psycopg.Connection, change: str, reason: str | None
) -> None:
    trained.execute(
        f"UPDATE federated.run SET options = {change} FROM federated.version AS v"  # type: ignore[arg-type]
        " WHERE v.run_id = run.run_id AND v.version = 2"
    )
    found = compare(trained, "1", "2")
    assert (found["comparable"], found["reason"]) == (reason is None, reason)


def test_versions_that_other_nodes_evaluated_or_that_have_no_figures_are_not_comparable(
    trained: psycopg.Connection,
) -> None:
    trained.execute(
        "INSERT INTO federated.node (workspace_id, name) SELECT workspace_id, 'late' FROM federated.workspace LIMIT 1"
    )
    trained.execute(
        "INSERT INTO federated.round (run_id, round_number) SELECT run_id, round_number FROM federated.version"
        " WHERE version = 2"
    )
    trained.execute(
        "INSERT INTO federated.participation (run_id, round_number, exchange, step, node_id, outcome)"
        " SELECT v.run_id, v.round_number, 1, 'evaluate', n.node_id, 'received'"
        " FROM federated.version AS v, federated.node AS n WHERE v.version = 2 AND n.name = 'late'"
    )
    assert compare(trained, "1", "2")["reason"] == "other nodes evaluated them"
    assert compare(trained, "2", "2")["comparable"]
    trained.execute("UPDATE federated.version SET global_loss = NULL WHERE version = 2")
    assert compare(trained, "1", "2")["reason"] == "a loss is not known; other nodes evaluated them"


def test_who_answered_to_a_report_does_not_matter_and_what_it_said_is_kept_of_each(
    trained: psycopg.Connection,
) -> None:
    trained.execute(
        "INSERT INTO federated.node (workspace_id, name)"
        " SELECT w.workspace_id, n.name FROM (SELECT workspace_id FROM federated.workspace LIMIT 1) AS w,"
        " (VALUES ('one'), ('other')) AS n (name)"
    )
    trained.execute(
        "INSERT INTO federated.round (run_id, round_number) SELECT run_id, round_number FROM federated.version"
        " WHERE version IN (1, 2)"
    )
    trained.execute(
        "INSERT INTO federated.participation (run_id, round_number, exchange, step, node_id, outcome)"
        " SELECT v.run_id, v.round_number, s.exchange, s.step, n.node_id, 'received'"
        " FROM federated.version AS v, federated.node AS n, (VALUES (1, 'evaluate'), (2, 'report')) AS s (exchange, step)"
        " WHERE v.version IN (1, 2) AND n.name IN ('one', 'other')"
        " AND NOT (s.step = 'report' AND v.version = 1 AND n.name = 'one')"
    )
    found = compare(trained, "1", "2")
    assert (found["comparable"], found["reason"]) == (True, None)
    trained.execute("UPDATE federated.version SET report = jsonb_build_object('rows', version)")
    [(kept,)] = trained.execute("SELECT (federated._read_version('risk', '2')).report").fetchall()
    assert kept == {"rows": 2}
