"""What is deleted for its age, in the catalog of a coordinator and in that of a node.

What always holds: the database decides by its own clock what is old enough; it commits no deletion whose stub
was not signed in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.retention import EmptiedEntries, Stub

_SQL = Statements("retention.sql")

Sign = Callable[[bytes], tuple[bytes, str]]
"""A statement's signature, and the certificate (PEM) whose key made it."""


def list_retained(connection: Connection) -> list[WorkspaceName]:
    """Return the workspaces of which what is old is deleted: all that are not on hold, dropped ones and none
    among them."""
    return [WorkspaceName(row["workspace"]) for row in _SQL.query(connection, "list_retained")]


def forget_expired(connection: Connection, workspace: WorkspaceName, sign: Sign) -> list[Stub]:
    """Delete what is older than the workspace's retention, a part of it at a time; in a transaction of the
    caller's. Returns the stubs, none where nothing is left to delete."""
    return _signed(connection, _SQL.query(connection, "forget_expired", workspace), sign)


def fold_experiments(connection: Connection, workspace: WorkspaceName) -> int:
    """Make what experiments keep no longer a part of their arms' sums. Returns how many rows that were."""
    return int(_SQL.query(connection, "fold_experiments", workspace)[0]["folded"])


def forget_node_history(connection: Connection, retention_days: int, sign: Sign) -> list[Stub]:
    """Delete what is older of a node's releases, refusals and runs; in a transaction of the caller's."""
    return _signed(connection, _SQL.query(connection, "forget_node_history", retention_days), sign)


def _signed(connection: Connection, rows: Sequence[Row], sign: Sign) -> list[Stub]:
    stubs = [stub_from_row(row) for row in rows]
    for stub in stubs:
        statement = stub.statement()
        _SQL.query(connection, "sign_stub", stub.id, statement, *sign(statement))
    return stubs


def stub_from_row(row: Row) -> Stub:
    """Return what a row of federated.retention_stub says."""
    emptied = None
    if row["origin"] is not None:
        place = (row["first_position"], row["last_position"])
        emptied = EmptiedEntries(UUID(str(row["origin"])), *place, bytes(row["content_sha256"]))
    return Stub(
        row["stub_id"],
        row["name"],
        WorkspaceName(row["workspace"]),
        row["entries"],
        row["older_than"],
        row["deleted_at"],
        emptied,
    )
