"""Heads of audit logs as a node keeps them: those that it cosigned, and those that it refused.

What always holds: of a log the newest head is never replaced by one that was not shown to continue it; what
is kept of a log, and of how many logs, is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.tree_head import SignedStatement, TreeHead, parse_head

_SQL = Statements("witnessed_heads.sql")

MOST_HEADS = 1000
"""Of each log."""

MOST_CONFLICTS = 100
"""Of each log."""

MOST_LOGS = 1000
"""Of all workspaces: a coordinator may name any number."""


@dataclass(frozen=True, slots=True)
class WitnessedHead:
    """A head that the node has cosigned. certificate: the coordinator's (PEM). node: what it calls us."""

    signed: SignedStatement
    certificate: bytes
    node: NodeName
    cosignature: SignedStatement

    @property
    def head(self) -> TreeHead:
        """What was signed."""
        return parse_head(self.signed.statement)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A head that was refused beside the one that was held, each with its signer's certificate (PEM)."""

    kind: str
    held: SignedStatement
    held_certificate: bytes
    offered: SignedStatement
    certificate: bytes


def hold_workspace(connection: Connection, workspace: WorkspaceName) -> None:
    """Keep others from adding heads of a workspace until the transaction ends."""
    _SQL.query(connection, "hold_workspace", workspace)


def list_held(connection: Connection, workspace: WorkspaceName) -> list[WitnessedHead]:
    """Return the newest head of each log of a workspace."""
    return [_witnessed(row) for row in _SQL.query(connection, "list_held", workspace)]


def count_logs(connection: Connection) -> int:
    """Return of how many logs, of all workspaces, heads are held."""
    return int(_SQL.query(connection, "count_logs")[0]["logs"])


def list_all(connection: Connection, workspace: WorkspaceName | None) -> list[WitnessedHead]:
    """Return all heads that are held, of one workspace or of all."""
    return [_witnessed(row) for row in _SQL.query(connection, "list_all", workspace)]


def list_conflicts(connection: Connection, workspace: WorkspaceName | None) -> list[Conflict]:
    """Return what was refused, of one workspace or of all."""
    return [
        Conflict(
            row["kind"],
            SignedStatement(bytes(row["held_statement"]), bytes(row["held_signature"])),
            row["held_certificate"].encode(),
            SignedStatement(bytes(row["offered_statement"]), bytes(row["offered_signature"])),
            row["certificate"].encode(),
        )
        for row in _SQL.query(connection, "list_conflicts", workspace)
    ]


def read_time(connection: Connection) -> datetime:
    """Return the database's time."""
    now: datetime = _SQL.query(connection, "now")[0]["now"]
    return now


def store_witnessed(connection: Connection, head: TreeHead, one: WitnessedHead) -> None:
    """Keep a head that was cosigned, and of its log no more than `MOST_HEADS`."""
    _SQL.execute(
        connection,
        "store_witnessed",
        head.workspace,
        str(head.origin),
        head.size,
        head.root,
        head.signed_at,
        one.signed.statement,
        one.signed.signature,
        one.certificate.decode(),
        one.node,
        one.cosignature.statement,
        one.cosignature.signature,
    )
    _SQL.execute(connection, "drop_old", head.workspace, str(head.origin), MOST_HEADS)


def store_conflict(connection: Connection, head: TreeHead, conflict: Conflict) -> None:
    """Keep a head that was refused, once, and of its log no more than `MOST_CONFLICTS`."""
    _SQL.execute(
        connection,
        "store_conflict",
        head.workspace,
        str(head.origin),
        conflict.kind,
        conflict.held.statement,
        conflict.held.signature,
        conflict.held_certificate.decode(),
        conflict.offered.statement,
        conflict.offered.signature,
        conflict.certificate.decode(),
        MOST_CONFLICTS,
    )


def held_statements(held: Sequence[WitnessedHead]) -> tuple[SignedStatement, ...]:
    """What the coordinator signed of each."""
    return tuple(one.signed for one in held)


def _witnessed(row: Row) -> WitnessedHead:
    return WitnessedHead(
        SignedStatement(bytes(row["statement"]), bytes(row["signature"])),
        row["certificate"].encode(),
        NodeName(row["node_name"]),
        SignedStatement(bytes(row["witnessed"]), bytes(row["cosignature"])),
    )
