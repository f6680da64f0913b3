"""The API's connections: a bounded pool, and one transaction a call that runs as the caller's role.

What always holds: a role is set for one transaction and gone with it; what runs in it is a named statement of
this package with parameters, or a statement of the language that was rendered from its parts (of the caller's
own, see `box`); no role has more than half of the pool at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, errors
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from federated_sql.render import render
from federated_sql.statements import Command
from heliosdb.api.config import ApiConfig
from heliosdb.api.identity import Claim, TokenClaim, claim_to_confirm
from heliosdb.api.limits import Shares
from heliosdb.api.problems import Problem, forbidden, unauthenticated
from heliosdb.catalog.connection import load_statements

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
Connection = AsyncConnection[dict[str, Any]]

_FILE = "api.sql"
_BOX = "box.sql"
OWN_ROLE = "federated_api"
_MOST_WAITING = 256
RECONNECT = 5.0
_GLANCE = 0.5
_MOST_NOTICES = 20


class Right(Enum):
    """What a path needs: membership in one of these roles. The database asks for its own grants besides.

    KNOWN: of none of them, of whoever is known.
    """

    KNOWN = ()
    READ = ("federated_analyst", "federated_auditor")
    PREDICT = ("federated_analyst",)
    OPERATE = ("federated_operator",)
    ADMINISTER = ("federated_admin",)
    AUDIT = ("federated_auditor", "federated_admin")


@dataclass(frozen=True, slots=True)
class Identity:
    """A claim that the database has confirmed, and the role that it stood for then."""

    claim: Claim
    role: str

    @property
    def key(self) -> str:
        """What its calls are counted under."""
        return self.claim.confirmed_key(self.role)


class Caller:
    """A transaction that runs as the role of the one who calls."""

    def __init__(self, connection: Connection, role: str) -> None:
        self._connection = connection
        self.role = role

    async def rows(self, name: str, *values: object) -> list[dict[str, Any]]:
        """Run the statement of that name, and return its rows."""
        return await run(self._connection, name, *values)

    async def row(self, name: str, *values: object) -> dict[str, Any] | None:
        """Its first row; None where there is none."""
        found = await self.rows(name, *values)
        return found[0] if found else None

    @contextmanager
    def notices(self) -> Iterator[list[str]]:
        """Collect what the database says beside rows while a block runs: message and detail of each."""
        found: list[str] = []

        def keep(notice: psycopg.errors.Diagnostic) -> None:
            if len(found) < _MOST_NOTICES:
                found.append(": ".join(filter(None, (notice.message_primary, notice.message_detail))))

        self._connection.add_notice_handler(keep)
        try:
            yield found
        finally:
            self._connection.remove_notice_handler(keep)

    async def rights(self) -> list[str]:
        """Which rights the role has, by their names."""
        asked = (right for right in Right if right is not Right.KNOWN)
        return [right.name.lower() for right in asked if await _has(self._connection, right)]

    async def execute(self, command: Command) -> None:
        """Execute a statement of the language; psycopg.Error is its error."""
        await self.rows("execute", render(command))

    async def start(self, command: Command) -> UUID:
        """Execute START; return the id of the run."""
        await self.execute(command)
        [row] = await self.rows("started_run")
        return UUID(str(row["run_id"]))

    @asynccontextmanager
    async def as_api(self) -> AsyncIterator[None]:
        """Run a block as the API's own role, which keeps requests and has no other right."""
        await self.rows("act_as", OWN_ROLE)
        yield
        await self.rows("act_as", self.role)


