"""Heads of the audit log as the coordinator keeps them: signed, cosigned, or held by a node and not ours.

What always holds: a head is signed over entries that have committed, in a transaction of the leader; it goes
on from the edge of the head before, so that signing costs what has grown since.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from heliosdb.catalog.audit_tree import find_edge, iterate_leaves, read_leaves
from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.lease import fenced
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch, NodeName, WorkspaceName
from heliosdb.domain.merkle import consistency_path
from heliosdb.domain.tree_head import Log, SignedStatement, TreeHead

_SQL = Statements("tree_heads.sql")

Sign = Callable[[bytes], SignedStatement]


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate (PEM) and its SHA-256."""

    sha256: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Unwitnessed:
    """The newest head of a log that a node has not cosigned. cosigned: the size of the one that it cosigned
    last; 0: of none."""

    log: Log
    size: int
    head: SignedStatement
    node_id: int
    node: NodeName
    cosigned: int


def list_grown(connection: Connection, interval: float) -> list[Log]:
    """Return the logs of this database that have grown beyond their last signed head. interval: of those in
    whose workspace somebody trains, none whose head is younger than so many seconds."""
    return [
        (WorkspaceName(row["workspace"]), UUID(row["origin"]))
        for row in _SQL.query(connection, "list_grown", interval)
    ]


def sign_grown(connection: Connection, epoch: Epoch, log: Log, signer: Signer, sign: Sign) -> TreeHead | None:
    """Sign and store a head over all that a log has now; None where entries are missing."""
    with fenced(connection, epoch):
        [end] = _SQL.query(connection, "read_end", log[0], str(log[1]))
        edge = find_edge(connection, log, end["entries"])
        grown = edge.extend(iterate_leaves(connection, log, edge.size, end["entries"]))
        if grown.size != end["entries"] or grown.size == edge.size:
            return None
        head = TreeHead(log[0], log[1], grown.size, grown.root, end["now"])
        signed = sign(head.statement())
        _SQL.execute(connection, "store_signer", signer.sha256, signer.certificate.decode())
        _SQL.execute(
            connection,
            "store_head",
            log[0],
            str(log[1]),
            head.size,
            head.root,
            grown.to_bytes(),
            signed.statement,
            signed.signature,
            signer.sha256,
            head.signed_at,
        )
    return head


def list_unwitnessed(connection: Connection) -> list[Unwitnessed]:
    """Return for each node that is there the newest heads that it has not cosigned."""
    return [
        Unwitnessed(
            (WorkspaceName(row["workspace"]), UUID(row["origin"])),
            row["tree_size"],
            SignedStatement(bytes(row["statement"]), bytes(row["signature"])),
            row["node_id"],
            NodeName(row["node_name"]),
            row["cosigned"],
        )
        for row in _SQL.query(connection, "list_unwitnessed")
    ]


def prove_growth(connection: Connection, log: Log, old: int, new: int) -> tuple[bytes, ...]:
    """Return the path that shows that the first `new` entries begin with the first `old`; none for old = 0.

    FederatedError WRONG_STATE where entries are missing.
    """
    if old == 0:
        return ()
    edge = find_edge(connection, log, old)
    leaves = read_leaves(connection, log, edge.size, new)
    if edge.size + len(leaves) != new:
        raise FederatedError(ErrorCode.WRONG_STATE, "entries of the audit log are missing")
    return tuple(consistency_path(leaves, old, new, edge))


def find_root(connection: Connection, log: Log, size: int) -> bytes | None:
    """Return the root over the first `size` entries of a log; None where it has not so many."""
    edge = find_edge(connection, log, size)
    grown = edge.extend(iterate_leaves(connection, log, edge.size, size))
    return grown.root if grown.size == size else None


def count_entries(connection: Connection, log: Log) -> int:
    """Return the position of the last entry of a log; 0 for one that is not here."""
    return int(_SQL.query(connection, "count_entries", log[0], str(log[1]))[0]["entries"])


def list_signers(connection: Connection) -> list[bytes]:
    """Return the certificates (PEM) with whose keys heads were signed."""
    return [row["certificate"].encode() for row in _SQL.query(connection, "list_signers")]


def store_cosignature(
    connection: Connection, epoch: Epoch, one: Unwitnessed, cosignature: SignedStatement, signer: Signer
) -> None:
    """Keep a node's cosignature."""
    with fenced(connection, epoch):
        _SQL.execute(connection, "store_signer", signer.sha256, signer.certificate.decode())
        _SQL.execute(
            connection,
            "store_cosignature",
            one.log[0],
            str(one.log[1]),
            one.size,
            one.node,
            cosignature.statement,
            cosignature.signature,
            signer.sha256,
        )


@dataclass(frozen=True, slots=True)
class HeldHead:
    """A head that a node holds and that is not one of a log here. kind: as federated.audit_break has it."""

    head: TreeHead
    signed: SignedStatement
    kind: str
    own_size: int


def record_held(
    connection: Connection,
    epoch: Epoch,
    workspace: WorkspaceName,
    node: NodeName,
    strange: Sequence[HeldHead],
) -> int:
    """Record which heads a node holds of logs that are not here, and that it holds no others any more; return
    how many were not known yet."""
    known = 0
    with fenced(connection, epoch):
        for one in strange:
            found = _SQL.query(
                connection,
                "record_break",
                workspace,
                str(one.head.origin),
                node,
                one.kind,
                one.head.size,
                one.own_size,
                one.signed.statement,
                one.signed.signature,
            )
            known += len(found)
        held = [one.signed.statement for one in strange]
        _SQL.execute(connection, "settle_breaks", workspace, node, held)
    return known
