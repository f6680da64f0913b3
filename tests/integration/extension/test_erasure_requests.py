"""DELETE FROM FEDERATED TRAINING as the database carries it out: what is asked for, and what follows from answers.

There is no coordinator here: its steps are called as its role.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from heliosdb.catalog.erasures import plan_erasures, read_erasure
from heliosdb.catalog.psycopg_connection import connected
from tests.integration.extension.versions_support import execute, finish_run, value
from tests.support.cluster import Cluster

DELETION = "DELETE FROM FEDERATED TRAINING risk WHERE data_subject_id IN ('s-1', 's-2')"


@pytest.fixture
def asked(trained: psycopg.Connection) -> psycopg.Connection:
    """Two versions, of whose runs two nodes were a part; a coordinator has published its key."""
    trained.execute("INSERT INTO federated.coordinator_key (sealing_key) VALUES (%s)", [bytes(range(32))])
    for name in ("east", "west"):
        trained.execute(
            "INSERT INTO federated.node (workspace_id, name, status)"
            " SELECT workspace_id, %s, 'active' FROM federated.model WHERE name = 'risk'",
            [name],
        )
    trained.execute(
        "INSERT INTO federated.round (run_id, round_number) SELECT run_id, 0 FROM federated.version"
    )
    trained.execute(
        "INSERT INTO federated.participation (run_id, round_number, step, node_id, outcome)"
        " SELECT r.run_id, 0, 'statistics', n.node_id, 'received' FROM federated.round AS r, federated.node AS n"
    )
    trained.execute(
        'UPDATE federated.run SET policy = policy || \'{"min_nodes": 1, "min_nodes_per_round": null}\''
    )
    return trained


def answer(catalog: psycopg.Connection, **outcomes: str) -> None:
    """Have every request be over, with what each node says of it."""
    catalog.execute("SELECT federated._take_order(order_id, '\\xab') FROM federated.subject_order")
    for node, outcome in outcomes.items():
        catalog.execute(
            "UPDATE federated.order_answer SET state = 'answered', outcome = %s, statement = %s, signature = '',"
            " certificate_sha256 = '', answered_at = clock_timestamp() WHERE node_name = %s AND state = 'pending'",
            [outcome, json.dumps({"outcome": outcome, "datasets": []}).encode(), node],
        )
    catalog.execute("SELECT federated._settle_orders()")


def advance(daemon: psycopg.Connection) -> None:
    """Do what a coordinator does at one look."""
    with daemon.transaction():
        daemon.execute("SELECT federated._plan_erasures()")
        daemon.execute("SELECT * FROM federated._interrupt_runs()")
    daemon.execute(
        "SELECT federated._queue_retraining(source_run, was_interrupted) FROM federated._retrainings_due()"
    )
    daemon.execute("SELECT * FROM federated._retire_erased()")
    daemon.execute("SELECT federated._explain_erasures()")
    daemon.execute("SELECT federated._withhold_versions()")


def rows(catalog: psycopg.Connection, query: str) -> list[tuple[Any, ...]]:
    """Run a query."""
    return catalog.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("method = 'forget'", "method"),
        ("during_erasure = 'maybe'", "during_erasure"),
        ("methods = 'retrain'", "methods"),
    ],
)
def test_an_option_that_is_wrong_is_one_error_and_asks_nobody(
    asked: psycopg.Connection, options: str, named: str
) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=named):
        execute(asked, f"{DELETION} WITH ({options})")
    assert rows(asked, "SELECT FROM federated.subject_order") == []


def test_a_request_has_the_workspaces_terms_unless_it_names_its_own(asked: psycopg.Connection) -> None:
    workspace = value(asked, "name FROM federated.workspace")
    execute(asked, DELETION)
    execute(asked, f"ALTER FEDERATED WORKSPACE {workspace} SET (during_erasure = 'refuse')")
    execute(asked, DELETION, f"{DELETION} WITH (during_erasure = 'serve', method = 'suppress_only')")
    found = rows(
        asked, "SELECT terms, count(*) FROM federated.subject_order GROUP BY terms ORDER BY terms::text"
    )
    assert found == [
        ({"method": "retrain", "during_erasure": "refuse"}, 2),
        ({"method": "retrain", "during_erasure": "serve"}, 2),
        ({"method": "suppress_only", "during_erasure": "serve"}, 2),
    ]
    assert "s-1" not in str(rows(asked, "SELECT * FROM federated.audit"))


def test_versions_are_withheld_until_no_node_that_took_part_may_hold_the_subject(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    withheld = "SELECT bool_and(withheld) FROM federated.version"
    execute(asked, f"{DELETION} WITH (during_erasure = 'refuse')")
    assert rows(asked, withheld) == [(True,)]
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="while an erasure is carried out"):
        value(asked, "federated_model.risk(age => 10, smoker => false)")
    answer(asked, east="not held")
    advance(daemon)
    assert rows(asked, withheld) == [(True,)]
    answer(asked, west="not held")
    advance(daemon)
    assert rows(asked, withheld) == [(False,)]
    assert value(asked, "federated_model.risk(age => 10, smoker => false)") == 6.25


def test_what_learned_from_the_subject_is_trained_anew_once_and_retired(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    execute(asked, DELETION)
    execute(asked, DELETION)
    answer(asked, east="suppressed", west="not held")
    advance(daemon)
    advance(daemon)
    [(run, requested_by, options, source, policy)] = rows(
        asked,
        "SELECT r.run_id, r.requested_by, r.options, t.source_run, r.policy FROM federated.run AS r"
        " JOIN federated.retraining AS t USING (run_id) WHERE r.status = 'queued'",
    )
    [(former, current)] = rows(
        asked, "SELECT r.options, v.version FROM federated.run AS r JOIN federated.version AS v USING (run_id)"
        f" WHERE r.run_id = '{source}'",
    )  # fmt: skip
    assert (options, current) == (former | {"promote": True}, 2)
    assert (policy["min_nodes"], policy["min_nodes_per_round"]) == (2, 1)
    assert requested_by == value(asked, "current_user")
    assert rows(asked, "SELECT count(*) FROM federated.version WHERE retired_at IS NOT NULL") == [(0,)]
    assert "is trained anew" in value(asked, "DISTINCT message FROM federated_erasure_status")

    # It fails, and is queued again; then it leaves a version.
    daemon.execute("UPDATE federated.run SET status = 'failed', message = 'east was away', finished_at = now()"
                   " - interval '1 hour' WHERE run_id = %s", [run])  # fmt: skip
    daemon.execute("SELECT federated._explain_erasures()")
    assert value(asked, "DISTINCT message FROM federated_erasure_status").endswith("failed: east was away")
    advance(daemon)
    [(again,)] = rows(asked, "SELECT run_id FROM federated.run WHERE status = 'queued'")
    daemon.execute("UPDATE federated.version SET is_current = false WHERE is_current")
    daemon.execute(
        "INSERT INTO federated.version (model_id, version, run_id, round_number, features, scaling, sealed, sha256, is_current,"
        " prediction) SELECT model_id, 3, %s, 0, features, '{}', '', '\\xdcba', true, prediction FROM federated.version"
        " WHERE version = 2",
        [again],
    )
    daemon.execute("UPDATE federated.run SET status = 'completed' WHERE run_id = %s", [again])
    advance(daemon)
    retired = "SELECT version, prediction IS NULL, octet_length(sealed), is_current FROM federated.version"
    assert rows(asked, f"{retired} WHERE retired_at IS NOT NULL ORDER BY 1") == [
        (1, True, 0, False),
        (2, True, 0, False),
    ]
    assert rows(
        asked, "SELECT DISTINCT versions, sha256_before, sha256_after FROM federated_erasure_status"
    ) == [(["risk@1", "risk@2"], ["abcd", "abcd"], ["dcba", "dcba"])]
    assert value(asked, "count(*) FROM federated.erasure WHERE retired_at IS NULL") == 0


def test_a_version_that_people_trained_meanwhile_takes_the_place(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    execute(asked, DELETION)
    answer(asked, east="erased", west="not held")
    with daemon.transaction():
        daemon.execute("SELECT federated._plan_erasures()")
    assert finish_run(asked, daemon) == 3
    advance(daemon)
    assert rows(asked, "SELECT version FROM federated.version WHERE retired_at IS NOT NULL ORDER BY 1") == [
        (1,),
        (2,),
    ]
    assert rows(asked, "SELECT count(*) FROM federated.retraining") == [(0,)]


def test_only_suppressing_retires_nothing(asked: psycopg.Connection, daemon: psycopg.Connection) -> None:
    execute(asked, f"{DELETION} WITH (method = 'suppress_only')")
    answer(asked, east="suppressed", west="suppressed")
    advance(daemon)
    assert rows(asked, "SELECT count(*) FROM federated.version WHERE retired_at IS NOT NULL") == [(0,)]
    assert rows(asked, "SELECT count(*) FROM federated.run WHERE erased_at IS NOT NULL") == [(0,)]
    assert rows(asked, "SELECT DISTINCT versions, method FROM federated_erasure_status") == [
        (["risk@1", "risk@2"], "suppress_only")
    ]


def test_nothing_goes_on_from_a_run_that_is_concerned(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    asked.execute("UPDATE federated.run SET status = 'stopped'")
    asked.execute("UPDATE federated.round SET status = 'closed', finished_at = clock_timestamp()")
    execute(asked, DELETION)
    answer(asked, east="suppressed", west="not held")
    with daemon.transaction():
        daemon.execute("SELECT federated._plan_erasures()")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="cannot be resumed") as caught:
        execute(asked, "RESUME FEDERATED TRAINING risk")
    assert caught.value.diag.message_detail == "Data subjects were erased whose rows it had read."


def test_a_certificate_is_asked_for_by_its_request(asked: psycopg.Connection) -> None:
    execute(asked, DELETION)
    with pytest.raises(errors.UndefinedObject, match="there is no request for erasure"):
        value(asked, f"federated_erasure_certificate('{uuid4()}')")
    request = value(asked, "order_id FROM federated.subject_order LIMIT 1")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="is not carried out yet"):
        value(asked, f"federated_erasure_certificate('{request}')")


def test_a_later_request_retires_what_an_earlier_one_only_suppressed(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    execute(asked, f"{DELETION} WITH (method = 'suppress_only')")
    answer(asked, east="suppressed", west="not held")
    advance(daemon)
    # Whose rows were withdrawn once, the node holds no more: its versions have learned from them all the same.
    execute(asked, DELETION)
    answer(asked, east="not held", west="not held")
    advance(daemon)
    assert rows(
        asked, "SELECT DISTINCT versions, method FROM federated_erasure_status WHERE method = 'retrain'"
    ) == [(["risk@1", "risk@2"], "retrain")]
    assert rows(asked, "SELECT count(*) FROM federated.run WHERE erased_at IS NOT NULL") == [(2,)]


def test_what_went_on_from_a_run_that_is_concerned_is_concerned_as_well(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    # The node that held the subject was away, then: its rows are in what the run began with.
    for number in (3, 4):
        assert finish_run(asked, daemon) == number
        asked.execute(
            "UPDATE federated.run SET resumed_from = (SELECT run_id FROM federated.version WHERE version = %s),"
            " resumed_round = 0 WHERE run_id = (SELECT run_id FROM federated.version WHERE version = %s)",
            [number - 1, number],
        )
    execute(asked, f"{DELETION} WITH (during_erasure = 'refuse')")
    answer(asked, east="suppressed", west="not held")
    assert rows(asked, "SELECT count(*) FROM federated.version WHERE withheld") == [(4,)]
    advance(daemon)
    assert rows(asked, "SELECT DISTINCT versions FROM federated_erasure_status") == [
        (["risk@1", "risk@2", "risk@3", "risk@4"],)
    ]
    assert rows(asked, "SELECT count(*) FROM federated.run WHERE erased_at IS NOT NULL") == [(4,)]


def test_a_node_that_held_the_subject_stays_until_it_is_known_what_learned_from_it(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    unregister = "UNREGISTER FEDERATED NODE '{}' FROM WORKSPACE clinics"
    execute(asked, DELETION)
    answer(asked, east="suppressed")
    with pytest.raises(
        errors.ObjectNotInPrerequisiteState, match='"east" has answered a request for erasure'
    ):
        execute(asked, unregister.format("east"))
    execute(asked, unregister.format("west"))
    asked.execute("SELECT federated._settle_orders()")
    with daemon.transaction():
        daemon.execute("SELECT federated._plan_erasures()")
    execute(asked, unregister.format("east"))
    assert rows(asked, "SELECT count(*) FROM federated.erasure_version") == [(4,)]


def test_a_node_that_is_registered_again_has_what_it_took_part_in(
    asked: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    execute(asked, "UNREGISTER FEDERATED NODE 'east' FROM WORKSPACE clinics")
    asked.execute(
        "INSERT INTO federated.node (workspace_id, name, status)"
        " SELECT workspace_id, 'east', 'active' FROM federated.model"
    )
    execute(asked, DELETION)
    answer(asked, east="suppressed", west="not held")
    advance(daemon)
    assert rows(asked, "SELECT DISTINCT versions FROM federated_erasure_status") == [(["risk@1", "risk@2"],)]


def test_a_node_that_was_unregistered_before_leaves_the_certificate_incomplete(
    asked: psycopg.Connection, cluster: Cluster, federated_database: str
) -> None:
    execute(asked, "UNREGISTER FEDERATED NODE 'west' FROM WORKSPACE clinics")
    execute(asked, DELETION)
    answer(asked, east="not held")
    dsn = cluster.dsn(federated_database, user="heliosdb_daemon")
    with connected(dsn, application_name="test") as connection:
        orders = plan_erasures(connection)
        erasures = [read_erasure(connection, order) for order in orders]
    assert len(erasures) == 2
    for erasure in erasures:
        assert erasure.unasked == ("west",)
        assert erasure.exactness.startswith("incomplete: no word of west; of the others exact")
