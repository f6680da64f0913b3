"""A superuser of the coordinator's database rewrites the audit log, and is found by what nodes hold of it.

Each attack is played on the log of one federation whose heads two nodes have cosigned, and looked at as an auditor does
who exports the log and verifies it against the heads that the nodes export: without a database, and without believing
anything in the log's own file. Each test names what finds it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from heliosdb.catalog.audit_tree import list_stubs
from heliosdb.catalog.psycopg_connection import PsycopgConnection
from heliosdb.catalog.psycopg_connection import connect as connect_catalog
from heliosdb.cli.audit import export_heads, stored_lines
from heliosdb.cli.audit_files import HeadsFile, LogFile, read_heads, read_log, write_new
from heliosdb.cli.audit_verification import Verification, describe, verify_log
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.merkle import Edge, consistency_path
from heliosdb.domain.tree_head import (
    SignedStatement,
    TreeHead,
    WitnessAnswer,
    Witnessed,
    WitnessRequest,
    parse_head,
)
from heliosdb.transport.head_signatures import sign_head, sign_witnessed
from heliosdb.transport.identity import Identity
from tests.integration.coordinator.support import WORKSPACE, World, create_model, create_workspace
from tests.security.rewriting import (
    ATTACKS,
    CHANGED,
    EMPTY,
    FORGED_ROLE,
    HIDDEN,
    NO_HEADS,
    OURS,
    REHASH,
    STUB,
    UNGUARDED,
)
from tests.support.cluster import Cluster
from tests.support.federation import Federation

NAME = WorkspaceName(WORKSPACE)
OTHER = "another"
NODES = ("north", "south")
SETTLED = (
    "NOT EXISTS (SELECT FROM federated.audit_head AS h JOIN federated.workspace AS w ON w.name = h.workspace"
    " WHERE h.chain_position > coalesce((SELECT max(t.tree_size) FROM federated.tree_head AS t"
    " WHERE t.workspace = h.workspace), 0)) AND (SELECT count(*) FROM federated.cosignature AS c"
    " JOIN federated.audit_head AS h ON (h.workspace, h.origin, h.chain_position) = (c.workspace, c.origin, c.tree_size)"
    " WHERE h.workspace = 'consortium') = 2"
)


@dataclass
class Stack:
    """The federation, its nodes' heads as they exported them, and how large their log was then."""

    world: World
    held: list[HeadsFile] = field(default_factory=list)
    size: int = 0

    @property
    def directory(self) -> Path:
        return self.world.federation.directory

    def exported(self, connection: PsycopgConnection, workspace: WorkspaceName = NAME) -> LogFile:
        """The log as the connection's transaction sees it."""
        path = self.directory / f"{uuid4().hex}.log"
        write_new(path, stored_lines(connection, workspace))
        return read_log(path)

    def heads_of(self, name: str) -> HeadsFile:
        """What a node exports now."""
        [site] = [one for one in self.world.sites if one.name == name]
        assert site.process is not None
        path = self.directory / f"{name}-{uuid4().hex}.heads"
        export_heads(site.process.settings, None, path, print)
        return replace(read_heads(path), name=name)


async def set_up(world: World, stack: Stack) -> None:
    create_workspace(world)
    world.execute(f"CREATE FEDERATED WORKSPACE {OTHER}")
    for name in NODES:
        world.register(await world.add_site(name, rows=50))
    for number in range(8):
        world.execute(f"CREATE FEDERATED MODEL m{number} IN WORKSPACE {WORKSPACE} WITH "
                      "(algorithm = 'linear_regression', features = ['age'], target = 'outcome')")  # fmt: skip
        world.execute(f"CREATE FEDERATED MODEL o{number} IN WORKSPACE {OTHER} WITH "
                      "(algorithm = 'linear_regression', features = ['age'], target = 'outcome')")  # fmt: skip
    coordinator = world.start_coordinator()
    await world.reached(SETTLED)
    # A second head over a few more, so that there is an old one.
    create_model(world)
    await world.reached(SETTLED)
    coordinator.kill()


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    database = cluster.create_database("federated_template")
    world = World(cluster, Federation(tmp_path_factory.mktemp("federation")), database)
    made = Stack(world)
    try:
        asyncio.run(set_up(world, made))
        made.held = [made.heads_of(name) for name in NODES]
        [row] = world.query(
            "SELECT max(tree_size) AS size FROM federated.tree_head WHERE workspace = %s", WORKSPACE
        )
        made.size = row["size"]
        yield made
    finally:
        world.clean_up()
        cluster.drop_database(database)