class Database:
    """The pool. It opens and closes with the application, whether or not the database is there."""

    def __init__(self, config: ApiConfig) -> None:
        self._config = config
        self._patience = config.connection_timeout
        self._lacks_extension = False
        self._shares = Shares(max(1, config.connections // 2), config.connection_timeout)
        self._pool = make_pool(config, config.connections, self._configure)

    async def open(self) -> None:
        """Begin to connect; does not wait for it."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def answers(self) -> bool:
        """Whether the database has the extension; psycopg.Error where no connection is to be had."""
        end = time.monotonic() + self._patience
        while True:
            try:
                async with self._pool.connection(timeout=min(_GLANCE, self._patience)) as connection:
                    await connection.execute("SELECT 1")
                return True
            except PoolTimeout:
                if self._lacks_extension:
                    return False
                if time.monotonic() > end:
                    raise

    async def _configure(self, connection: Connection) -> None:
        # Where the extension's functions are is the user's choice at CREATE EXTENSION.
        self._lacks_extension = not await run(connection, "find_functions")
        if self._lacks_extension:
            raise psycopg.OperationalError(
                "the extension heliosdb_federated_learning is not in this database"
            )

    @asynccontextmanager
    async def call(self, identity: Identity, right: Right) -> AsyncIterator[Caller]:
        """A transaction as the role of an identity: committed with the block, undone by any exception.

        Whether it still holds is asked anew: Problem 401 where it does not, 403 where the role lacks the
        right, 429 where it has too many transactions open.
        """
        async with (
            self._shares.one_of(identity.role),
            self._pool.connection() as connection,
            connection.transaction(),
        ):
            # A role that was renamed is counted anew.
            if await _become(connection, identity.claim, right) != identity.role:
                raise unauthenticated()
            yield Caller(connection, identity.role)

    @asynccontextmanager
    async def apart(self, identity: Identity, right: Right, seconds: float) -> AsyncIterator[Connection]:
        """The same on a connection of its own, which nobody had before and nobody has afterwards.

        It is the block's to commit. seconds: how long a statement may take.
        """
        settings = connection_settings(self._config, seconds) | {"prepare_threshold": None}
        conninfo = self._config.database.get_secret_value()
        try:
            async with asyncio.timeout(self._patience):
                connection = await Connection.connect(conninfo, **settings)
        except TimeoutError:
            raise Problem(503, "The database does not answer.", sqlstate="08006", retry_after=1) from None
        try:
            await self._configure(connection)
            await connection.execute("BEGIN")
            if await _become(connection, identity.claim, right) != identity.role:
                raise unauthenticated()
            yield connection
        finally:
            await connection.close()

    async def end_backend(self, process: int) -> None:
        """End a connection of this process's at the server, whatever runs on it."""
        async with self._pool.connection() as connection:
            await run_named(connection, _BOX, "end_backend", process)

    async def confirm(self, claim: Claim, right: Right) -> Identity:
        """Whose a claim is, in a short transaction of its own; Problem 401 or 403."""
        async with self._pool.connection() as connection, connection.transaction():
            return Identity(claim, await _become(connection, claim, right))


async def _become(connection: Connection, claim: Claim, right: Right) -> str:
    role = await _confirm(connection, claim)
    await _act_as(connection, role)
    if right is not Right.KNOWN and not await _has(connection, right):
        raise forbidden()
    return role


async def _has(connection: Connection, right: Right) -> bool:
    [row] = await run(connection, "has_one_of", list(right.value))
    return bool(row["has"])


async def _act_as(connection: Connection, role: str) -> None:
    """Set the role; a Problem 403 where nobody granted it to the login role, which only the log is told."""
    try:
        await run(connection, "act_as", role)
    except errors.InsufficientPrivilege:
        raise ungranted(connection, role) from None


def ungranted(connection: Connection, role: str) -> Problem:
    """The answer to a role that nobody granted to the login role; the log has the GRANT that is missing."""
    grant = SQL("GRANT {} TO {}").format(Identifier(role), Identifier(connection.info.user)).as_string(None)
    # A role's name may hold anything, line breaks too.
    log.warning(
        "calls as role %s are refused: the API's login role cannot become it. A superuser types %s",
        json.dumps(role),
        json.dumps(grant),
    )
    return forbidden()


async def _confirm(connection: Connection, claim: Claim) -> str:
    claim = claim_to_confirm(claim)
    await _act_as(connection, OWN_ROLE)
    if isinstance(claim, TokenClaim):
        [row] = await run(connection, "role_of_token", claim.digest)
    else:
        [row] = await run(connection, "role_vouched_for", claim.role)
    if row["role"] is None:
        raise unauthenticated()
    return str(row["role"])


def make_pool(
    config: ApiConfig, connections: int, configure: Callable[[Connection], Awaitable[None]]
) -> AsyncConnectionPool[Connection]:
    """A pool of that many connections, not open yet. configure: called once for each."""
    return AsyncConnectionPool(
        config.database.get_secret_value(),
        connection_class=AsyncConnection[dict[str, Any]],
        kwargs=connection_settings(config),
        min_size=1,
        max_size=connections,
        max_waiting=_MOST_WAITING,
        timeout=config.connection_timeout,
        configure=configure,
        # After longer the next call begins to connect anew, and waits for no pause that has grown.
        reconnect_timeout=RECONNECT,
        open=False,
    )


def connection_settings(config: ApiConfig, seconds: float | None = None) -> dict[str, Any]:
    """What every connection of the API begins with, for psycopg. seconds: for a statement."""
    milliseconds = round((config.statement_timeout if seconds is None else seconds) * 1000)
    return {
        "autocommit": True,
        "row_factory": dict_row,
        "cursor_factory": AsyncRawCursor,
        "application_name": "heliosdb api",
        # The first statement runs as the login role, which may become every caller's.
        "options": f"-c search_path=pg_catalog,pg_temp -c statement_timeout={milliseconds}"
        " -c idle_in_transaction_session_timeout=120000"
        r" -c default_transaction_isolation=read\ committed",
    }


async def run(connection: Connection, name: str, *values: object) -> list[dict[str, Any]]:
    """Run the statement of that name as whoever the connection is now, and return its rows."""
    return await run_named(connection, _FILE, name, *values)


async def run_named(connection: Connection, file: str, name: str, *values: object) -> list[dict[str, Any]]:
    """Run the statement of that name in a file of the catalog, and return its rows."""
    statement = load_statements(file)[name]
    # The text comes from a file of the catalog; as bytes it needs no claim to be a literal.
    cursor = await connection.execute(statement.text.encode(), values)
    return await cursor.fetchall() if cursor.description else []
