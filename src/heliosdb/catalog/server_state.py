"""What `heliosdb doctor` reads of a server: versions, extension, roles, clock.

What always holds: it only reads catalogs that every role may read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import RawCursor
from psycopg.rows import dict_row

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.psycopg_connection import PsycopgConnection

_SQL = Statements("doctor.sql")


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server and database as a role finds them.

    available, installed: versions of the extension; None: it is not. schemas: of the session's search_path.
    roles: those of the product that the role is a member of. client_address: None over a Unix socket. now:
    seconds since 1970 by the server's clock.
    """

    version_number: int
    version: str
    is_replica: bool
    role: str
    is_superuser: bool
    has_plpython: bool
    available: str | None
    installed: str | None
    extension_schema: str | None
    schemas: list[str]
    roles: list[str]
    is_encrypted: bool | None
    client_address: str | None
    now: float


@contextmanager
def as_the_role_does(conninfo: str) -> Iterator[PsycopgConnection]:
    """A session with the role's own settings, search_path among them; psycopg.Error where there is none."""
    with psycopg.connect(
        conninfo,
        autocommit=True,
        row_factory=dict_row,
        cursor_factory=RawCursor,
        application_name="heliosdb doctor",
    ) as raw:
        yield PsycopgConnection(raw)


def read_server_state(connection: Connection) -> ServerState:
    """Return what the session's role finds."""
    return ServerState(**_SQL.query(connection, "server_state")[0])


def list_reach(connection: Connection) -> list[str]:
    """Return up to four relations that the session's role may read and that are no dataset's."""
    return [row["relation"] for row in _SQL.query(connection, "reader_reach")]


def ping(connection: Connection) -> None:
    """Have the database answer."""
    _SQL.query(connection, "ping")