@pytest.fixture
def superuser(stack: Stack) -> Iterator[PsycopgConnection]:
    """A superuser's session, all of whose deeds are undone."""
    connection = connect_catalog(stack.world.cluster.dsn(stack.world.database), application_name="attacker")
    try:
        # Attacks are several statements at once.
        connection.raw.prepare_threshold = None
        with connection.raw.transaction(force_rollback=True):
            yield connection
    finally:
        connection.close()


def verify(stack: Stack, superuser: PsycopgConnection, *held: HeadsFile) -> Verification:
    return verify_log(stack.exported(superuser), held or stack.held)


def kinds(found: Verification) -> set[str]:
    return {fault.kind for fault in found.faults}


def reasons(found: Verification) -> str:
    return "\n".join(fault.reason for fault in found.faults)


def test_the_log_as_it_was_written_is_that_of_all_heads(stack: Stack, superuser: PsycopgConnection) -> None:
    found = verify(stack, superuser)
    assert found.faults == []
    [(log, entries)] = found.entries.items()
    assert log[0] == WORKSPACE
    assert entries == found.held[log] == stack.size


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_superuser_rewrites_is_found(stack: Stack, superuser: PsycopgConnection, attack: str) -> None:
    statements, expected, words = ATTACKS[attack]
    superuser.raw.execute(statements.encode())
    found = verify(stack, superuser)
    assert expected <= kinds(found), found.faults
    assert words in reasons(found)


def forget(superuser: PsycopgConnection, signer: Identity, count: int, workspace: str = WORKSPACE) -> None:
    """Empty a chain's first entries for their age, as the coordinator would, with a stub that somebody signs."""
    superuser.raw.execute(
        b"SELECT federated._forget_audit($1, (SELECT a.recorded_at FROM federated.audit AS a"
        b" WHERE (a.workspace, a.chain_position) = ($1, $2)))",
        [workspace, count + 1],
    )
    for one in list_stubs(superuser, WorkspaceName(workspace)):
        statement = one.stub.statement()
        superuser.raw.execute(
            b"UPDATE federated.retention_stub SET statement = $1, signature = $2, certificate = $3 WHERE stub_id = $4",
            [statement, signer.sign(statement), signer.certificate_pem.decode(), one.stub.id],
        )


def in_database(superuser: PsycopgConnection) -> tuple[bool, str | None]:
    [row] = superuser.raw.execute(
        b"SELECT is_intact, reason FROM public.federated_audit_verify('consortium')"
    ).fetchall()
    return row["is_intact"], row["reason"]


def test_a_log_that_was_emptied_for_its_age_is_verified_by_its_stubs(
    stack: Stack, superuser: PsycopgConnection
) -> None:
    forget(superuser, stack.world.federation.coordinator, 5)
    log = stack.exported(superuser)
    for held, certificates in (
        (stack.held, []),
        ([], [stack.world.federation.coordinator.certificate_pem]),
        ([], []),
    ):
        found = verify_log(log, held, certificates)
        assert found.faults == []
        assert list(found.emptied.values()) == [5]
    assert any("emptied since: 5" in line for line in describe(found, log, stack.held))
    assert in_database(superuser) == (True, None)


