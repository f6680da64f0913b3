"""The two drivers of operations: one connection each, opened at the first request and again after it was
lost.

What always holds: an error of psycopg leaves as FederatedLearningError; a notice of the server becomes a
warning of Python's when its request is done; functions of the product are found in the extension's own
schema, whatever the caller's search_path is.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from typing import Any, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, Connection, RawCursor
from psycopg.rows import dict_row

from heliosdb.sdk.errors import FederatedLearningError, FederatedLearningWarning
from heliosdb.sdk.requests import Operation, Pause, Query, Request, Row, query

T = TypeVar("T")

_SETTINGS: dict[str, Any] = {
    "autocommit": True,
    "client_encoding": "utf8",
    "fallback_application_name": "heliosdb-python",
    "row_factory": dict_row,
}


class _Notices:
    """What the server says beside its answers, until it is told."""

    def __init__(self) -> None:
        self._heard: list[str] = []

    def hear(self, said: psycopg.errors.Diagnostic) -> None:
        """Keep a WARNING or NOTICE."""
        if said.severity_nonlocalized in ("WARNING", "NOTICE"):
            parts = (said.message_primary, said.message_detail, said.message_hint)
            self._heard.append(" ".join(part for part in parts if part))

    def tell(self) -> None:
        """Warn of each."""
        heard, self._heard = self._heard, []
        for text in heard:
            warnings.warn(text, FederatedLearningWarning, stacklevel=4)


def _require_extension(rows: list[Row]) -> None:
    if not rows[0]["is_there"]:
        raise FederatedLearningError(
            "3F000",
            "the extension heliosdb_federated_learning is not in this database",
            None,
            "Connect to the coordinator's database, or have a superuser type there:"
            " CREATE EXTENSION heliosdb_federated_learning CASCADE;",
        )


def _failure(error: BaseException) -> BaseException:
    """What an operation is told: psycopg's errors as the SDK's, all else (Ctrl-C too) as it is."""
    if not isinstance(error, psycopg.Error) or isinstance(error, FederatedLearningError):
        return error
    failure = FederatedLearningError.of(error)
    failure.__cause__ = error
    return failure


class Session:
    """Drives operations over a connection that blocks."""

    def __init__(self, dsn: str | None) -> None:
        self._dsn = dsn or ""
        self._raw: Connection[Row] | None = None
        self._notices = _Notices()

    def run(self, operation: Operation[T]) -> T:
        """Carry an operation out and return its result."""
        rows: Any = None
        failure: BaseException | None = None
        while True:
            try:
                request = operation.send(rows) if failure is None else operation.throw(failure)
            except StopIteration as end:
                return cast(T, end.value)
            rows, failure = None, None
            try:
                rows = self._perform(request)
            except BaseException as error:  # noqa: BLE001 - the operation is told of it, and raises it
                failure = _failure(error)
            self._notices.tell()

    def close(self) -> None:
        """Close the connection; a later request opens another."""
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _perform(self, request: Request) -> list[Row]:
        if isinstance(request, Pause):
            time.sleep(request.seconds)
            return []
        raw = self._connected()
        if isinstance(request, Query):
            return self._ask(raw, request)
        with raw.transaction():
            return [self._ask(raw, one) for one in request.queries][-1]

    def _ask(self, raw: Connection[Row], one: Query) -> list[Row]:
        cursor = raw.execute(one.text, one.values or None)
        return cursor.fetchall() if cursor.description else []

    def _connected(self) -> Connection[Row]:
        if self._raw is None or self._raw.closed:
            raw: Connection[Row] = Connection.connect(self._dsn, cursor_factory=RawCursor, **_SETTINGS)
            raw.add_notice_handler(self._notices.hear)
            try:
                _require_extension(raw.execute(query("find_extension").text).fetchall())
            except BaseException:
                raw.close()
                raise
            self._raw = raw
        return self._raw


class AsyncSession:
    """Drives operations over a connection of asyncio's; calls at the same time take turns at it."""

    def __init__(self, dsn: str | None) -> None:
        self._dsn = dsn or ""
        self._raw: AsyncConnection[Row] | None = None
        self._notices = _Notices()
        self._turn = asyncio.Lock()

    async def run(self, operation: Operation[T]) -> T:
        """Carry an operation out and return its result."""
        rows: Any = None
        failure: BaseException | None = None
        while True:
            try:
                request = operation.send(rows) if failure is None else operation.throw(failure)
            except StopIteration as end:
                return cast(T, end.value)
            rows, failure = None, None
            try:
                rows = await self._perform(request)
            except BaseException as error:  # noqa: BLE001 - the operation is told of it, and raises it
                failure = _failure(error)
            self._notices.tell()

    async def close(self) -> None:
        """Close the connection; a later request opens another."""
        if self._raw is not None:
            await self._raw.close()
            self._raw = None

    async def _perform(self, request: Request) -> list[Row]:
        if isinstance(request, Pause):
            await asyncio.sleep(request.seconds)
            return []
        async with self._turn:
            raw = await self._connected()
            if isinstance(request, Query):
                return await self._ask(raw, request)
            async with raw.transaction():
                return [await self._ask(raw, one) for one in request.queries][-1]

    async def _ask(self, raw: AsyncConnection[Row], one: Query) -> list[Row]:
        cursor = await raw.execute(one.text, one.values or None)
        return await cursor.fetchall() if cursor.description else []

    async def _connected(self) -> AsyncConnection[Row]:
        if self._raw is None or self._raw.closed:
            raw: AsyncConnection[Row] = await AsyncConnection.connect(
                self._dsn, cursor_factory=AsyncRawCursor, **_SETTINGS
            )
            raw.add_notice_handler(self._notices.hear)
            try:
                _require_extension(await (await raw.execute(query("find_extension").text)).fetchall())
            except BaseException:
                await raw.close()
                raise
            self._raw = raw
        return self._raw
