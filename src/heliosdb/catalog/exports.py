"""Exports in the coordinator's catalog: placed by statements, filled by the daemon, written by the server.

What always holds: what nodes sent is there sealed, until the file is written or given up; an export is
written once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.orders import PendingAnswer
from heliosdb.domain.ids import OrderId

_SQL = Statements("exports.sql")

_MOST_DUE = 100


@dataclass(frozen=True, slots=True)
class WantedFile:
    """What a statement asks to be written. salt, recipient: of the key to which nodes seal."""

    path: str
    format: str
    salt: bytes
    recipient: bytes


@dataclass(frozen=True, slots=True)
class DueExport:
    """An export whose order is over, locked until the transaction ends.

    salt, recipient: of its key. heading: what the file says besides rows; None: not fixed yet. drop_reason:
    why its order was dropped; None: it was not. is_too_late: whether it is tried no longer. may_write:
    whether who asked for it may still have it written.
    """

    path: str
    format: str
    salt: bytes
    recipient: bytes
    heading: Mapping[str, Any] | None
    drop_reason: str | None
    is_too_late: bool
    may_write: bool


def is_path_awaited(connection: Connection, path: str) -> bool:
    """Whether another export is to be written there."""
    return bool(_SQL.query(connection, "is_path_awaited", path)[0]["awaited"])


def insert_export(connection: Connection, batch_id: UUID, wanted: WantedFile) -> None:
    """Say what is to be written of the one order of a batch; a trigger asks for the caller's right."""
    values = (wanted.path, wanted.format, wanted.salt, wanted.recipient)
    _SQL.execute(connection, "insert_export", str(batch_id), *values)


def keep_part(connection: Connection, pending: PendingAnswer, content: bytes) -> None:
    """Keep what a node sent, sealed."""
    _SQL.execute(connection, "keep_part", pending.order_id, pending.node_id, content)


def list_due_exports(connection: Connection) -> list[OrderId]:
    """Return the exports whose file can be written, those that ended first before others."""
    return [OrderId(row["order_id"]) for row in _SQL.query(connection, "list_due_exports", _MOST_DUE)]


def write_export(connection: Connection, order_id: OrderId) -> str:
    """Have the server take an export one step further; returns its state: waiting where that was not the
    last step."""
    return str(_SQL.query(connection, "write_export", order_id)[0]["state"])


def lock_export(connection: Connection, order_id: str) -> DueExport | None:
    """Return an export that can be written, locked; None where there is nothing to be done about it."""
    rows = _SQL.query(connection, "lock_export", order_id)
    if not rows:
        return None
    row = rows[0]
    heading = None if row["heading"] is None else json.loads(row["heading"])
    return DueExport(
        row["path"],
        row["format"],
        bytes(row["salt"]),
        bytes(row["recipient"]),
        heading,
        row["drop_reason"],
        row["is_too_late"],
        row["may_write"],
    )


def read_state(connection: Connection, order_id: str) -> str | None:
    """Return an export's state; None where there is none of that order."""
    rows = _SQL.query(connection, "read_state", order_id)
    return str(rows[0]["state"]) if rows else None


def fix_heading(connection: Connection, order_id: str) -> None:
    """Fix what the file is to say besides rows."""
    _SQL.execute(connection, "fix_heading", order_id)


def read_part(connection: Connection, order_id: str, node_id: int) -> bytes | None:
    """Return what a node sent; None where it sent nothing."""
    rows = _SQL.query(connection, "read_part", order_id, node_id)
    return bytes(rows[0]["content"]) if rows else None


def finish_export(connection: Connection, order_id: str, size: int, sha256: bytes) -> None:
    """Record that the file is written, and destroy what nodes sent."""
    _SQL.execute(connection, "finish_export", order_id, size, sha256)


def fail_export(connection: Connection, order_id: str, reason: str) -> None:
    """Record that there will be no file, and destroy what nodes sent."""
    _SQL.execute(connection, "fail_export", order_id, reason)


def block_export(connection: Connection, order_id: str, reason: str) -> None:
    """Record why the file cannot be written for now."""
    _SQL.execute(connection, "block_export", order_id, reason)
