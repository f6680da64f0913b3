"""Signed heads in the catalog: what grows is signed on, what does not fit is found, and a dump takes all along."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Iterator
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors

from heliosdb.catalog import tree_heads
from heliosdb.catalog.lease import take_lease
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.catalog.tree_heads import Signer
from heliosdb.domain.ids import Epoch, NodeName, WorkspaceName
from heliosdb.domain.merkle import root
from heliosdb.domain.tree_head import Log, Witnessed
from heliosdb.transport.audit_proofs import find_proof_fault
from heliosdb.transport.authority import Authority
from heliosdb.transport.head_signatures import sign_head, sign_witnessed
from heliosdb.transport.identity import Identity
from tests.support.cluster import Cluster, bin_directory

CLINICS = WorkspaceName("clinics")
AUTHORITY = Authority.create("authority")
COORDINATOR, NORTH = (AUTHORITY.issue(name, ["localhost"]) for name in ("coordinator", "north"))


def signer(identity: Identity) -> Signer:
    return Signer(bytes.fromhex(identity.fingerprint), identity.certificate_pem)


@pytest.fixture
def daemon(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[PsycopgConnection]:
    """The coordinator's session with the daemon's rights alone."""
    del catalog
    with connected(
        cluster.dsn(federated_database, user="heliosdb_daemon"), application_name="test"
    ) as connection:
        yield connection


@pytest.fixture
def epoch(daemon: PsycopgConnection) -> Epoch:
    with daemon.transaction():
        return take_lease(daemon, "test")


def sign(daemon: PsycopgConnection, epoch: Epoch) -> int:
    """Sign what has grown of the workspace's log; return how many entries it has now."""
    [log] = [one for one in tree_heads.list_grown(daemon, 3600.0) if one[0] == CLINICS]
    head = tree_heads.sign_grown(
        daemon, epoch, log, signer(COORDINATOR), lambda text: sign_head(COORDINATOR, text)
    )
    assert head is not None
    return head.size


def cosign(catalog: psycopg.Connection, daemon: PsycopgConnection, epoch: Epoch) -> None:
    catalog.execute("UPDATE federated.node SET status = 'active' WHERE name = 'north'")
    sign(daemon, epoch)
    [one] = [one for one in tree_heads.list_unwitnessed(daemon) if one.node == "north"]
    witnessed = Witnessed(one.head.sha256, NodeName("north"), dt.datetime.now(dt.UTC))
    tree_heads.store_cosignature(
        daemon, epoch, one, sign_witnessed(NORTH, witnessed.statement()), signer(NORTH)
    )


def grow(catalog: psycopg.Connection, *names: str) -> None:
    for name in names:
        statement = (
            f"REGISTER FEDERATED NODE '{name}' IN WORKSPACE clinics WITH (endpoint = 'https://{name}:1')"
        )
        catalog.execute("CALL federated.execute(%s)", [statement])


def verify(session: psycopg.Connection) -> tuple[bool, int | None, str | None, int, int]:
    [row] = session.execute(
        "SELECT is_intact, broken_at, reason, signed_entries, witnessed_entries FROM federated_audit_verify('clinics')"
    ).fetchall()
    return row


