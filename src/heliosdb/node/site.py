"""Whether a node can work, and if not, why: what it finds at its own database, and on its way to a
coordinator that it dials.

What always holds: no row is read and nothing is written; a reader whose rights go beyond what is shared is
not worked with, since the training process has them.
"""

from __future__ import annotations

import asyncio
import contextlib

import psycopg

from heliosdb.catalog.failures import connection_obstacle
from heliosdb.catalog.lease import read_catalog_state
from heliosdb.catalog.participant import read_reader_state
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.liveness.answering import State
from heliosdb.liveness.standing import EXTENSION, STARTING, Obstacle, Standing

_EAGER, _EASY = 1.0, 60.0
"""Seconds between two looks: while something is in the way, and while nothing is."""

_UNBOUNDED = Obstacle(
    "reader",
    "not ready: the reader is a superuser or has BYPASSRLS, and could read what nobody has shared",
    "name a role in reader that is a member of federated_reader and nothing more",
)
_NO_EXTENSION = Obstacle(
    EXTENSION,
    "waiting for CREATE EXTENSION heliosdb_federated_learning",
    "type it in the node's own database",
)
_NO_DAEMON = Obstacle(
    "daemon",
    "not ready: permission denied, the role in database is not a member of federated_daemon",
    "GRANT federated_daemon TO it",
)
_NO_READER = Obstacle(
    "member",
    "not ready: permission denied, the role in reader is not a member of federated_reader",
    "GRANT federated_reader TO it",
)
_REPLICA = Obstacle("replica", "not ready: the database is a replica", "name the primary")


def find_obstacle(database: str, reader: str) -> Obstacle | None:
    """Look at the node's database with both of its roles; None where nothing is in the way."""
    return _obstacle_of_daemon(_hurried(database)) or _obstacle_of_reader(_hurried(reader))


def _obstacle_of_daemon(conninfo: str) -> Obstacle | None:
    try:
        with connected(conninfo, application_name="heliosdb node") as connection:
            state = read_catalog_state(connection)
    except psycopg.Error as error:
        return connection_obstacle("not ready: the database is out of reach", conninfo, error)
    if state.replica:
        return _REPLICA
    if not state.installed:
        return _NO_EXTENSION
    return None if state.member else _NO_DAEMON


def _obstacle_of_reader(conninfo: str) -> Obstacle | None:
    try:
        with connected(conninfo, application_name="heliosdb node reader") as connection:
            state = read_reader_state(connection)
    except psycopg.Error as error:
        return connection_obstacle("not ready: the reader cannot connect", conninfo, error)
    if state.unbounded:
        return _UNBOUNDED
    return None if state.member else _NO_READER


def _hurried(conninfo: str) -> str:
    if "connect_timeout" in psycopg.conninfo.conninfo_to_dict(conninfo):
        return conninfo
    return psycopg.conninfo.make_conninfo(conninfo, connect_timeout=5)


_NOT_TO_ANSWER = (STARTING, _UNBOUNDED)


def _not_ready() -> FederatedError:
    return FederatedError(
        ErrorCode.UNREACHABLE, "the node is not ready", hint="The node's own log and ready file say why."
    )


class Site:
    """Keeps looking, and says what it finds."""

    def __init__(self, database: str, reader: str, standing: Standing) -> None:
        self._conninfos = (database, reader)
        self._standing = standing
        self._link: Obstacle | None = None
        self._doubted = asyncio.Event()

    def demand(self) -> None:
        """FederatedError UNREACHABLE where no task may be answered; where one cannot be, that shows."""
        if self._standing.obstacle in _NOT_TO_ANSWER:
            raise _not_ready()

    async def demand_ready(self) -> None:
        """FederatedError UNREACHABLE while anything is in the way: the coordinator counts it as away."""
        # Whoever asks has come: the way to the coordinator is open, whatever was noted of it last.
        if not self.has_database():
            # What was in the way may be gone.
            await self.look()
        if not self.has_database():
            raise _not_ready()

    def is_ready(self) -> bool:
        """Whether nothing was in the way when it looked last."""
        return self._standing.obstacle is None

    def has_database(self) -> bool:
        """Whether nothing was in the way at its databases when it looked last."""
        return self._standing.obstacle in (None, self._link)

    def note_link(self, obstacle: Obstacle | None) -> None:
        """Take in what is in the way to the coordinator that it dials; None: nothing."""
        if obstacle != self._link:
            self._link = obstacle
            self.doubt()

    def state(self) -> State:
        """What is answered to whoever asks how the node is."""
        return self._standing.state()

    def doubt(self) -> None:
        """Have it look again at once: something did not go as it should."""
        self._doubted.set()

    async def look(self) -> None:
        """Look once."""
        self._doubted.clear()
        obstacle = await asyncio.to_thread(find_obstacle, *self._conninfos) or self._link
        if obstacle is None:
            self._standing.ready()
        else:
            self._standing.waits(obstacle)

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            pause = _EASY if self._standing.obstacle is None else _EAGER
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it drops a cancellation that comes as the wait ends.
                async with asyncio.timeout(pause):
                    await self._doubted.wait()
            await self.look()
