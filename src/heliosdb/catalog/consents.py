"""Consent in the catalog: what a participant's DBA says, and the register that its node keeps.

What always holds: a data subject is in it as a keyed hash, or sealed to the node until the node's daemon has
taken what was said; what was said once is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from heliosdb.catalog.connection import Connection, Statements

_SQL = Statements("consents.sql")

Kind = Literal["grant", "revoke"]

ABOUT = b"consent\0"
"""What the box of a data subject is about, before the workspace's name."""

MOST_REQUESTS = 1_000
"""So many are taken in one transaction."""


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says of a data subject's consent. purpose None: every purpose. version: of the text that
    is consented to."""

    workspace: str
    kind: Kind
    purpose: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What was said at the node, and its daemon has not taken yet."""

    request_id: int
    said: Said
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Words:
    """Of whom the register has a word that counts for a purpose: digests of 8 bytes each, rising, in one."""

    granted: bytes
    withdrawn: bytes


def now(connection: Connection) -> str:
    """The database's clock, in ISO 8601: two statements of one transaction have two times."""
    return str(_SQL.query(connection, "clock")[0]["now"])


def find_node_key(connection: Connection) -> bytes | None:
    """Return the public key of this database's node; None before its daemon has published one."""
    rows = _SQL.query(connection, "find_node_key")
    return bytes(rows[0]["sealing_key"]) if rows else None


def publish_node_key(connection: Connection, public: bytes) -> None:
    """Publish the node's key where there is none yet."""
    _SQL.execute(connection, "publish_node_key", public)


def find_foreign_dataset(connection: Connection, workspace: str) -> str | None:
    """Return a dataset shared with the workspace that is not the caller's own, if there is one."""
    rows = _SQL.query(connection, "find_foreign_dataset", workspace)
    return str(rows[0]["name"]) if rows else None


def replace_view(connection: Connection, dataset: str, query: str, schemas: Sequence[str]) -> None:
    """Make the view of a dataset's consent_query, in place of what was there."""
    drop_view(connection, dataset)
    _SQL.query(connection, "create_view", dataset, query, list(schemas))


def drop_view(connection: Connection, dataset: str) -> None:
    """Drop the view of a dataset's consent_query, where there is one."""
    _SQL.query(connection, "drop_view", dataset)


def insert_request(connection: Connection, said: Said, sealed: bytes) -> None:
    """Leave word for the node's daemon. sealed: the data subject."""
    values = (said.workspace, said.kind, said.purpose, said.version, sealed)
    _SQL.query(connection, "insert_request", *values)


def list_requests(connection: Connection) -> list[Request]:
    """Return what waits to be taken, as it was said."""
    return [
        Request(
            row["request_id"],
            Said(row["workspace"], row["kind"], row["purpose"], row["version"]),
            bytes(row["sealed"]),
        )
        for row in _SQL.query(connection, "list_requests", MOST_REQUESTS)
    ]


def record_request(connection: Connection, request: Request, digests: Sequence[bytes]) -> None:
    """Enter what was said at this node into its register, where that has not been done."""
    _SQL.execute(connection, "record_request", request.request_id, list(digests))


def drop_request(connection: Connection, request: Request) -> None:
    """Forget a request that this node cannot open."""
    _SQL.execute(connection, "drop_request", request.request_id)


def record_order(
    connection: Connection, said: Said, digests: Sequence[bytes], order: UUID, said_at: datetime
) -> None:
    """Enter what the coordinator ordered; said_at: by its clock; what lies ahead counts as now."""
    values = (said.workspace, list(digests), said.kind, said.purpose, said.version, order, said_at)
    _SQL.execute(connection, "record_order", *values)


def read_words(connection: Connection, workspace: str, purpose: str | None) -> Words:
    """Return whose consent holds, and who has withdrawn, for a dataset of this purpose."""
    (row,) = _SQL.query(connection, "read_words", workspace, purpose)
    return Words(bytes(row["granted"]), bytes(row["withdrawn"]))
