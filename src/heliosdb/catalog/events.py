"""The history of what the coordinator decided and saw.

What always holds: it is only ever added to, in the transaction of `lease.fenced` that commits what it tells
of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import Epoch, NodeName, RunId

_SQL = Statements("events.sql")


def record_event(
    connection: Connection,
    epoch: Epoch,
    kind: str,
    *,
    run: RunId | None = None,
    number: int | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Append to the history of what the coordinator decided and saw."""
    run_id = None if run is None else str(run)
    _SQL.query(connection, "insert_event", epoch, run_id, number, kind, json.dumps(details or {}))


def find_left_out(connection: Connection, run: RunId) -> dict[NodeName, str]:
    """Return which nodes could not answer a run when its round 0 was opened, and why."""
    rows = _SQL.query(connection, "find_left_out", str(run))
    found: dict[NodeName, str] = json.loads((rows[0]["left_out"] if rows else None) or "{}")
    return found
