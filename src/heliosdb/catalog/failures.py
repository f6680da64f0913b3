"""What may be said of a failure of PostgreSQL: its SQLSTATE and condition name, never the server's text.

What always holds: nothing here quotes what the server wrote, which may hold a row, nor a connection string,
which may hold a password; an SQLSTATE that PostgreSQL does not define is not named either, since the author
of a function chooses it, of a row if he likes.
"""

from __future__ import annotations

import ctypes
import re
import select
import time
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import pq

from heliosdb.liveness.standing import Obstacle

_OWN: Final = "a condition of the site's own"
_ENDS_A_SESSION: Final = ("FATAL", "PANIC")
_SQLSTATE_ONLY: Final = 3
"""libpq's PQERRORS_SQLSTATE: of the server's answer the code alone."""

_EVENTS: Final = {pq.PollingStatus.READING: select.POLLIN, pq.PollingStatus.WRITING: select.POLLOUT}

_REMEDIES: Final = {
    "28P01": "Give the right password in the connection string, or in a password file.",
    "28000": "Let the role log in: ALTER ROLE … LOGIN, and a line for it in the server's pg_hba.conf.",
    "3D000": "Make the database, or name another one.",
    "57P03": "The server is starting or stopping; this goes on by itself.",
    "53300": "Raise max_connections, or end other sessions.",
    "42501": "GRANT the role what it needs.",
    None: "Start the server, or name another host and port in the connection string.",
}


class ToldError(psycopg.Error):
    """An error of a connection that another process has: its code, and whether the connection is lost."""

    def __init__(self, sqlstate: str | None, *, is_lost: bool) -> None:
        super().__init__()
        self.sqlstate = sqlstate
        self.is_lost = is_lost


def condition(sqlstate: str | None) -> str:
    """A code with PostgreSQL's name for it: "22012 division_by_zero"."""
    if sqlstate is None:
        return "no answer from the server"
    try:
        name = psycopg.errors.lookup(sqlstate).__name__.rstrip("_")
    except KeyError:
        return _OWN
    return f"{sqlstate} {re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()}"


def is_connection_lost(error: psycopg.Error) -> bool:
    """Whether it is the connection itself that failed, not what was asked over it.

    A foreign server's failure has a code and is an ERROR: the session goes on.
    """
    if isinstance(error, ToldError):
        return error.is_lost
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    return error.sqlstate is None or error.diag.severity_nonlocalized in _ENDS_A_SESSION


def remedy(sqlstate: str | None) -> str:
    """What an administrator does about a connection that fails so; "" where there is no one thing."""
    return _REMEDIES.get(sqlstate, "")


def connection_obstacle(what: str, conninfo: str, error: psycopg.Error) -> Obstacle:
    """Why a connection cannot be made, after an attempt has failed. what: what is out of reach."""
    code = error.sqlstate or refusal_of(conninfo)
    return Obstacle(code or "unreachable", f"{what}: {condition(code)}", remedy(code))


def refusal_of(conninfo: str, seconds: float = 5.0) -> str | None:
    """The SQLSTATE with which a server refuses a connection; None where none answers, or it lets in.

    libpq gives no code for a connection that fails, unless its verbosity is set before the answer comes:
    which psycopg does not do, hence a connection of its own.
    """
    connection = pq.PGconn.connect_start(conninfo.encode())
    try:
        _tell_codes(connection)
        if _is_refused(connection, time.monotonic() + seconds):
            found = re.search(r"\b([0-9A-Z]{5})\s*$", connection.get_error_message())
            return None if found is None else found[1]
        return None
    finally:
        connection.finish()


def _is_refused(connection: Any, deadline: float) -> bool:
    """Drive a connection to its end; False where it is made, or takes too long."""
    state = pq.PollingStatus.WRITING
    while connection.status != pq.ConnStatus.BAD and state != pq.PollingStatus.OK:
        waiting = select.poll()
        waiting.register(connection.socket, _EVENTS[pq.PollingStatus(state)])
        if not waiting.poll(max(deadline - time.monotonic(), 0.0) * 1000.0):
            return False
        state = connection.connect_poll()
    return bool(connection.status == pq.ConnStatus.BAD)


def _tell_codes(connection: Any) -> None:
    library = _libpq()
    if library is not None:
        library.PQsetErrorVerbosity(ctypes.c_void_p(connection.pgconn_ptr), _SQLSTATE_ONLY)


def _libpq() -> ctypes.CDLL | None:
    """The very libpq that psycopg has loaded; None where it cannot be told."""
    try:
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"(/\S*/libpq[-.]\S*)", mapped)
        return None if found is None else ctypes.CDLL(found[1])
    except OSError:
        return None
