"""What a node keeps of a run, and messages of sum protocols: rows of a participant's own database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from heliosdb.catalog import participant
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.participant import LookedUp, NodeCharge, ReleaseState, SharedDataset, StoredRelease
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget, Mechanism, Spending
from heliosdb.domain.task import TaskKey
from tests.integration.extension.versions_support import execute
from tests.support.cluster import Cluster
from tests.support.programs import run_program

HOME = WorkspaceName("clinics")


@pytest.fixture
def daemon(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[PsycopgConnection]:
    """A node's connection, in a database that shares two datasets."""
    catalog.execute("CREATE TABLE public.patients (id integer PRIMARY KEY, age integer)")
    for name in ("patients", "wards"):
        execute(catalog, f"CREATE FEDERATED DATASET {name} FOR TABLE patients (age) IN WORKSPACE clinics")
    with connected(
        cluster.dsn(federated_database, user="heliosdb_daemon"), application_name="test"
    ) as connection:
        become_daemon(connection)
        yield connection


@pytest.fixture
def key() -> TaskKey:
    """A task of a new run."""
    return TaskKey(HOME, RunId(uuid4()), RoundNumber(1), 0, StepName("train"), NodeName("north"))


def remembered(daemon: PsycopgConnection, key: TaskKey) -> tuple[bytes, int] | None:
    found = participant.look_up(daemon, key).memory
    return None if found is None else (found.sealed, found.version)


def test_a_memory_is_written_in_place_of_the_version_that_was_read(
    daemon: PsycopgConnection, key: TaskKey
) -> None:
    assert remembered(daemon, key) is None
    assert participant.put_memory(daemon, key, b"one", 0)
    assert remembered(daemon, key) == (b"one", 1)
    assert not participant.put_memory(daemon, key, b"other", 0)
    assert participant.put_memory(daemon, key, b"two", 1)
    assert not participant.put_memory(daemon, key, b"other", 1)
    assert not participant.put_memory(daemon, key, b"other", 7)
    later = replace(key, round=RoundNumber(2), exchange=3, step=StepName("evaluate"))
    assert remembered(daemon, later) == (b"two", 2)


def test_another_run_node_or_workspace_has_another_memory(daemon: PsycopgConnection, key: TaskKey) -> None:
    others = (
        replace(key, run=RunId(uuid4())),
        replace(key, node=NodeName("south")),
        replace(key, workspace=WorkspaceName("elsewhere")),
    )
    assert participant.put_memory(daemon, key, b"mine", 0)
    for other in others:
        assert remembered(daemon, other) is None
        assert not participant.put_memory(daemon, other, b"theirs", 1)
        assert participant.put_memory(daemon, other, b"theirs", 0)
    assert remembered(daemon, key) == (b"mine", 1)


def test_a_workspace_forgets_runs_that_have_ended_and_no_others(
    daemon: PsycopgConnection, key: TaskKey
) -> None:
    ended, elsewhere = replace(key, run=RunId(uuid4())), replace(key, workspace=WorkspaceName("elsewhere"))
    for one in (key, ended, elsewhere):
        assert participant.put_memory(daemon, one, b"x", 0)
    participant.forget_memory(daemon, HOME, [ended.run])
    assert [remembered(daemon, one) for one in (key, ended, elsewhere)] == [(b"x", 1), None, (b"x", 1)]
    participant.forget_memory(daemon, HOME, [])
    participant.forget_memory(daemon, HOME, [key.run])
    assert [remembered(daemon, one) for one in (key, elsewhere)] == [None, (b"x", 1)]


def test_what_was_not_used_for_a_month_is_dropped_by_the_next_write(
    catalog: psycopg.Connection, daemon: PsycopgConnection, key: TaskKey
) -> None:
    old = replace(key, run=RunId(uuid4()))
    for one in (key, old):
        assert participant.put_memory(daemon, one, b"x", 0)
    catalog.execute("UPDATE federated.node_memory SET used_at = now() - interval '29 days'")
    assert participant.put_memory(daemon, key, b"y", 1)
    assert remembered(daemon, old) == (b"x", 1)
    catalog.execute("UPDATE federated.node_memory SET used_at = now() - interval '31 days'")
    # A memory that is just being written is used.
    assert participant.put_memory(daemon, key, b"z", 2)
    assert [remembered(daemon, one) for one in (key, old)] == [(b"z", 3), None]


