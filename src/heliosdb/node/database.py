"""The daemon's connection to its own database: one, used by one thread at a time, made again when it breaks.

What always holds: an operation that is run twice because the connection broke must give the same as once; the
operations of this package find what they have already written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

import psycopg

from heliosdb.catalog.connection import Connection
from heliosdb.catalog.participant import ping
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connect
from heliosdb.domain.errors import ErrorCode, FederatedError

T = TypeVar("T")
log = logging.getLogger(__name__)


def unreachable(error: psycopg.Error) -> FederatedError:
    """The public error for a database that does not answer; the reason is logged here only."""
    log.error("database: %s", error)
    return FederatedError(ErrorCode.UNREACHABLE, "the node's database cannot be reached")


class Database:
    """Runs operations over a connection that reconnects by itself."""

    def __init__(self, conninfo: str, *, application_name: str) -> None:
        self._conninfo = psycopg.conninfo.make_conninfo(conninfo)
        if "connect_timeout" not in psycopg.conninfo.conninfo_to_dict(conninfo):
            self._conninfo = psycopg.conninfo.make_conninfo(conninfo, connect_timeout=10)
        self._application_name = application_name
        self._connection: PsycopgConnection | None = None
        self._lock = Lock()

    def run(self, operation: Callable[[Connection], T]) -> T:
        """Run `operation`, once more on a fresh connection where an old one turns out to be broken."""
        with self._lock:
            fresh = self._connection is None
            try:
                return operation(self._connected())
            except psycopg.OperationalError as error:
                self._disconnect()
                if fresh:
                    raise unreachable(error) from error
            try:
                return operation(self._connected())
            except psycopg.OperationalError as error:
                self._disconnect()
                raise unreachable(error) from error

    def check(self) -> None:
        """FederatedError UNREACHABLE where the database does not answer.

        An operation under way is no reason to wait: should the database be gone, that operation says so.
        """
        if self._lock.locked():
            return
        self.run(ping)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._disconnect()

    def _connected(self) -> PsycopgConnection:
        if self._connection is None:
            self._connection = connect(self._conninfo, application_name=self._application_name)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