@pytest.mark.parametrize("attack", HIDDEN)
def test_what_is_rewritten_and_hides_as_retention_is_found(
    stack: Stack, superuser: PsycopgConnection, attack: str
) -> None:
    forget(superuser, stack.world.federation.coordinator, 5)
    statements, expected, words = HIDDEN[attack]
    superuser.raw.execute(statements.encode())
    found = verify(stack, superuser)
    assert expected <= kinds(found), found.faults
    assert words in reasons(found)
    assert not in_database(superuser)[0]


def test_a_stub_that_a_stranger_signed_is_found(stack: Stack, superuser: PsycopgConnection) -> None:
    """By the certificates that nodes had pinned, and without any by those of the log's own heads."""
    forget(superuser, stack.world.federation.authority.issue("coordinator", ["localhost"]), 5)
    for found in (verify(stack, superuser), verify_log(stack.exported(superuser), [])):
        assert kinds(found) == {"stub", "chain"}
        assert "no coordinator that is known signed" in reasons(found)


def test_a_stub_of_another_workspace_is_found(stack: Stack, superuser: PsycopgConnection) -> None:
    forget(superuser, stack.world.federation.coordinator, 5, OTHER)
    superuser.raw.execute(
        (
            UNGUARDED
            + STUB.format("workspace = 'consortium'")
            + f"UPDATE federated.audit SET {EMPTY} WHERE {OURS} AND chain_position < 6;"
        ).encode()
    )
    found = verify(stack, superuser)
    assert kinds(found) == {"stub", "chain"}
    assert "a stub is of workspace 'another'" in reasons(found)
    assert not in_database(superuser)[0]


def test_an_entry_that_was_made_old_is_not_emptied(stack: Stack, superuser: PsycopgConnection) -> None:
    """Nobody signs that an entry was emptied which is not what its hash is over."""
    superuser.raw.execute(
        CHANGED.format("recorded_at = recorded_at - interval '9 years', details = '{}'").encode()
    )
    forget(superuser, stack.world.federation.coordinator, 5)
    assert list_stubs(superuser, NAME) == []
    assert "entry 5 is not what was recorded" in reasons(verify(stack, superuser))


def test_a_log_that_is_gone_is_found(stack: Stack, superuser: PsycopgConnection) -> None:
    """By there being none of the workspace that the nodes hold heads of."""
    superuser.raw.execute(f"{NO_HEADS} TRUNCATE federated.audit, federated.audit_head".encode())
    with pytest.raises(FederatedError, match="has no entry of workspace"):
        stack.exported(superuser)


def resign(superuser: PsycopgConnection, forger: Identity) -> None:
    """Give the log, as it is now, one head that is signed with a key of the forger's."""
    rows = superuser.raw.execute(
        b"SELECT origin::text, hash FROM federated.audit WHERE workspace = 'consortium' ORDER BY chain_position"
    ).fetchall()
    edge = Edge().extend(bytes(row["hash"]) for row in rows)
    head = TreeHead(NAME, UUID(rows[0]["origin"]), edge.size, edge.root, dt.datetime.now(dt.UTC))
    signed = sign_head(forger, head.statement())
    fingerprint = bytes.fromhex(forger.fingerprint)
    superuser.raw.execute(
        b"INSERT INTO federated.signer VALUES ($1, $2)", [fingerprint, forger.certificate_pem.decode()]
    )
    superuser.raw.execute(
        b"INSERT INTO federated.tree_head VALUES ('consortium', $1, $2, $3, $4, $5, $6, $7, now())",
        [
            rows[0]["origin"],
            edge.size,
            edge.root,
            edge.to_bytes(),
            signed.statement,
            signed.signature,
            fingerprint,
        ],
    )


