"""What statements about consent read and write, and the views of consent queries.

What always holds: a data subject is written down only sealed to the node's key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from heliosdb.catalog.connection import Connection, Statements

_SQL = Statements("consents.sql")

Kind = Literal["grant", "revoke"]

ABOUT = b"consent\0"
"""What the box of a data subject is about, before the workspace's name."""


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says of a data subject's consent. purpose None: every purpose. version: of the text that
    is consented to."""

    workspace: str
    kind: Kind
    purpose: str | None = None
    version: str | None = None


def now(connection: Connection) -> str:
    """The database's clock, in ISO 8601: two statements of one transaction have two times."""
    return str(_SQL.query(connection, "clock")[0]["now"])


def find_node_key(connection: Connection) -> bytes | None:
    """Return the public key of this database's node; None before its daemon has published one."""
    rows = _SQL.query(connection, "find_node_key")
    return bytes(rows[0]["sealing_key"]) if rows else None


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
