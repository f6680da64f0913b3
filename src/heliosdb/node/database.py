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
from heliosdb.catalog.failures import condition, is_connection_lost
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connect
from heliosdb.catalog.server_state import ping
from heliosdb.domain.errors import ErrorCode, FederatedError

T = TypeVar("T")
log = logging.getLogger(__name__)


def unreachable() -> FederatedError:
    """The public error for a connection to the node's database that failed."""
    return FederatedError(ErrorCode.UNREACHABLE, "the node's database cannot be reached")


def public_error(error: psycopg.Error) -> FederatedError:
    """What is said, and logged, of a statement of the daemon that failed: never the server's text.

    INTERNAL: it may have failed after a charge, so it proves nothing of what was released.
    """
    named = condition(error.sqlstate)
    log.error("database: %s", named)
    if is_connection_lost(error):
        return unreachable()
    return FederatedError(
        ErrorCode.INTERNAL,
        f"the node's database does not do what the node asks of it ({named})",
        hint="The database's own log says why.",
    )


def unreadable(error: psycopg.Error, dataset: str) -> FederatedError:
    """What is said, and logged, of rows that cannot be read: never the server's text, which may quote one."""
    named = condition(error.sqlstate)
    if is_connection_lost(error):
        log.error("the rows of dataset %s are out of reach: %s", dataset, named)
        return unreachable()
    log.error("dataset %s cannot be read: %s", dataset, named)
    return FederatedError(ErrorCode.WRONG_STATE, f'dataset "{dataset}" cannot be read ({named})')


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
            except psycopg.Error as error:
                self._disconnect()
                passing = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
                if fresh or not passing:
                    raise public_error(error) from None
            try:
                return operation(self._connected())
            except psycopg.Error as error:
                self._disconnect()
                raise public_error(error) from None

    @property
    def is_busy(self) -> bool:
        """Whether an operation is under way."""
        return self._lock.locked()

    def check(self) -> None:
        """FederatedError UNREACHABLE where the database does not answer.

        An operation under way is no reason to wait: should the database be gone, that operation says so.
        """
        if self.is_busy:
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
