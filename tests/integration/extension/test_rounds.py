"""Rounds of any steps and any number of exchanges: what the coordinator records, and what views make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import errors

from heliosdb.aggregation import Agreement
from heliosdb.catalog import ledger, performance, rounds, runs
from heliosdb.catalog.connection import load_statements
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.privacy import Mechanism, Spending
from heliosdb.domain.run import Outcome, Run
from tests.integration.extension.versions_support import execute
from tests.support.cluster import Cluster

A, B, C = NODES = tuple(NodeName(name) for name in "abc")
ONE = RoundNumber(1)
TRAIN, EVALUATE, GROW = StepName("train"), StepName("evaluate"), StepName("grow")
RECEIVED, DROPPED, PENDING = Outcome.RECEIVED, Outcome.DROPPED, Outcome.PENDING


@pytest.fixture
def daemon(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[PsycopgConnection]:
    """A coordinator's connection, in a catalog with three nodes."""
    for name in NODES:
        execute(
            catalog,
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE clinics WITH (endpoint = 'https://{name}:1')",
        )
    with connected(
        cluster.dsn(federated_database, user="heliosdb_daemon"), application_name="test"
    ) as connection:
        become_daemon(connection)
        yield connection


@pytest.fixture
def run(catalog: psycopg.Connection, daemon: PsycopgConnection) -> Run:
    """A run of the model, claimed."""
    execute(catalog, "START FEDERATED TRAINING risk")
    (active,) = runs.list_active_runs(daemon)
    assert runs.claim_run(daemon, active.id)
    record = runs.find_run(daemon, active.id)
    assert record is not None
    return record.run


def record(
    daemon: PsycopgConnection, run: Run, *exchanges: tuple[StepName, Mapping[NodeName, Outcome]]
) -> None:
    """Write round 1 as it went, exchange by exchange; a node's update took as many seconds as its number."""
    for exchange, (step, outcomes) in enumerate(exchanges):
        if exchange == 0:
            rounds.open_round(daemon, run, ONE, step, outcomes)
        else:
            rounds.add_tasks(daemon, run, ONE, exchange, step, outcomes)
        settled = [
            rounds.Settlement(node, outcome, None, 10.0, 100, 200, float(exchange + 1))
            for node, outcome in outcomes.items()
            if outcome is not PENDING
        ]
        rounds.settle(daemon, run, ONE, exchange, step, settled)


def shown(catalog: psycopg.Connection) -> tuple[int, int, int]:
    """How many took part in round 1, by the status and by the metrics, and how many were dropped."""
    [(status,)] = catalog.execute(
        "SELECT participating_nodes FROM federated_training_status('risk')"
    ).fetchall()
    [(metrics, dropped)] = catalog.execute(
        "SELECT participating_nodes, dropped_nodes FROM federated_training_metrics('risk')"
    ).fetchall()
    return status, metrics, dropped


def reported(catalog: psycopg.Connection) -> dict[str, tuple[int, float | None]]:
    """Rounds and mean time of each node."""
    rows = catalog.execute(
        "SELECT node_name, rounds_participated, avg_round_time_seconds FROM federated_node_status"
    ).fetchall()
    return {name: (count, seconds) for name, count, seconds in rows}


@pytest.mark.parametrize(
    "file_name",
    ["runs", "rounds", "ledger", "events", "lease", "nodes", "publication", "performance", "participant", "spending"],
)  # fmt: skip
def test_every_statement_is_valid_for_the_role_that_runs_it(
    daemon: PsycopgConnection, file_name: str
) -> None:
    for statement in load_statements(f"{file_name}.sql").values():
        text, types = statement.text, ", ".join(statement.types)
        if text.startswith(("SET", "LISTEN")):
            continue
        declared = f"PREPARE checked ({types}) AS {text}" if types else f"PREPARE checked AS {text}"
        daemon.raw.execute(declared)  # type: ignore[arg-type]
        daemon.raw.execute("DEALLOCATE checked")


