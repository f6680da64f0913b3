"""What is deleted for its age: only what is old, with a signed stub, and in a log that is verified as before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors

from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.catalog.retention import forget_expired, forget_node_history, list_retained
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.retention import Stub
from heliosdb.transport.authority import Authority
from heliosdb.transport.identity import Identity, verify
from tests.support.cluster import Cluster

# As if what is in the log had been recorded so long ago: each entry is linked anew.
AGE = """
DO $$
DECLARE
    entry  record;
    before bytea;
BEGIN
    FOR entry IN SELECT audit_id, chain_position FROM federated.audit
                 WHERE workspace = 'clinics' AND chain_position <= {entries} ORDER BY chain_position LOOP
        UPDATE federated.audit SET recorded_at = recorded_at - interval '{days} days' WHERE audit_id = entry.audit_id;
    END LOOP;
    FOR entry IN SELECT audit_id, chain_position FROM federated.audit WHERE workspace = 'clinics' ORDER BY chain_position LOOP
        UPDATE federated.audit AS a SET previous_hash = before,
            hash = federated._audit_hash(a, a.origin, a.chain_position, before)
        WHERE audit_id = entry.audit_id RETURNING hash INTO before;
    END LOOP;
    UPDATE federated.audit_head SET hash = before WHERE workspace = 'clinics';
END
$$
"""
VERIFY = "SELECT is_intact, broken_at, reason FROM federated_audit_verify('clinics')"
INTACT = (True, None, None)
CLINICS = WorkspaceName("clinics")


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Authority.create("test authority").issue("coordinator", ["localhost"])


@pytest.fixture
def forget(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, identity: Identity
) -> Callable[[], list[Stub]]:
    """Forget what is old of workspace clinics, as the daemon's login role, until nothing is left."""

    def forget_all() -> list[Stub]:
        found: list[Stub] = []
        with connected(
            cluster.dsn(federated_database, user="heliosdb_daemon"), application_name="test"
        ) as connection:
            become_daemon(connection)
            while True:
                with connection.transaction():
                    stubs = forget_expired(
                        connection,
                        CLINICS,
                        lambda said: (identity.sign(said), identity.certificate_pem.decode()),
                    )
                if not stubs:
                    return found
                found += stubs

    return forget_all


