"""The audit log: one unforked chain a workspace, and every change of what was written is found."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors

from tests.support.cluster import Cluster, bin_directory

REGISTER = "REGISTER FEDERATED NODE '{0}' IN WORKSPACE {1} WITH (endpoint = 'https://{0}:1')"
VERIFY: LiteralString = "SELECT is_intact, entries, broken_at, reason FROM federated_audit_verify(%s)"


def execute(session: psycopg.Connection, *statements: str) -> None:
    for statement in statements:
        session.execute("CALL federated.execute(%s)", [statement])


def verify(
    session: psycopg.Connection, workspace: str = "clinics"
) -> tuple[bool, int, int | None, str | None]:
    [row] = session.execute(VERIFY, [workspace]).fetchall()
    return row


def write_five_entries(catalog: psycopg.Connection) -> None:
    execute(catalog, *(REGISTER.format(name, "clinics") for name in ("a", "b", "c")))
    assert verify(catalog) == (True, 5, None, None)


def test_every_kind_of_change_names_its_workspace(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    catalog.execute("CREATE TABLE t (a float8)")
    execute(
        catalog,
        REGISTER.format("a", "clinics"),
        "START FEDERATED TRAINING risk",
        "STOP FEDERATED TRAINING risk",
        "CREATE FEDERATED DATASET d FOR TABLE t IN WORKSPACE clinics",
        "DROP FEDERATED WORKSPACE clinics CASCADE",
    )
    rows = catalog.execute(
        "SELECT workspace, object_kind, action FROM federated_audit_log ORDER BY chain_position"
    ).fetchall()
    assert {workspace for workspace, _, _ in rows} == {"clinics"}
    assert [(kind, action) for _, kind, action in rows] == [
        ("workspace", "insert"), ("model", "insert"), ("node", "insert"), ("run", "insert"), ("run", "update"),
        ("dataset", "insert"), ("model", "delete"), ("run", "delete"), ("node", "delete"), ("workspace", "delete"),
    ]  # fmt: skip
    assert verify(catalog) == (True, 10, None, None)
    execute(catalog, "CREATE FEDERATED WORKSPACE clinics")
    assert verify(catalog) == (True, 11, None, None)


def test_the_hash_is_what_its_comment_says(catalog: psycopg.Connection) -> None:
    execute(catalog, "CREATE FEDERATED MODEL \"ünï, '1:x'\" IN WORKSPACE clinics WITH (learning_rate = 1e-5)")
    rows = catalog.execute(
        "SELECT origin::text, workspace, chain_position::text, coalesce(previous_hash, ''), audit_id::text,"
        " to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'), to_char(recorded_at AT TIME ZONE 'UTC', 'HH24:MI:SS.US'),"
        " a.transaction_id::text, session_role, acting_role, action, object_kind, object_name, details::text, hash"
        " FROM federated_audit_log JOIN (SELECT audit_id, origin, chain_position, transaction_id FROM federated.audit)"
        " AS a USING (origin, chain_position) ORDER BY chain_position"
    ).fetchall()
    assert len(rows) == 3
    before = ""
    for *head, day, time, transaction, login, role, action, kind, name, details, written in rows:
        fields = [*head, f"{day}T{time}Z", transaction, login, role, action, kind, name, details]
        assert fields[3] == before
        text = b"".join(b"%d:%b," % (len(f.encode()), f.encode()) for f in fields)
        before = hashlib.sha256(text).hexdigest()
        assert written == before
    assert catalog.execute("SELECT head_hash FROM federated_audit_verify('clinics')").fetchall() == [
        (before,)
    ]


@pytest.mark.parametrize(
    ("tampering", "broken_at", "reason"),
    [
        ("UPDATE federated.audit SET acting_role = 'somebody' WHERE chain_position = 3", 3, "entry 3 is not what was recorded"),
        ("UPDATE federated.audit SET details = '{}' WHERE chain_position = 1", 1, "entry 1 is not what was recorded"),
        ("UPDATE federated.audit SET recorded_at = recorded_at - interval '1 day' WHERE chain_position = 5", 5,
         "entry 5 is not what was recorded"),
        ("UPDATE federated.audit SET workspace = 'other' WHERE chain_position = 2", 2, "entry 2 is missing"),
        ("DELETE FROM federated.audit WHERE chain_position = 1", 1, "entry 1 is missing"),
        ("DELETE FROM federated.audit WHERE chain_position = 3", 3, "entry 3 is missing"),
        ("DELETE FROM federated.audit WHERE chain_position > 3", 4, "2 entries are missing at the end"),
        ("DELETE FROM federated.audit", 1, "5 entries are missing at the end"),
        ("TRUNCATE federated.audit, federated.audit_head", None, "the workspace exists, but the log does not say how it came to be"),
        # All taken away, and begun anew.
        ("TRUNCATE federated.audit, federated.audit_head; UPDATE federated.node SET options = options", None,
         "the workspace exists, but the log does not say how it came to be"),
        ("DELETE FROM federated.audit_head", 6, "the head of the chain is missing"),
        ("UPDATE federated.audit_head SET hash = '', chain_position = 4", 5, "the chain goes on beyond its head"),
        ("UPDATE federated.audit_head SET hash = ''", 6, "the last entry is not the one that the head names"),
        # Taken out, and the rest moved up.
        ("DELETE FROM federated.audit WHERE chain_position = 3;"
         " UPDATE federated.audit SET chain_position = chain_position - 1 WHERE chain_position = 4;"
         " UPDATE federated.audit SET chain_position = chain_position - 1 WHERE chain_position = 5", 3,
         "entry 3 is not what was recorded"),
        # Two in the other order.
        ("UPDATE federated.audit SET chain_position = 99 WHERE chain_position = 2;"
         " UPDATE federated.audit SET chain_position = 2 WHERE chain_position = 3;"
         " UPDATE federated.audit SET chain_position = 3 WHERE chain_position = 99", 2, "entry 2 is not what was recorded"),
        # Changed, and its own hash made to fit.
        ("UPDATE federated.audit SET action = 'delete' WHERE chain_position = 3;"
         " UPDATE federated.audit AS a SET hash = federated._audit_hash(a, a.origin, a.chain_position, a.previous_hash) WHERE chain_position = 3", 4,
         "entry 4 does not follow the one before it"),
        # Slipped in past the triggers.
        ("SET LOCAL session_replication_role = replica;"
         " INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, origin,"
         " chain_position, previous_hash, hash) SELECT workspace, session_role, acting_role, action, object_kind,"
         " object_name, origin, 6, hash, hash FROM federated.audit WHERE chain_position = 5", 6, "entry 6 is not what was recorded"),
    ],
)  # fmt: skip
def test_what_was_tampered_with_is_found(
    catalog: psycopg.Connection, tampering: LiteralString, broken_at: int | None, reason: str
) -> None:
    write_five_entries(catalog)
    with catalog.transaction():
        catalog.execute(tampering)
    intact, _, found_at, found_reason = verify(catalog)
    assert (intact, found_at, found_reason) == (False, broken_at, reason)


def test_an_entry_slipped_in_beside_the_chain_is_never_linked(catalog: psycopg.Connection) -> None:
    write_five_entries(catalog)
    with catalog.transaction():
        catalog.execute("SET LOCAL session_replication_role = replica")
        catalog.execute(
            "INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name)"
            " VALUES ('clinics', 'x', 'x', 'insert', 'node', 'x')"
        )
    for name in ("d", "e"):
        intact, _, _, reason = verify(catalog)
        assert not intact
        assert reason is not None
        assert reason.endswith("stands outside the chain")
        execute(catalog, REGISTER.format(name, "clinics"))


def test_nobody_but_the_owner_changes_the_log(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    roles = ("an_admin", "an_operator", "an_analyst", "an_auditor", "heliosdb_daemon", "a_nobody")
    for role in roles:
        with cluster.connect(federated_database, user=role) as session:
            for attack in (
                "DELETE FROM federated.audit",
                "UPDATE federated.audit SET action = 'x'",
                "TRUNCATE federated.audit",
                "INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name)"
                " VALUES ('clinics', 'x', 'x', 'x', 'x', 'x')",
                "UPDATE federated.audit_head SET chain_position = 0",
                "DELETE FROM federated.audit_head",
                "UPDATE federated.audit_origin SET origin = gen_random_uuid()",
                "ALTER TABLE federated.audit DISABLE TRIGGER ALL",
                "SET session_replication_role = replica",
                "SELECT federated._link_audit_entries()",
                "SELECT federated._adopt_audit_heads('clinics', gen_random_uuid())",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    session.execute(attack)


def test_auditors_and_admins_read_it_and_nobody_else(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    for role in ("an_auditor", "an_admin"):
        with cluster.connect(federated_database, user=role) as session:
            assert len(session.execute("SELECT * FROM federated_audit_log").fetchall()) == 2
            assert verify(session) == (True, 2, None, None)
    for role in ("an_operator", "an_analyst", "heliosdb_daemon", "a_nobody"):
        with cluster.connect(federated_database, user=role) as session:
            for query in ("SELECT * FROM federated_audit_log", "SELECT federated_audit_verify('nothing')"):
                with pytest.raises(errors.InsufficientPrivilege):
                    session.execute(query)


def test_a_workspace_that_never_was_is_an_error(catalog: psycopg.Connection) -> None:
    with pytest.raises(errors.UndefinedObject, match='federated workspace "nothing" does not exist'):
        verify(catalog, "nothing")
    with pytest.raises(errors.NullValueNotAllowed):
        catalog.execute("SELECT federated_audit_verify(NULL)")


def test_who_acted_under_set_role_is_named(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    with cluster.connect(federated_database) as session, session.transaction():
        session.execute("SET LOCAL ROLE an_admin")
        execute(session, REGISTER.format("a", "clinics"))
    assert catalog.execute(
        "SELECT session_role, acting_role FROM federated_audit_log WHERE object_kind = 'node'"
    ).fetchall() == [("postgres", "an_admin")]
    assert verify(catalog)[0]


def test_an_open_transaction_keeps_nobody_waiting_and_links_at_its_end(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    with cluster.connect(federated_database) as slow:
        slow.autocommit = False
        execute(slow, "CREATE FEDERATED MODEL slow IN WORKSPACE clinics")
        assert verify(slow) == (True, 2, None, None)
        catalog.execute("SET lock_timeout = '5s'")
        execute(catalog, "CREATE FEDERATED MODEL quick IN WORKSPACE clinics")
        slow.commit()
    assert catalog.execute(
        "SELECT object_name FROM federated_audit_log WHERE object_kind = 'model' ORDER BY chain_position"
    ).fetchall() == [("risk",), ("quick",), ("slow",)]
    assert verify(catalog) == (True, 4, None, None)


def test_what_is_rolled_back_leaves_no_gap(catalog: psycopg.Connection) -> None:
    with catalog.transaction(force_rollback=True):
        execute(catalog, REGISTER.format("a", "clinics"))
        catalog.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with catalog.transaction():
        execute(catalog, REGISTER.format("b", "clinics"))
        with catalog.transaction(force_rollback=True):
            execute(catalog, REGISTER.format("c", "clinics"))
        with catalog.transaction():
            execute(catalog, REGISTER.format("d", "clinics"))
        catalog.execute("SET CONSTRAINTS ALL IMMEDIATE")
        execute(catalog, REGISTER.format("e", "clinics"))
    assert catalog.execute(
        "SELECT chain_position, object_name FROM federated_audit_log WHERE object_kind = 'node' ORDER BY 1"
    ).fetchall() == [(3, "b"), (4, "d"), (5, "e")]
    assert verify(catalog) == (True, 5, None, None)


def test_concurrent_commits_give_one_chain_a_workspace(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    workspaces = [f"w{number}" for number in range(3)]
    writers, rounds = 6, 8

    def write(writer: int) -> None:
        # Each transaction adds to all chains, in an order of its own.
        order = workspaces[writer % 3 :] + workspaces[: writer % 3]
        with cluster.connect(federated_database) as session:
            for number in range(rounds):
                with session.transaction():
                    for workspace in order if number % 2 else reversed(order):
                        execute(
                            session,
                            f"CREATE FEDERATED MODEL m_{workspace}_{writer}_{number} IN WORKSPACE {workspace}",
                        )

    execute(catalog, *(f"CREATE FEDERATED WORKSPACE {workspace}" for workspace in workspaces))
    with ThreadPoolExecutor(writers) as pool:
        writing = [pool.submit(write, writer) for writer in range(writers)]
        # Whoever looks while others commit sees a chain that holds.
        while not all(done.done() for done in writing):
            assert all(verify(catalog, workspace)[0] for workspace in workspaces)
        for done in writing:
            done.result()
    for workspace in workspaces:
        assert verify(catalog, workspace) == (True, writers * rounds + 1, None, None)


def test_under_a_higher_isolation_level_a_commit_fails_rather_than_fork(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    with cluster.connect(federated_database) as session:
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.autocommit = False
        execute(session, "CREATE FEDERATED MODEL late IN WORKSPACE clinics")
        execute(catalog, "CREATE FEDERATED MODEL early IN WORKSPACE clinics")
        with pytest.raises(errors.SerializationFailure):
            session.commit()
    assert verify(catalog) == (True, 3, None, None)


@pytest.mark.parametrize("options", [(), ("--single-transaction",)])
def test_a_restored_chain_holds_and_goes_on(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    tmp_path_factory: pytest.TempPathFactory,
    options: tuple[str, ...],
) -> None:
    write_five_entries(catalog)
    [(noted,)] = catalog.execute("SELECT head_hash FROM federated_audit_verify('clinics')").fetchall()
    restored = restore(cluster, federated_database, tmp_path_factory, *options)
    with cluster.connect(restored) as copy:
        # The five that were there, five rows that restoring inserted, and one entry that names the head of the five.
        assert verify(copy) == (True, 11, None, None)
        execute(copy, REGISTER.format("d", "clinics"))
        assert verify(copy) == (True, 12, None, None)
        assert copy.execute(
            "SELECT details ->> 'head_hash', (details ->> 'entries')::int FROM federated_audit_log WHERE action = 'adopt'"
        ).fetchall() == [(noted, 5)]
        assert copy.execute(
            "SELECT count(*) FROM federated_audit_log WHERE hash = %s", [noted]
        ).fetchall() == [(1,)]
    again = restore(cluster, restored, tmp_path_factory)
    with cluster.connect(again) as copy:
        execute(copy, REGISTER.format("e", "clinics"))
        assert verify(copy) == (True, 12 + 6 + 2, None, None)
        tampered = [
            ("DELETE FROM federated.audit WHERE chain_position = 2 AND object_name = 'risk' AND origin = (SELECT origin"
             " FROM federated.audit WHERE hash = decode(%(noted)s, 'hex'))", "entry 2 is missing, in the chain that"),
            ("WITH o AS (DELETE FROM federated.audit_head WHERE hash = decode(%(noted)s, 'hex') RETURNING origin)"
             " DELETE FROM federated.audit WHERE origin IN (SELECT origin FROM o)",
             "the chain that this entry adopted is not there as it was"),
        ]  # fmt: skip
        for statement, reason in tampered:
            with copy.transaction(force_rollback=True):
                copy.execute(statement, {"noted": noted})  # type: ignore[arg-type]
                intact, _, _, found = verify(copy)
                assert not intact
                assert (found or "").startswith(reason), found


def test_a_chain_that_was_broken_before_the_dump_stays_broken(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    write_five_entries(catalog)
    catalog.execute("DELETE FROM federated.audit WHERE chain_position = 4")
    with cluster.connect(restore(cluster, federated_database, tmp_path_factory)) as copy:
        assert verify(copy)[2:] == (
            4,
            "entry 4 is missing, in the chain that a dump of another database brought along",
        )


def restore(cluster: Cluster, database: str, tmp_path_factory: pytest.TempPathFactory, *options: str) -> str:
    """Dump a database as an administrator does, restore it into a fresh one, and return its name."""
    dump = tmp_path_factory.mktemp("dump") / "dump"
    fresh = cluster.create_database("template1")
    for command in (
        ["pg_dump", "--format=custom", f"--file={dump}", cluster.dsn(database, user="an_admin")],
        ["pg_restore", "--exit-on-error", *options, f"--dbname={cluster.dsn(fresh)}", str(dump)],
    ):
        done = subprocess.run(
            [str(bin_directory() / command[0]), *command[1:]],
            capture_output=True,
            env={**os.environ, "PGOPTIONS": ""},
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
    return fresh


def test_many_changes_of_one_transaction_are_linked_in_their_order(catalog: psycopg.Connection) -> None:
    names = [f"m{number}" for number in range(300)]
    catalog.execute(
        "INSERT INTO federated.model (workspace_id, name) SELECT w.workspace_id, n.name FROM federated.workspace AS w,"
        " jsonb_array_elements_text(%s) WITH ORDINALITY AS n (name, place) ORDER BY n.place",
        [json.dumps(names)],
    )
    rows = catalog.execute(
        "SELECT object_name FROM federated_audit_log WHERE object_name <> 'risk' AND object_kind = 'model'"
        " ORDER BY chain_position"
    ).fetchall()
    assert [name for (name,) in rows] == names
    assert verify(catalog) == (True, 302, None, None)