def test_a_head_is_over_all_there_is_and_the_next_goes_on(
    catalog: psycopg.Connection, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    sizes = []
    for names in (("a",), ("b", "c", "d"), ("e",)):
        grow(catalog, *names)
        sizes.append(sign(daemon, epoch))
    # Which key signs is an entry of its own, once.
    assert sizes == [4, 8, 9]
    leaves = [
        bytes(leaf)
        for (leaf,) in catalog.execute(
            "SELECT hash FROM federated.audit WHERE workspace = 'clinics' ORDER BY chain_position"
        ).fetchall()
    ]
    stored = catalog.execute("SELECT tree_size, root FROM federated.tree_head ORDER BY tree_size").fetchall()
    assert [(size, bytes(value)) for size, value in stored] == [(size, root(leaves[:size])) for size in sizes]
    assert verify(catalog) == (True, None, None, 9, 0)
    assert [one for one in tree_heads.list_grown(daemon, 3600.0) if one[0] == CLINICS] == []


def test_while_somebody_trains_a_head_waits_for_its_time(
    catalog: psycopg.Connection, daemon: PsycopgConnection, epoch: Epoch
) -> None:
    sign(daemon, epoch)
    grow(catalog, "a")
    catalog.execute("CALL federated.execute('START FEDERATED TRAINING risk')")

    def waiting(interval: float) -> list[Log]:
        return [one for one in tree_heads.list_grown(daemon, interval) if one[0] == CLINICS]

    assert waiting(3600.0) == []
    assert len(waiting(0.0)) == 1
    catalog.execute("CALL federated.execute('STOP FEDERATED TRAINING risk')")
    catalog.execute("UPDATE federated.run SET status = 'stopped'")
    assert len(waiting(3600.0)) == 1


REWRITTEN: LiteralString = """
DO $$
DECLARE entry record; before bytea;
BEGIN
    UPDATE federated.audit SET session_role = 'x' WHERE workspace = 'clinics' AND chain_position = 2;
    FOR entry IN SELECT a.audit_id FROM federated.audit AS a WHERE a.workspace = 'clinics' ORDER BY a.chain_position LOOP
        UPDATE federated.audit AS a SET previous_hash = before, hash = federated._audit_hash(a, a.origin, a.chain_position, before)
        WHERE a.audit_id = entry.audit_id RETURNING a.hash INTO before;
    END LOOP;
    UPDATE federated.audit_head SET hash = before WHERE workspace = 'clinics';
END $$
"""


@pytest.mark.parametrize(
    ("tampering", "broken_at", "words"),
    [
        (REWRITTEN, 1, "entries 1 to 4 are not what the head that was signed at"),
        ("DELETE FROM federated.audit WHERE workspace = 'clinics' AND chain_position > 5; UPDATE federated.audit_head SET"
         " chain_position = 5, hash = (SELECT a.hash FROM federated.audit AS a WHERE workspace = 'clinics' AND chain_position = 5)"
         " WHERE workspace = 'clinics'", 6, "1 entry at the end, which the head that was signed"),
        ("UPDATE federated.tree_head SET root = sha256('')", 4, "the head over 4 entries is not one that was signed"),
        ("UPDATE federated.tree_head SET signature = '\\x00'", 4, "the head over 4 entries is not one that was signed"),
        ("UPDATE federated.tree_head SET statement = '{}'", 4, "the head over 4 entries is not one that was signed"),
        ("UPDATE federated.cosignature SET node_name = 'south'", 6, 'not the one that node "south" cosigned'),
        ("UPDATE federated.cosignature SET signature = '\\x00'", 6, 'not the one that node "north" cosigned'),
        ("INSERT INTO federated.audit_break (workspace, origin, node_name, kind, held_size, own_size, held_statement, held_signature)"
         " SELECT 'clinics', origin, 'north', 'rolled back', 9, 6, '', '' FROM federated.audit_origin", 7,
         'node "north" holds a signed head over 9 entries, and the log had 6'),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_heads_is_found_where_it_begins(
    catalog: psycopg.Connection,
    daemon: PsycopgConnection,
    epoch: Epoch,
    tampering: LiteralString,
    broken_at: int,
    words: str,
) -> None:
    grow(catalog, "north")
    sign(daemon, epoch)
    cosign(catalog, daemon, epoch)
    assert verify(catalog) == (True, None, None, 6, 6)
    with catalog.transaction(force_rollback=True):
        catalog.execute(tampering)
        intact, found_at, reason, _, _ = verify(catalog)
        assert (intact, found_at) == (False, broken_at), reason
        assert words in (reason or "")


def test_a_proof_of_each_entry_holds_and_of_no_other(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    daemon: PsycopgConnection,
    epoch: Epoch,
) -> None:
    grow(catalog, "north", "b", "c")
    rows = catalog.execute("SELECT audit_id FROM federated.audit WHERE workspace = 'clinics'").fetchall()
    ask: LiteralString = "SELECT federated._audit_inclusion('clinics', %s)"
    with cluster.connect(federated_database, user="an_auditor") as auditor:
        assert [auditor.execute(ask, one).fetchone() for one in rows] == [(None,)] * len(rows)
        cosign(catalog, daemon, epoch)
        for one in rows:
            [(proof,)] = auditor.execute(ask, one).fetchall()
            assert find_proof_fault(proof, [COORDINATOR.certificate_pem]) is None
            assert [signed["node"] for signed in proof["cosignatures"]] == ["north"]
            assert find_proof_fault(proof, [NORTH.certificate_pem]) is not None
            for changed in (
                {"leaf_index": proof["leaf_index"] + 1}, {"tree_size": 1}, {"path": proof["path"][1:]}, {"path": ["zz"]},
                {"root_sha256": "00" * 32}, {"entry": proof["entry"] | {"object_name": "x"}}, {"head": {}},
                {"cosignatures": [proof["cosignatures"][0] | {"node": "south"}]}, {"leaf_sha256": None},
            ):  # fmt: skip
                assert find_proof_fault(proof | changed) is not None
            assert find_proof_fault(json.loads("{}")) is not None
        assert auditor.execute(
            "SELECT federated._audit_inclusion('clinics', gen_random_uuid())"
        ).fetchone() == (None,)


def test_a_dump_takes_heads_along_and_the_restored_log_is_another(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    daemon: PsycopgConnection,
    epoch: Epoch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    grow(catalog, "north")
    cosign(catalog, daemon, epoch)
    dump, fresh = tmp_path_factory.mktemp("dump") / "dump", cluster.create_database("template1")
    for command in (
        ["pg_dump", "--format=custom", f"--file={dump}", cluster.dsn(federated_database, user="an_admin")],
        ["pg_restore", "--exit-on-error", f"--dbname={cluster.dsn(fresh)}", str(dump)],
    ):
        subprocess.run([str(bin_directory() / command[0]), *command[1:]], check=True, capture_output=True)
    with cluster.connect(fresh) as copy:
        assert verify(copy) == (True, None, None, 0, 0)
        assert copy.execute("SELECT count(*) FROM federated_audit_heads").fetchone() == (1,)
        with copy.transaction(force_rollback=True):
            copy.execute("UPDATE federated.tree_head SET root = sha256('')")
            assert (verify(copy)[2] or "").endswith(
                "in the chain that a dump of another database brought along"
            )


def test_heads_are_auditors_to_read_and_nobodys_to_change(
    cluster: Cluster,
    federated_database: str,
    catalog: psycopg.Connection,
    daemon: PsycopgConnection,
    epoch: Epoch,
) -> None:
    sign(daemon, epoch)
    for role in ("an_auditor", "an_admin"):
        with cluster.connect(federated_database, user=role) as session:
            session.read_only = True
            with session.transaction():
                assert verify(session)[0]
                assert len(session.execute("SELECT * FROM federated_audit_heads").fetchall()) == 1
    for role in ("an_admin", "an_operator", "an_analyst", "an_auditor", "heliosdb_daemon", "a_nobody"):
        with cluster.connect(federated_database, user=role) as session:
            for attack in (
                "UPDATE federated.tree_head SET root = sha256('')", "DELETE FROM federated.tree_head",
                "UPDATE federated.cosignature SET node_name = 'x'", "DELETE FROM federated.cosignature",
                "UPDATE federated.signer SET certificate = ''", "DELETE FROM federated.audit_break",
                "UPDATE federated.witnessed_head SET root = sha256('')", "DELETE FROM federated.head_conflict",
                "TRUNCATE federated.witnessed_head",
            ):  # fmt: skip
                with pytest.raises(errors.InsufficientPrivilege):
                    session.execute(attack)


def test_what_is_not_held_cannot_be_forgotten(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> None:
    del catalog
    with cluster.connect(federated_database, user="an_admin") as session:
        with pytest.raises(errors.UndefinedObject, match='no head of the audit log of workspace "clinics"'):
            session.execute("SELECT federated_forget_heads('clinics')")
        with pytest.raises(errors.NullValueNotAllowed):
            session.execute("SELECT federated_forget_heads(NULL)")
    with (
        cluster.connect(federated_database, user="an_operator") as session,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        session.execute("SELECT federated_forget_heads('clinics')")