def test_a_round_of_training_and_evaluation_is_shown_as_ever(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    record(
        daemon, run, (TRAIN, {A: RECEIVED, B: RECEIVED, C: DROPPED}), (EVALUATE, {A: RECEIVED, B: DROPPED})
    )
    assert shown(catalog) == (2, 2, 2)
    assert reported(catalog) == {"a": (1, 1.0), "b": (1, 1.0), "c": (0, None)}


def test_who_is_lost_in_a_later_message_of_the_first_step_takes_no_part(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    record(
        daemon,
        run,
        (GROW, {A: RECEIVED, B: RECEIVED, C: RECEIVED}),
        (GROW, {A: RECEIVED, B: DROPPED, C: PENDING}),
        (EVALUATE, {A: DROPPED}),
    )
    assert shown(catalog) == (2, 2, 2)
    # Of a step of several messages the longest counts; the first update of c is all that there is of it yet.
    assert reported(catalog) == {"a": (1, 2.0), "b": (0, None), "c": (1, 1.0)}


def test_rows_of_a_restored_dump_that_know_no_exchange_are_shown_the_same(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    record(daemon, run, (TRAIN, {A: RECEIVED, B: DROPPED}), (EVALUATE, {A: RECEIVED}))
    before = shown(catalog)
    catalog.execute("UPDATE federated.participation SET exchange = 0")
    assert shown(catalog) == before == (1, 1, 1)


def test_the_last_exchange_decides_whether_a_node_is_slow(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    catalog.execute("UPDATE federated.node SET status = 'active'")
    record(daemon, run, (GROW, {A: RECEIVED, B: RECEIVED}), (GROW, {A: RECEIVED}))
    rounds.add_tasks(daemon, run, ONE, 2, EVALUATE, [A, B])
    rounds.settle(
        daemon,
        run,
        ONE,
        2,
        EVALUATE,
        [rounds.Settlement(B, DROPPED, "timed out"), rounds.Settlement(A, RECEIVED)],
    )
    found = dict(catalog.execute("SELECT node_name, status FROM federated_node_status").fetchall())
    assert (found["a"], found["b"]) == ("active", "slow")


def test_a_task_is_named_by_its_exchange(daemon: PsycopgConnection, run: Run) -> None:
    record(daemon, run, (GROW, {A: RECEIVED}), (GROW, {A: DROPPED}))
    assert rounds.list_participation(daemon, run.id, 1) == [
        rounds.Participation(A, 0, GROW, RECEIVED, 10.0, asked=1),
        rounds.Participation(A, 1, GROW, DROPPED, 10.0, asked=1),
    ]
    with pytest.raises(errors.UniqueViolation):
        rounds.add_tasks(daemon, run, ONE, 1, GROW, [A])
    with pytest.raises(errors.CheckViolation):
        rounds.add_tasks(daemon, run, ONE, -1, GROW, [A])
    with pytest.raises(errors.CheckViolation):
        rounds.add_tasks(daemon, run, ONE, 2, StepName(""), [A])


def test_an_open_rounds_state_is_kept_again_at_each_exchange(daemon: PsycopgConnection, run: Run) -> None:
    for number in (0, 1):
        rounds.put_state(daemon, run.id, number, rounds.StoredState(b"first", b"h"))
    later = rounds.StoredState(b"second", b"i", memory=b"remembered")
    rounds.put_state(daemon, run.id, 1, later)
    assert rounds.find_state(daemon, run.id, 0) == rounds.StoredState(b"first", b"h", None)
    assert rounds.find_state(daemon, run.id, 1) == later
    rounds.delete_other_states(daemon, run.id, [1])
    assert rounds.find_state(daemon, run.id, 0) is None
    rounds.put_state(daemon, run.id, 1, rounds.StoredState(b"third", b"j"))
    assert rounds.find_state(daemon, run.id, 1) == rounds.StoredState(b"third", b"j", None)


def reserve(daemon: PsycopgConnection, run: Run) -> None:
    """Reserve a release in each of three exchanges of round 1 for every node."""
    with daemon.transaction():
        ledger.lock_ledger(daemon, run)
        lines = [
            ledger.Reservation(
                node, exchange, step, Mechanism(9.0), 1.0, 0.01, 0.01 * (exchange + 1), 0.01 * (exchange + 1)
            )
            for node in NODES
            for exchange, step in enumerate((GROW, GROW, EVALUATE))
        ]
        ledger.reserve(daemon, run, ONE, lines)


def left(catalog: psycopg.Connection) -> list[tuple[Any, ...]]:
    rows: Sequence[tuple[Any, ...]] = catalog.execute(
        "SELECT node_name, exchange, step, state::text FROM federated.ledger ORDER BY 1, 2"
    ).fetchall()
    return list(rows)


def test_reservations_are_taken_back_at_one_exchange_and_after_it(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    reserve(daemon, run)
    with daemon.transaction():
        ledger.charge(daemon, run, ONE, 0, GROW, NODES)
    with daemon.transaction():
        ledger.lock_ledger(daemon, run)
        removed = ledger.delete_reservations(daemon, run, ONE, [B], [B, C], 1)
    assert sorted((one.node, one.exchange, one.step, one.epsilon) for one in removed) == [
        ("b", 1, "grow", 0.01),
        ("b", 2, "evaluate", 0.01),
        ("c", 2, "evaluate", 0.01),
    ]
    assert left(catalog) == [
        ("a", 0, "grow", "charged"),
        ("a", 1, "grow", "reserved"),
        ("a", 2, "evaluate", "reserved"),
        ("b", 0, "grow", "charged"),
        ("c", 0, "grow", "charged"),
        ("c", 1, "grow", "reserved"),
    ]


def test_all_reservations_of_a_round_that_asked_nobody_are_taken_back(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    reserve(daemon, run)
    with daemon.transaction():
        removed = ledger.delete_reservations(daemon, run, ONE, [], NODES, -1)
    assert len(removed) == 9
    assert left(catalog) == []


def test_what_nodes_sign_is_held_against_the_line_of_its_exchange(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    reserve(daemon, run)
    rounds.open_round(daemon, run, ONE, GROW, [A])
    rounds.add_tasks(daemon, run, ONE, 1, GROW, [A])
    for exchange in (0, 1):
        reached = 0.01 * (exchange + 1)
        signed = ledger.SignedSpending(b"h", b"s", Mechanism(9.0), Spending(reached, reached))
        rounds.settle(daemon, run, ONE, exchange, GROW, [rounds.Settlement(A, RECEIVED, signed=signed)])
    rounds.close_round(daemon, run.id, ONE, Figures(None, None), None)
    assert catalog.execute("SELECT * FROM federated._ledger_faults('clinics')").fetchall() == []
    catalog.execute("DELETE FROM federated.node_spending WHERE exchange = 1")
    catalog.execute("UPDATE federated.node_spending SET recorded_at = '2000-01-01'")
    [(node, fault)] = catalog.execute("SELECT * FROM federated._ledger_faults('clinics')").fetchall()
    assert (node, fault) == ("a", f"round 1 of run {run.id}, step grow: charged, and not signed")


def test_what_exchanges_of_a_round_take_adds_up(
    catalog: psycopg.Connection, daemon: PsycopgConnection, run: Run
) -> None:
    rounds.open_round(daemon, run, ONE, GROW, [A])
    phase = performance.PhaseFigures(performance.RoundPhase.LOCAL_TRAINING, 1.5, 1.0, 2.0, 3e9, 10, 20)
    other = performance.PhaseFigures(performance.RoundPhase.DISTRIBUTION, 1.0)
    for number in range(2):
        agreement = Agreement(0.5 + number, {A: 0.25 * number})
        performance.record_measured(daemon, run, ONE, performance.Measured([phase, other], agreement))
    unknown = performance.PhaseFigures(performance.RoundPhase.DISTRIBUTION, None, memory_bytes=5.0)
    performance.record_measured(daemon, run, ONE, performance.Measured([unknown]))
    assert catalog.execute(
        "SELECT phase, duration_seconds, cpu_seconds, busy_seconds, memory_bytes, bytes_sent, bytes_received"
        " FROM federated.phase ORDER BY phase"
    ).fetchall() == [
        ("distribution", None, None, None, 5.0, 0, 0),
        ("local_training", 3.0, 2.0, 4.0, 3e9, 20, 40),
    ]
    assert catalog.execute("SELECT alignment FROM federated.contribution").fetchall() == [(0.25,)]
    assert catalog.execute("SELECT node_variance FROM federated.round").fetchall() == [(1.5,)]
