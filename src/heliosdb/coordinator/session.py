"""A database connection for one purpose, with the one thread that uses it.

What always holds: calls run one after the other in the session's own thread, in the order in which they
were made, so that the event loop never waits for the database and a connection is never used by two threads
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import psycopg

from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connect

P = ParamSpec("P")
T = TypeVar("T")


class CatalogSession:
    """Connects on entering `async with`, closes on leaving it.

    daemon: take the role federated_daemon at once; otherwise the caller does, when it exists.
    """

    def __init__(self, conninfo: str, purpose: str, *, daemon: bool = True) -> None:
        self._conninfo = conninfo
        self._purpose = purpose
        self._daemon = daemon
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=purpose)
        self._connection: PsycopgConnection | None = None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def call(
        self, function: Callable[Concatenate[PsycopgConnection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `function(connection, …)` in the session's thread."""

        def run() -> T:
            if self._connection is None:
                raise psycopg.OperationalError("the session is closed")
            return function(self._connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def close(self) -> None:
        """Cancel what runs, and close; safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await asyncio.shield(asyncio.to_thread(connection.raw.cancel))
            with suppress(psycopg.Error):
                await asyncio.shield(
                    asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
                )
        self._thread.shutdown(wait=False, cancel_futures=False)

    def _open(self) -> None:
        connection = connect(self._conninfo, application_name=f"heliosdb coordinator ({self._purpose})")
        if self._daemon:
            try:
                become_daemon(connection)
            except psycopg.Error:
                connection.close()
                raise
        self._connection = connection