def test_heads_signed_with_another_key_are_found(stack: Stack, superuser: PsycopgConnection) -> None:
    """By the certificates that the nodes had pinned; and the database alone finds nothing."""
    forger = stack.world.federation.authority.issue("coordinator", ["localhost"])
    superuser.raw.execute(
        (FORGED_ROLE + REHASH + NO_HEADS + "ALTER TABLE federated.tree_head DISABLE TRIGGER audit;").encode()
    )
    resign(superuser, forger)
    [row] = superuser.raw.execute(
        b"SELECT is_intact, reason FROM public.federated_audit_verify('consortium')"
    ).fetchall()
    assert row == {"is_intact": True, "reason": None}
    found = verify(stack, superuser)
    assert {"head", "held head"} <= kinds(found)
    assert "is not signed with the key of any coordinator that is known" in reasons(found)
    # The same with the certificate named, and no node asked.
    named = verify_log(stack.exported(superuser), [], [stack.world.federation.coordinator.certificate_pem])
    assert kinds(named) == {"head"}


def test_what_comes_after_the_last_head_can_be_rewritten(stack: Stack, superuser: PsycopgConnection) -> None:
    """The limit of the claim: it is said which entries no head shows."""
    superuser.raw.execute(
        b"UPDATE federated.node SET options = options || '{\"x\": 1}'; SET CONSTRAINTS ALL IMMEDIATE"
    )
    superuser.raw.execute(
        (
            f"UPDATE federated.audit SET session_role = 'x' WHERE {OURS} AND chain_position > {stack.size};"
            + REHASH
        ).encode()
    )
    found = verify(stack, superuser)
    assert found.faults == []
    [(log, entries)] = found.entries.items()
    assert found.held[log] == stack.size < entries


# Against the nodes themselves, with the coordinator's key in the attacker's hand.


def leaves_of(stack: Stack) -> list[bytes]:
    rows = stack.world.query(
        "SELECT hash FROM federated.audit WHERE workspace = %s ORDER BY chain_position", WORKSPACE
    )
    return [bytes(row["hash"]) for row in rows]


def origin_of(stack: Stack) -> Any:
    return stack.world.query("SELECT origin FROM federated.audit_origin")[0]["origin"]


def ask(
    stack: Stack,
    node: str,
    leaves: list[bytes],
    *,
    held_size: int = 0,
    path: list[bytes] | None = None,
    age: float = 0.0,
    signer: Identity | None = None,
    workspace: str = WORKSPACE,
) -> WitnessAnswer:
    """Show a node a head over these leaves, with the proof that belongs to it or another."""
    edge = Edge().extend(leaves)
    when = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    head = TreeHead(WorkspaceName(workspace), origin_of(stack), edge.size, edge.root, when)
    signed = sign_head(signer or stack.world.federation.coordinator, head.statement())
    if path is None:
        path = consistency_path(leaves, held_size, edge.size) if held_size else []
    request = WitnessRequest(NAME, NodeName(node), signed, held_size, tuple(path))
    [site] = [one for one in stack.world.sites if one.name == node]

    async def call() -> WitnessAnswer:
        client = stack.world.federation.client(site.port, node)
        try:
            return await client.witness(request, 60.0)
        finally:
            await client.close()

    return asyncio.run(call())


def newest(answer: WitnessAnswer) -> TreeHead:
    [held] = [parse_head(one.statement) for one in answer.held]
    return held


def test_a_node_cosigns_no_other_log_of_the_same_size(stack: Stack) -> None:
    leaves = leaves_of(stack)[: stack.size]
    answer = ask(stack, "north", [b"\0" * 32, *leaves[1:]])
    assert answer.cosignature is None
    assert answer.refusal is not None
    assert newest(answer).root == Edge().extend(leaves).root
    # The same log is cosigned once more.
    assert ask(stack, "north", leaves).cosignature is not None


def test_a_node_cosigns_no_log_that_does_not_continue_what_it_saw(stack: Stack) -> None:
    leaves = leaves_of(stack)[: stack.size]
    longer = [b"\0" * 32, *leaves[1:], b"\1" * 32, b"\2" * 32]
    for path in (None, [], [b"\3" * 32]):
        answer = ask(stack, "north", longer, held_size=stack.size, path=path)
        assert answer.cosignature is None
        assert answer.refusal is not None


