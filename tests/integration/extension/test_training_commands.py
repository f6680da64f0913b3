"""START and STOP FEDERATED TRAINING on a real server: what is queued, refused and waited for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.integration.extension.commands_support import MODEL, NODE, WORKSPACE, execute, fetch
from tests.support.cluster import Cluster


def test_start_warns_while_nodes_are_missing(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, NODE, MODEL)
    notices: list[str] = []
    session.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
    execute(session, "START FEDERATED TRAINING risk")
    assert len(notices) == 2
    assert notices[0] == "no coordinator serves this database yet; the run waits for one"
    assert "has 1 node where a run needs 3" in notices[1]
    execute(session, "STOP FEDERATED TRAINING risk")
    session.execute("INSERT INTO federated.lease (epoch, holder) VALUES (1, 'coordinator')")
    execute(session, "START FEDERATED TRAINING risk")
    assert len(notices) == 3
    assert "has 1 node where a run needs 3" in notices[2]


PLAIN = "CREATE FEDERATED WORKSPACE clinics WITH (compliance_mode = 'HIPAA')"
NODES = (
    "REGISTER FEDERATED NODE 'clinic_a' IN WORKSPACE clinics WITH (endpoint = 'https://a:1')",
    "REGISTER FEDERATED NODE 'clinic_b' IN WORKSPACE clinics WITH (endpoint = 'https://b:1')",
)
START_PLAIN = "CALL federated.execute('START FEDERATED TRAINING risk')"
INSERT_PLAIN = "INSERT INTO federated.run (model_id) SELECT model_id FROM federated.model"


@pytest.mark.parametrize("start", [START_PLAIN, INSERT_PLAIN])
@pytest.mark.parametrize("mode", ["HIPAA", "GDPR", "BOTH"])
def test_plain_training_under_a_compliance_mode_needs_every_nodes_permission(
    session: psycopg.Connection, start: LiteralString, mode: str
) -> None:
    execute(session, PLAIN, MODEL)
    # What no statement sets yet is treated the same.
    session.execute(
        "UPDATE federated.workspace SET options = options || %s", [Jsonb({"compliance_mode": mode})]
    )
    session.execute("INSERT INTO federated.lease (epoch, holder) VALUES (1, 'coordinator')")

    def refusal() -> str | None:
        with pytest.raises(errors.InvalidParameterValue) as refused:
            session.execute(start)
        told = refused.value.diag
        assert told.message_primary == (
            f"federated training without a privacy_budget is refused under compliance_mode {mode}"
        )
        assert told.message_hint == (
            "Give the workspace a privacy_budget; or have each node's DBA ALTER FEDERATED DATASET ... SET"
            " (plain_answers = true), which is seen here within a minute."
        )
        return told.message_detail

    assert refusal() == "No node is registered."
    execute(session, *NODES)
    assert refusal() == "Not allowed by clinic_a (not met yet), clinic_b (not met yet)."
    session.execute("UPDATE federated.node SET plain_answers = name = 'clinic_a'")
    assert refusal() == "Not allowed by clinic_b."
    session.execute("UPDATE federated.node SET plain_answers = true")
    execute(session, "ALTER FEDERATED NODE 'clinic_a' IN WORKSPACE clinics SET (endpoint = 'https://c:1')")
    assert refusal() == "Not allowed by clinic_a (not met yet)."
    session.execute("UPDATE federated.node SET plain_answers = true")
    session.execute(start)
    assert fetch(session, "SELECT policy ->> 'compliance_mode' FROM federated.run") == [(mode,)]


def test_start_says_what_is_missing(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, "CREATE FEDERATED MODEL half WITH (target = 'outcome')")
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="incomplete: algorithm, features not set"):
        execute(session, "START FEDERATED TRAINING half")


def test_feature_ranges_without_a_budget_are_refused_at_start(session: psycopg.Connection) -> None:
    execute(session, "CREATE FEDERATED WORKSPACE w", MODEL.replace("clinics", "w"))
    with pytest.raises(errors.InvalidParameterValue, match="no effect without a privacy_budget"):
        execute(session, """START FEDERATED TRAINING risk WITH (feature_ranges = '{"age": [0, 120]}')""")


def test_a_rolled_back_start_starts_nothing(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL)
    with session.transaction(force_rollback=True):
        execute(session, "START FEDERATED TRAINING risk")
    assert fetch(session, "SELECT count(*) FROM federated.run") == [(0,)]


def test_second_start_of_a_model_is_refused(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL, "START FEDERATED TRAINING risk")
    with pytest.raises(errors.ObjectInUse, match='federated model "risk" is in training'):
        execute(session, "START FEDERATED TRAINING risk")


def test_a_start_that_loses_the_race_says_so(
    cluster: Cluster, federated_database: str, session: psycopg.Connection
) -> None:
    execute(session, WORKSPACE, MODEL)
    with cluster.connect(federated_database) as first, cluster.connect(federated_database) as second:
        first.autocommit = second.autocommit = False
        execute(first, "START FEDERATED TRAINING risk")
        pid = second.info.backend_pid
        with ThreadPoolExecutor(1) as pool:
            loser = pool.submit(execute, second, "START FEDERATED TRAINING risk")
            while not fetch(session, f"SELECT 1 FROM pg_locks WHERE pid = {pid} AND NOT granted"):
                assert not loser.done(), loser.exception()
            first.commit()
            with pytest.raises(errors.ObjectInUse, match='federated model "risk" is in training'):
                loser.result(timeout=300)
        second.rollback()


def test_a_model_in_training_can_be_stopped_but_not_dropped(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL, "START FEDERATED TRAINING risk")
    for statement in ("DROP FEDERATED MODEL risk CASCADE", "DROP FEDERATED WORKSPACE clinics CASCADE"):
        with pytest.raises(errors.ObjectInUse):
            execute(session, statement)
    session.execute("UPDATE federated.run SET status = 'running'")
    execute(session, "STOP FEDERATED TRAINING risk")
    assert fetch(session, "SELECT stop_requested, status::text FROM federated.run") == [(True, "running")]


def test_a_queued_run_stops_at_once_and_no_longer_keeps_its_model(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL, "START FEDERATED TRAINING risk", "STOP FEDERATED TRAINING risk")
    assert fetch(session, "SELECT status::text, message, finished_at IS NULL FROM federated.run") == [
        ("stopped", "stopped before it began", False)
    ]
    assert fetch(session, "SELECT wait_for_convergence('risk')") == [("stopped",)]
    notices: list[str] = []
    session.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
    execute(session, "DROP FEDERATED WORKSPACE clinics CASCADE")
    assert notices == ['drop cascades to federated model "risk"']


def test_wait_for_convergence_does_not_wait_for_what_nobody_else_sees(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL)
    with session.transaction(force_rollback=True):
        session.execute("CALL federated.execute('START FEDERATED TRAINING risk')")
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="was started in this transaction"):
            session.execute("SELECT wait_for_convergence('risk')")


def test_wait_for_convergence_times_out_and_is_cancellable(session: psycopg.Connection) -> None:
    execute(session, WORKSPACE, MODEL)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="never been in training"):
        session.execute("SELECT wait_for_convergence('risk')")
    execute(session, "START FEDERATED TRAINING risk")
    with pytest.raises(errors.QueryCanceled, match="timed out waiting"):
        session.execute("SELECT wait_for_convergence('risk', timeout_seconds => 0.2)")
    session.execute("SET statement_timeout = '200ms'")
    with pytest.raises(errors.QueryCanceled, match="statement timeout"):
        session.execute("SELECT wait_for_convergence('risk', timeout_seconds => 3600)")