def execute(session: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def age(catalog: psycopg.Connection, *, entries: int, days: int = 40) -> None:
    catalog.execute(AGE.format(entries=entries, days=days))  # type: ignore[arg-type]


@pytest.fixture
def written(catalog: psycopg.Connection) -> psycopg.Connection:
    """A log of eight entries, of which five are 40 days old, in a workspace that keeps 30."""
    for number in range(4, 9):
        execute(catalog, f"ALTER FEDERATED WORKSPACE clinics SET (round_timeout = {number})")
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (retention_days = 30)")
    assert catalog.execute("SELECT count(*) FROM federated.audit WHERE workspace = 'clinics'").fetchone() == (
        8,
    )
    age(catalog, entries=5)
    assert catalog.execute(VERIFY).fetchone() == INTACT
    return catalog


def test_old_entries_keep_place_and_hash_alone_and_the_log_is_verified_as_before(
    written: psycopg.Connection, forget: Callable[[], list[Stub]], identity: Identity
) -> None:
    hashes = "SELECT hash FROM federated.audit WHERE workspace = 'clinics' ORDER BY chain_position"
    before = [bytes(row[0]) for row in written.execute(hashes)]
    (stub,) = forget()
    assert (stub.what, stub.entries) == ("audit", 5)
    assert stub.emptied is not None
    assert (stub.emptied.first, stub.emptied.last) == (1, 5)
    assert stub.emptied.sha256 == hashlib.sha256(b"".join(before[:5])).digest()
    assert [bytes(row[0]) for row in written.execute(hashes)][:8] == before
    left = written.execute(
        "SELECT chain_position, session_role, object_name, details FROM federated_audit_log WHERE workspace = 'clinics'"
        " ORDER BY chain_position"
    ).fetchall()
    assert left[:5] == [(place, "", "", {}) for place in range(1, 6)]
    assert all(row[1] and row[2] and row[3] for row in left[5:])
    assert written.execute(VERIFY).fetchone() == INTACT
    # The deletion is in the log too, and its stub is signed.
    assert left[-1][2:] == ("audit", {"after": {"name": "audit", "workspace": "clinics", "stub_id": stub.id, "entries": 5,
                                                "origin": str(stub.emptied.origin), "first_position": 1, "last_position": 5,
                                                "older_than": left[-1][3]["after"]["older_than"],
                                                "content_sha256": "\\x" + stub.emptied.sha256.hex()}})  # fmt: skip
    statement, signature, certificate = written.execute(
        "SELECT statement, signature, certificate FROM federated.retention_stub"
    ).fetchone() or (b"", b"", "")
    assert statement == stub.statement()
    assert verify(certificate.encode(), statement, signature)
    assert not verify(certificate.encode(), statement + b" ", signature)
    assert written.execute(
        "SELECT what, entries, statement ->> 'deleted' FROM federated_retention"
    ).fetchall() == [("audit", 5, "audit")]


def test_the_next_deletion_goes_on_where_the_last_one_ended(
    written: psycopg.Connection, forget: Callable[[], list[Stub]]
) -> None:
    forget()
    assert forget() == []
    execute(written, "ALTER FEDERATED WORKSPACE clinics SET (round_timeout = 60)")
    # The stub's entry is the ninth, the statement's the tenth.
    written.execute("UPDATE federated.workspace SET options = options || '{\"retention_days\": 1}'")
    written.execute("ALTER TABLE federated.retention_stub DISABLE TRIGGER USER")
    written.execute("CREATE OR REPLACE FUNCTION federated._retention_bounds() RETURNS TABLE (workspace text, older_than timestamptz)"
                    " LANGUAGE sql AS $$ SELECT 'clinics', clock_timestamp() $$")  # fmt: skip
    (stub,) = (one for one in forget() if one.what == "audit")
    assert stub.emptied is not None
    assert stub.emptied.first == 6
    assert written.execute(VERIFY).fetchone() == INTACT


@pytest.mark.parametrize(
    "hold",
    [
        "ALTER FEDERATED WORKSPACE clinics SET (legal_hold = true)",
        "ALTER FEDERATED WORKSPACE clinics SET (retention_days = 41)",
        "ALTER FEDERATED WORKSPACE clinics RESET (retention_days)",
    ],
)
def test_nothing_is_deleted_on_hold_or_before_its_time(
    written: psycopg.Connection, forget: Callable[[], list[Stub]], hold: str
) -> None:
    execute(written, hold)
    assert forget() == []
    assert written.execute("SELECT count(*) FROM federated.audit WHERE details = '{}'").fetchone() == (0,)


def test_a_deletion_without_a_signature_does_not_commit(
    written: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    daemon.execute("SET ROLE federated_daemon")
    with (
        pytest.raises(errors.ObjectNotInPrerequisiteState, match="nothing is deleted without a signed stub"),
        daemon.transaction(),
    ):
        assert daemon.execute("SELECT name FROM federated._forget_expired('clinics')").fetchall() == [
            ("audit",)
        ]
    assert written.execute("SELECT count(*) FROM federated.retention_stub").fetchone() == (0,)
    assert written.execute(VERIFY).fetchone() == INTACT


@pytest.mark.parametrize(
    ("tampering", "broken_at", "reason"),
    [
        ("UPDATE federated.audit SET details = '{\"after\": {}}' WHERE chain_position = 2", 2, "entry 2 is not what was recorded"),
        ("UPDATE federated.audit SET acting_role = 'x' WHERE chain_position = 1", 1, "entry 1 is not what was recorded"),
        ("UPDATE federated.audit SET hash = '\\x00' WHERE chain_position = 5", 1,
         "entries 1 to 5 are not those that were emptied for their age"),
        ("DELETE FROM federated.audit WHERE chain_position = 3", 1, "entries 1 to 5 are not those that were emptied for their age"),
        ("DELETE FROM federated.retention_stub", 1, "entry 1 is not what was recorded"),
        ("UPDATE federated.audit SET session_role = '', acting_role = '', object_name = '', details = '{}' WHERE chain_position = 6",
         6, "entry 6 is not what was recorded"),
        ("SET LOCAL session_replication_role = replica; UPDATE federated.retention_stub SET last_position = 6, entries = 6;"
         " UPDATE federated.audit SET session_role = '', acting_role = '', object_name = '', details = '{}' WHERE chain_position = 6",
         1, "entries 1 to 6 are not those that were emptied for their age"),
    ],
)  # fmt: skip
def test_an_emptied_log_shows_tampering(
    written: psycopg.Connection,
    forget: Callable[[], list[Stub]],
    tampering: LiteralString,
    broken_at: int,
    reason: str,
) -> None:
    forget()
    with written.transaction():
        for statement in tampering.split(";"):
            written.execute(statement)  # type: ignore[arg-type]
    assert written.execute(VERIFY).fetchone() == (False, broken_at, reason)


def test_an_entry_that_was_dated_back_is_not_emptied(
    written: psycopg.Connection, forget: Callable[[], list[Stub]]
) -> None:
    written.execute(
        "UPDATE federated.audit SET recorded_at = recorded_at - interval '40 days'"
        " WHERE workspace = 'clinics' AND chain_position IN (6, 7)"
    )
    assert forget() == []
    assert written.execute(VERIFY).fetchone() == (False, 6, "entry 6 is not what was recorded")


def test_what_a_superuser_emptied_himself_is_no_deletion_for_its_age(
    written: psycopg.Connection, forget: Callable[[], list[Stub]]
) -> None:
    forget()
    with written.transaction():
        written.execute("SET LOCAL session_replication_role = replica")
        written.execute(
            "UPDATE federated.audit SET session_role = '', acting_role = '', object_name = '', details = '{}'"
            " WHERE workspace = 'clinics' AND chain_position = 6"
        )
        written.execute(
            "UPDATE federated.retention_stub SET last_position = 6, entries = 6, content_sha256 = (SELECT"
            " sha256(string_agg(hash, ''::bytea ORDER BY chain_position)) FROM federated.audit"
            " WHERE workspace = 'clinics' AND chain_position <= 6)"
        )
    assert written.execute(VERIFY).fetchone() == (
        False,
        1,
        "nobody signed that entries 1 to 6 were emptied for their age",
    )


def test_a_stub_is_signed_once_and_kept(
    written: psycopg.Connection, forget: Callable[[], list[Stub]], daemon: psycopg.Connection
) -> None:
    forget()
    daemon.execute("SET ROLE federated_daemon")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        daemon.execute("UPDATE federated.retention_stub SET signature = '\\x00'")
    for denied in ("DELETE FROM federated.retention_stub", "UPDATE federated.retention_stub SET entries = 1",
                   "INSERT INTO federated.retention_stub (name, workspace, entries, older_than) VALUES ('event', 'w', 1, now())",
                   "SELECT federated._forget_audit('clinics', now())", "UPDATE federated.audit SET details = '{}'"):  # fmt: skip
        with pytest.raises(errors.InsufficientPrivilege):
            daemon.execute(denied)  # type: ignore[arg-type]


RUNS = """
INSERT INTO federated.run (run_id, model_id, status, options, policy, finished_at)
SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, model_id, status, '{}', '{}', now() - age
FROM federated.model, (VALUES (1, 'completed'::federated.run_status, interval '50 days'), (2, 'failed', interval '10 days'),
                              (3, 'running', interval '50 days')) AS v (n, status, age);
INSERT INTO federated.node (workspace_id, name) SELECT workspace_id, 'a' FROM federated.workspace;
INSERT INTO federated.round (run_id, round_number) SELECT run_id, 0 FROM federated.run;
INSERT INTO federated.run_parameters (run_id, round_number, sealed, sha256) SELECT run_id, 0, '', '' FROM federated.run;
INSERT INTO federated.internal_checkpoint (run_id, round_number, size_bytes, sha256) SELECT run_id, 0, 0, '' FROM federated.run;
INSERT INTO federated.participation (run_id, round_number, step, node_id, described)
SELECT run_id, 0, 'statistics', node_id, '{"rows": 5}' FROM federated.run, federated.node;
INSERT INTO federated.event (epoch, run_id, kind, recorded_at) SELECT 1, run_id, 'round.closed', now() - interval '45 days' FROM federated.run;
INSERT INTO federated.event (epoch, kind, recorded_at) VALUES (1, 'lease.taken', now() - interval '45 days');
INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, state, noise_multiplier, sampling_rate,
                              steps, epsilon, epsilon_basic, epsilon_tight, recorded_at)
SELECT 'clinics', run_id, 'risk', 0, 'statistics', 'n' || run_id, 'charged', 1, 1, 1, 0.1, 0.1, 0.1, now() - interval '50 days' FROM federated.run;
"""


def test_of_old_runs_states_figures_and_events_go_and_who_took_part_and_the_ledger_stay(
    catalog: psycopg.Connection, forget: Callable[[], list[Stub]]
) -> None:
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (retention_days = 30)")
    catalog.execute("SET session_replication_role = replica")
    catalog.execute(RUNS)
    catalog.execute("RESET session_replication_role")
    assert [(stub.what, stub.entries) for stub in forget()] == [("run", 1), ("event", 1)]
    for table in ("run_parameters", "internal_checkpoint", "event"):
        rows = catalog.execute(
            f"SELECT right(run_id::text, 1) FROM federated.{table} WHERE run_id IS NOT NULL ORDER BY 1"
        ).fetchall()  # type: ignore[arg-type]
        assert rows == [("2",), ("3",)], table
    assert catalog.execute("SELECT right(run_id::text, 1), described IS NULL FROM federated.participation ORDER BY 1").fetchall() == [
        ("1", True), ("2", False), ("3", False),
    ]  # fmt: skip
    assert catalog.execute("SELECT count(*) FROM federated.ledger").fetchone() == (3,)
    # What belongs to no workspace stays for as long as options have it by default.
    assert catalog.execute("SELECT count(*) FROM federated.event WHERE run_id IS NULL").fetchone() == (1,)


def test_dropped_workspaces_and_none_are_kept_as_long_as_any(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    execute(
        catalog,
        "CREATE FEDERATED WORKSPACE gone",
        "DROP FEDERATED WORKSPACE gone",
        "CREATE FEDERATED WORKSPACE long WITH (retention_days = 4000)",
    )
    days = "SELECT workspace, round(extract(epoch FROM clock_timestamp() - older_than) / 86400) FROM federated._retention_bounds() ORDER BY workspace"
    assert catalog.execute(days).fetchall() == [("", 4000), ("clinics", 2555), ("gone", 4000), ("long", 4000)]
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (legal_hold = true)")
    with connected(cluster.dsn(federated_database), application_name="test") as connection:
        assert list_retained(connection) == ["gone", "long"]


FIRINGS = """
INSERT INTO federated.firing (kind, workspace, name, fired_at, last_event_at, delivered_at, next_attempt, failure)
SELECT v.kind, w, v.name, now() - v.fired, now() - v.last, now() - v.delivered, now() + v.next, v.failure
FROM (VALUES ('alert', 'clinics', 'delivered', interval '50 days', interval '50 days', interval '50 days', NULL::interval, NULL),
             ('alert', 'clinics', 'given up', interval '50 days', interval '50 days', NULL, NULL, 'no such host'),
             ('alert', 'clinics', 'dropped meanwhile', interval '50 days', interval '50 days', NULL, interval '1 hour', 'late'),
             ('breach', 'clinics', 'over', interval '50 days', interval '40 days', NULL, NULL, 'nobody is named'),
             ('breach', 'clinics', 'tried still', interval '50 days', interval '50 days', NULL, interval '1 hour', 'late'),
             ('breach', 'clinics', 'goes on', interval '50 days', interval '1 hour', interval '50 days', NULL, NULL),
             ('alert', 'clinics', 'delivered lately', interval '50 days', interval '50 days', interval '1 day', NULL, NULL),
             ('alert', 'clinics', 'new', interval '1 day', interval '1 day', interval '1 day', NULL, NULL),
             ('alert', 'others', 'of others', interval '50 days', interval '50 days', interval '50 days', NULL, NULL)
     ) AS v (kind, w, name, fired, last, delivered, next, failure)
"""


def test_of_firings_those_go_that_are_old_and_that_nobody_is_to_be_told_of(
    catalog: psycopg.Connection, forget: Callable[[], list[Stub]]
) -> None:
    execute(catalog, "ALTER FEDERATED WORKSPACE clinics SET (retention_days = 30)")
    catalog.execute(FIRINGS)
    assert [(stub.what, stub.entries) for stub in forget()] == [("firing", 4)]
    left = catalog.execute("SELECT name FROM federated.firing ORDER BY name").fetchall()
    assert left == [("delivered lately",), ("goes on",), ("new",), ("of others",), ("tried still",)]
    assert forget() == []


NODE = """
INSERT INTO federated.release (workspace, run_id, round_number, step, node_name, dataset, task_sha256, released_at)
SELECT 'w', ('00000000-0000-0000-0000-00000000000' || run)::uuid, round, 'train', 'n', 'd', '', now() - age
FROM (VALUES (1, 0, interval '50 days'), (1, 1, interval '49 days'), (2, 0, interval '50 days'), (2, 1, interval '1 day'),
             (3, 0, interval '50 days')) AS v (run, round, age);
INSERT INTO federated.spending (dataset, relation, release_id, noise_multiplier, sampling_rate, steps, epsilon_basic, epsilon_tight,
                                delta, base_tables, workspace_epsilon_basic, workspace_epsilon_tight)
SELECT 'd', 't', release_id, 1, 1, 1, 1, 1, 1e-5, '{1}', 1, 1 FROM federated.release WHERE right(run_id::text, 1) = '3';
"""


def test_a_node_forgets_what_cost_nothing_and_no_run_asks_for(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, identity: Identity
) -> None:
    catalog.execute(NODE)

    def sign(statement: bytes) -> tuple[bytes, str]:
        return identity.sign(statement), identity.certificate_pem.decode()

    dsn = cluster.dsn(federated_database, user="heliosdb_daemon")
    with connected(dsn, application_name="test") as connection:
        become_daemon(connection)
        with connection.transaction():
            (stub,) = forget_node_history(connection, 30, sign)
        with pytest.raises(errors.InvalidParameterValue):
            forget_node_history(connection, 29, sign)
    assert (stub.what, stub.workspace, stub.entries) == ("release", "w", 2)
    left = catalog.execute(
        "SELECT right(run_id::text, 1), round_number FROM federated.release ORDER BY 1, 2"
    ).fetchall()
    assert left == [("2", 0), ("2", 1), ("3", 0)]
    assert catalog.execute("SELECT count(*) FROM federated.spending").fetchone() == (1,)