def test_a_node_goes_by_the_head_that_it_holds_and_not_by_what_it_is_told(stack: Stack) -> None:
    leaves = leaves_of(stack)[: stack.size]
    longer = [b"\0" * 32, *leaves[1:], b"\1" * 32]
    for told in (0, 1, stack.size - 1):
        answer = ask(stack, "north", longer, held_size=told)
        assert (answer.cosignature, answer.refusal) == (None, None)
        assert newest(answer).size == stack.size


def test_a_node_refuses_a_smaller_head_that_is_signed_later(stack: Stack) -> None:
    answer = ask(stack, "north", leaves_of(stack)[: stack.size - 2])
    assert answer.cosignature is None
    assert answer.refusal is not None
    assert "was signed after" in answer.refusal


def test_an_old_head_that_is_replayed_changes_nothing(stack: Stack) -> None:
    answer = ask(stack, "north", leaves_of(stack)[: stack.size - 2], age=3600.0)
    assert (answer.cosignature, answer.refusal) == (None, None)
    assert newest(answer).size == stack.size


def test_a_node_takes_no_head_that_its_coordinator_did_not_sign(stack: Stack) -> None:
    forger = stack.world.federation.authority.issue("coordinator", ["localhost"])
    with pytest.raises(FederatedError, match="not signed by the pinned coordinator"):
        ask(stack, "south", [b"\0" * 32], signer=forger)
    with pytest.raises(FederatedError, match="another workspace's"):
        ask(stack, "south", [b"\0" * 32], workspace=OTHER)


def test_the_evidence_is_kept_at_the_node_and_tells_an_auditor(
    stack: Stack, superuser: PsycopgConnection
) -> None:
    """By the pairs of heads that the node has refused: the log itself is in order."""
    leaves = leaves_of(stack)[: stack.size]
    for _ in range(2):
        assert ask(stack, "north", [b"\7" * 32, *leaves[1:]], age=60.0).refusal is not None
    found = verify(stack, superuser, stack.heads_of("north"))
    assert kinds(found) == {"conflict"}
    [site] = [one for one in stack.world.sites if one.name == "north"]
    with psycopg.connect(stack.world.cluster.dsn(site.database)) as session:
        [(state, entries)] = session.execute("SELECT state, entries FROM federated_node_heads").fetchall()
    assert (state, entries) == ("conflict", stack.size)


def test_two_nodes_that_are_shown_different_logs_are_found_side_by_side(
    stack: Stack, superuser: PsycopgConnection
) -> None:
    """By their heads, to which no one log belongs. The last test: both nodes go on from here apart."""
    leaves = leaves_of(stack)[: stack.size]
    for node, byte in (("north", b"\1"), ("south", b"\2")):
        assert ask(stack, node, [*leaves, byte * 32], held_size=stack.size).cosignature is not None
    heads = [stack.heads_of(name) for name in NODES]
    for one in heads:
        assert "held head" in kinds(verify(stack, superuser, one))
    sizes = {parse_head(one.heads[-1].signed.statement).size for one in heads}
    roots = {parse_head(one.heads[-1].signed.statement).root for one in heads}
    assert (len(sizes), len(roots)) == (1, 2)


def test_a_cosignature_of_another_key_is_found(stack: Stack, superuser: PsycopgConnection) -> None:
    forger = stack.world.federation.authority.issue("north", ["localhost"])
    [row] = superuser.raw.execute(
        b"SELECT statement FROM federated.tree_head WHERE workspace = 'consortium' ORDER BY tree_size LIMIT 1"
    ).fetchall()
    sha256 = SignedStatement(bytes(row["statement"]), b"").sha256
    forged = sign_witnessed(forger, Witnessed(sha256, NodeName("north"), dt.datetime.now(dt.UTC)).statement())
    superuser.raw.execute(
        b"UPDATE federated.cosignature SET statement = $1, signature = $2"
        b" WHERE workspace = 'consortium' AND node_name = 'north'",
        [forged.statement, forged.signature],
    )
    assert "cosignature" in kinds(verify(stack, superuser))
