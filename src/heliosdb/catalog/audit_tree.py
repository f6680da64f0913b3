"""The audit log as a tree: entries, their leaves, and the heads that were signed and cosigned of them.

What always holds: it only reads; what is read is as it is stored, and not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.catalog.retention import stub_from_row
from heliosdb.domain.audit_entry import AuditEntry
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.merkle import Edge, edge_from_bytes
from heliosdb.domain.retention import Stub
from heliosdb.domain.tree_head import Log, SignedStatement

_SQL = Statements("audit_tree.sql")
_BATCH = 10_000
_TIMES = ("older_than", "deleted_at")


@dataclass(frozen=True, slots=True)
class StoredHead:
    """A head as it is stored, with the certificate (PEM) of who signed it."""

    origin: UUID
    size: int
    root: bytes
    signed: SignedStatement
    certificate: bytes


@dataclass(frozen=True, slots=True)
class StoredCosignature:
    """A node's cosignature under a head, with the node's certificate (PEM)."""

    origin: UUID
    size: int
    node: NodeName
    signed: SignedStatement
    certificate: bytes


@dataclass(frozen=True, slots=True)
class StoredStub:
    """A stub of entries that were emptied for their age, what was signed, and the certificate (PEM) of who
    signed it; the last two empty where nobody did."""

    stub: Stub
    signed: SignedStatement
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Break:
    """A head that a node holds of a log that is not here; kind: as federated.audit_break has it."""

    origin: UUID
    node: NodeName
    kind: str
    held_size: int
    own_size: int


def list_chains(connection: Connection, workspace: WorkspaceName) -> dict[UUID, int]:
    """Return how many entries there are of each chain of a workspace, by origin."""
    return {UUID(row["origin"]): row["entries"] for row in _SQL.query(connection, "list_chains", workspace)}


def read_leaves(connection: Connection, log: Log, after: int, until: int) -> list[bytes]:
    """Return the hashes of the entries behind the first `after`, up to position `until`."""
    [row] = _SQL.query(connection, "read_leaves", log[0], str(log[1]), after, until)
    return list(row["hashes"] or ())


def iterate_leaves(connection: Connection, log: Log, after: int, until: int) -> Iterator[bytes]:
    """Give the same one after the other, a part of them in memory at a time."""
    for start in range(after, until, _BATCH):
        yield from read_leaves(connection, log, start, min(start + _BATCH, until))


def list_heads(
    connection: Connection, workspace: WorkspaceName, origin: UUID | None = None
) -> list[StoredHead]:
    """Return the signed heads of a workspace, or of one chain of it, the smallest first."""
    rows = _SQL.query(connection, "list_heads", workspace, None if origin is None else str(origin))
    return [_head(row, UUID(row["origin"])) for row in rows]


def list_cosignatures(
    connection: Connection, workspace: WorkspaceName, origin: UUID | None = None
) -> list[StoredCosignature]:
    """Return the cosignatures under them."""
    rows = _SQL.query(connection, "list_cosignatures", workspace, None if origin is None else str(origin))
    return [_cosignature(row, UUID(row["origin"]), row["tree_size"]) for row in rows]


def list_stubs(connection: Connection, workspace: WorkspaceName) -> list[StoredStub]:
    """Return the stubs of what was emptied of a workspace's chains, in the order of the entries."""
    return [
        StoredStub(
            stub_from_row({**row, **{name: datetime.fromisoformat(row[name]) for name in _TIMES}}),
            SignedStatement(bytes(row["statement"]), bytes(row["signature"])),
            row["certificate"].encode(),
        )
        for row in _SQL.query(connection, "list_stubs", workspace)
    ]


def list_breaks(connection: Connection, workspace: WorkspaceName) -> list[Break]:
    """Return which heads nodes hold that are not of a log here."""
    return [
        Break(UUID(row["origin"]), NodeName(row["node_name"]), row["kind"], row["held_size"], row["own_size"])
        for row in _SQL.query(connection, "list_breaks", workspace)
    ]


def find_entry(connection: Connection, workspace: WorkspaceName, audit_id: UUID) -> AuditEntry | None:
    """Return an entry; None where it is not there, or not linked yet."""
    rows = _SQL.query(connection, "find_entry", workspace, str(audit_id))
    return AuditEntry(**rows[0]) if rows else None


def iterate_entries(connection: Connection, log: Log) -> Iterator[AuditEntry]:
    """Give the entries of a chain in their order."""
    last = 0
    while rows := _SQL.query(connection, "list_entries", log[0], str(log[1]), last, _BATCH):
        yield from (AuditEntry(**row) for row in rows)
        last = rows[-1]["chain_position"]


def is_known(connection: Connection, workspace: WorkspaceName) -> bool:
    """Tell whether the log has any entry of a workspace."""
    return bool(_SQL.query(connection, "is_known", workspace)[0]["known"])


def find_covering_head(connection: Connection, log: Log, position: int) -> StoredHead | None:
    """Return, of the heads that are over an entry, the one that the most nodes have cosigned, the smallest of
    several; None where there is none."""
    rows = _SQL.query(connection, "find_covering_head", log[0], str(log[1]), position)
    return _head(rows[0], log[1]) if rows else None


def find_edge(connection: Connection, log: Log, most: int) -> Edge:
    """Return the edge of the largest head that is over at most so many entries, or of nothing."""
    rows = _SQL.query(connection, "find_edge", log[0], str(log[1]), most)
    return edge_from_bytes(rows[0]["tree_size"], bytes(rows[0]["edge"])) if rows else Edge()


def list_head_cosignatures(connection: Connection, log: Log, size: int) -> list[StoredCosignature]:
    """Return the cosignatures under one head."""
    rows = _SQL.query(connection, "list_head_cosignatures", log[0], str(log[1]), size)
    return [_cosignature(row, log[1], size) for row in rows]


def begin_reading(connection: Connection) -> None:
    """Have the transaction that has just begun see one state of the log."""
    _SQL.query(connection, "begin_reading")


def _head(row: Row, origin: UUID) -> StoredHead:
    signed = SignedStatement(bytes(row["statement"]), bytes(row["signature"]))
    return StoredHead(origin, row["tree_size"], bytes(row["root"]), signed, row["certificate"].encode())


def _cosignature(row: Row, origin: UUID, size: int) -> StoredCosignature:
    signed = SignedStatement(bytes(row["statement"]), bytes(row["signature"]))
    return StoredCosignature(origin, size, NodeName(row["node_name"]), signed, row["certificate"].encode())