def test_a_memory_is_bounded(catalog: psycopg.Connection) -> None:
    [(bound,)] = catalog.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'node_memory_sealed_check'"
    ).fetchall()
    assert bound == "CHECK ((octet_length(sealed) <= 268435456))"


def test_memories_are_in_no_dump(
    cluster: Cluster, federated_database: str, daemon: PsycopgConnection, key: TaskKey
) -> None:
    assert participant.put_memory(daemon, key, b"\xde\xad\xbe\xef", 0)
    dump = run_program("pg_dump", cluster.dsn(federated_database))
    assert b"deadbeef" not in dump
    assert str(key.run).encode() not in dump


def release(task: bytes) -> StoredRelease:
    return StoredRelease(ReleaseState.RELEASED, task, b"header", b"payload")


def shared(daemon: PsycopgConnection) -> dict[str, SharedDataset]:
    return {str(one.name): one for one in participant.list_shared_datasets(daemon, HOME)}


def test_a_message_is_stored_and_sent_again_and_tells_nothing_of_a_dataset(
    catalog: psycopg.Connection, daemon: PsycopgConnection, key: TaskKey
) -> None:
    datasets = shared(daemon)
    participant.insert_message_release(daemon, key, datasets["patients"], release(b"t0"))
    found: LookedUp = participant.look_up(daemon, key)
    assert found.release == release(b"t0")
    assert (found.terms.measured, found.terms.terms, found.charged_tables) == (frozenset(), frozenset(), ())
    assert len(found.shared) == 2

    participant.insert_plain_release(
        daemon, replace(key, exchange=1), datasets["wards"], None, release(b"t1")
    )
    participant.insert_plain_release(
        daemon, replace(key, exchange=2), datasets["patients"], b"terms", release(b"t2")
    )
    with daemon.transaction():
        state = participant.lock_ledgers(daemon, replace(key, exchange=1), datasets["wards"])
    for terms in (participant.look_up(daemon, key).terms, state.terms):
        assert (terms.measured, terms.terms) == ({"wards"}, {b"terms"})
    assert state.release == release(b"t1")


def test_a_private_answer_measures_no_dataset(daemon: PsycopgConnection, key: TaskKey) -> None:
    dataset = shared(daemon)["patients"]
    with daemon.transaction():
        tables = tuple(one.base_table_id for one in participant.lock_ledgers(daemon, key, dataset).ledgers)
        charge = NodeCharge(
            tables, Mechanism(9.0), Spending(0.1, 0.1), Spending(0.1, 0.1), 1e-5, Budget(1.0, 1e-5)
        )
        participant.insert_charge(daemon, key, dataset, b"t0", charge)
        participant.finish_release(daemon, key, b"header", b"payload")
    found = participant.look_up(daemon, key)
    assert found.release == release(b"t0")
    assert found.charged_tables == tables
    assert found.terms.measured == frozenset()
    assert participant.look_up(daemon, replace(key, exchange=1)).release is None
    with daemon.transaction():
        state = participant.lock_charge(daemon, key, dataset)
    assert state.spending == Spending(0.1, 0.1)


def test_what_a_release_is_stays(
    catalog: psycopg.Connection, daemon: PsycopgConnection, key: TaskKey
) -> None:
    participant.insert_message_release(daemon, key, shared(daemon)["patients"], release(b"t0"))
    for change in ("is_message = false", "exchange = 1", "step = 'statistics'", "round_number = 2"):
        with pytest.raises(errors.InsufficientPrivilege):
            daemon.raw.execute(f"UPDATE federated.release SET {change}")  # type: ignore[arg-type]
        with pytest.raises(errors.ObjectNotInPrerequisiteState, match="never changed"):
            catalog.execute(f"UPDATE federated.release SET {change}")  # type: ignore[arg-type]
    catalog.execute("UPDATE federated.release SET payload = NULL")
