"""Python's drivers, each behind the same small face: type a statement, say all that the driver shows of it."""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import asyncpg
import pg8000.dbapi
import pg8000.native
import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from tests.clients.conftest import Site
from tests.clients.script import Answer, Value

Tags = Literal["whole", "word", "count", "none"]
"""How much of a command tag a driver shows; `count`: only the number of rows in it."""
_PARAMETER = re.compile(r"\$(\d+)")


def with_placeholders(sql: str, parameters: Sequence[Value], style: str) -> str:
    """Write $1, $2, … as `style` says; a statement without parameters stays as it is."""
    return _PARAMETER.sub(lambda found: style.format(found[1]), sql) if parameters else sql


class Driver(ABC):
    """One connection of a driver in one mode."""

    tags: Tags = "none"

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        """Type a statement."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""


class Psycopg(Driver):
    """psycopg 3: the simple protocol, the extended one, prepared on the server, and pipelines."""

    tags: Tags = "whole"

    def __init__(self, site: Site, mode: str) -> None:
        self._mode = mode
        self._notices: list[str] = []
        # A statement that psycopg prepares by itself behind one that fails in a pipeline is lost to it: with or
        # without a proxy the server never sees the Parse, and psycopg goes on as if it had.
        threshold = None if mode == "pipeline" else 5
        self._connection = psycopg.connect(
            f"postgresql:{site.url}", autocommit=True, prepare_threshold=threshold
        )
        self._connection.add_notice_handler(
            lambda notice: self._notices.append(f"{notice.severity}: {notice.message_primary}")
        )

    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        self._notices.clear()
        typed = with_placeholders(sql, parameters, "%s")
        try:
            cursor = self._run(typed, list(parameters) if parameters else None)
        except psycopg.Error as refused:
            found = refused.diag
            position = int(found.statement_position) if found.statement_position else None
            return Answer(sqlstate=found.sqlstate, message=found.message_primary, position=position)
        notices, status = tuple(self._notices), cursor.statusmessage
        if cursor.description is None:
            return Answer(status, notices=notices)
        names = tuple(column.name for column in cursor.description)
        return Answer(status, names, tuple(cursor.fetchall()), notices)

    def _run(self, sql: str, parameters: list[Value] | None) -> psycopg.Cursor[Any]:
        if self._mode == "simple":
            return psycopg.ClientCursor(self._connection).execute(sql, parameters)  # type: ignore[arg-type]
        if self._mode == "pipeline":
            with self._connection.pipeline():
                cursor = self._connection.execute(sql, parameters)  # type: ignore[arg-type]
                self._connection.execute("SELECT 'behind it'")
            return cursor
        # Binary results are asked for by the extended protocol alone.
        cursor = self._connection.cursor(binary=self._mode == "extended")
        return cursor.execute(sql, parameters, prepare=self._mode == "prepared")  # type: ignore[arg-type]

    def close(self) -> None:
        self._connection.close()


class Asyncpg(Driver):
    """asyncpg: the simple protocol where it offers it (no rows, no parameters), else what it prepares."""

    tags: Tags = "whole"

    def __init__(self, site: Site, mode: str) -> None:
        self._simple = mode == "simple"
        self._notices: list[str] = []
        self._prepared: dict[str, Any] = {}
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(self._connect(site))

    async def _connect(self, site: Site) -> Any:
        connection = await asyncpg.connect(f"postgresql:{site.url}")
        connection.add_log_listener(
            lambda _, notice: self._notices.append(f"{notice.severity}: {notice.message}")
        )
        return connection

    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        self._notices.clear()
        try:
            return self._runner.run(self._execute(sql, parameters))
        except asyncpg.PostgresError as refused:
            return asyncpg_error(refused)

    async def _execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        if self._simple and not parameters:
            status = await self._connection.execute(sql)
            await asyncio.sleep(0)  # listeners are called by the loop, behind the answer
            return Answer(status, notices=tuple(self._notices))
        if sql not in self._prepared:
            self._prepared[sql] = await self._connection.prepare(sql)
        statement = self._prepared[sql]
        records = await statement.fetch(*parameters)
        await asyncio.sleep(0)
        status, names = statement.get_statusmsg(), tuple(a.name for a in statement.get_attributes())
        if not names:
            return Answer(status, notices=tuple(self._notices))
        return Answer(status, names, tuple(map(tuple, records)), tuple(self._notices))

    def close(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()


def asyncpg_error(refused: Any) -> Answer:
    """What asyncpg shows of an error."""
    position = int(refused.position) if refused.position else None
    return Answer(sqlstate=refused.sqlstate, message=refused.message, position=position)


class SqlAlchemyPsycopg(Driver):
    """SQLAlchemy's text() over psycopg."""

    tags: Tags = "whole"

    def __init__(self, site: Site, mode: str) -> None:
        self._notices: list[str] = []
        self._status: str | None = None
        engine = sqlalchemy.create_engine(f"postgresql+psycopg:{site.url}", isolation_level="AUTOCOMMIT")
        sqlalchemy.event.listen(engine, "after_cursor_execute", self._remember)
        self._engine, self._connection = engine, engine.connect()
        self._connection.connection.driver_connection.add_notice_handler(
            lambda notice: self._notices.append(f"{notice.severity}: {notice.message_primary}")
        )

    def _remember(self, _connection: Any, cursor: Any, *_others: Any) -> None:
        self._status = cursor.statusmessage

    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        self._notices.clear()
        try:
            result = self._connection.execute(*bound(sql, parameters))
        except sqlalchemy.exc.DBAPIError as refused:
            found = refused.orig.diag
            position = int(found.statement_position) if found.statement_position else None
            return Answer(sqlstate=found.sqlstate, message=found.message_primary, position=position)
        return alchemy_answer(result, self._status, self._notices)

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


class SqlAlchemyAsyncpg(Driver):
    """SQLAlchemy's text() over asyncpg, which prepares each statement; no tag is shown."""

    def __init__(self, site: Site, mode: str) -> None:
        self._notices: list[str] = []
        self._runner = asyncio.Runner()
        self._runner.run(self._connect(site))

    async def _connect(self, site: Site) -> None:
        self._engine = create_async_engine(f"postgresql+asyncpg:{site.url}", isolation_level="AUTOCOMMIT")
        self._connection = await self._engine.connect()
        raw = await self._connection.get_raw_connection()
        raw.driver_connection.add_log_listener(
            lambda _, notice: self._notices.append(f"{notice.severity}: {notice.message}")
        )

    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        self._notices.clear()
        try:
            return self._runner.run(self._execute(sql, parameters))
        except sqlalchemy.exc.DBAPIError as refused:
            return asyncpg_error(refused.orig.__cause__)

    async def _execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        result = await self._connection.execute(*bound(sql, parameters))
        await asyncio.sleep(0)
        return alchemy_answer(result, None, self._notices)

    async def _close(self) -> None:
        await self._connection.close()
        await self._engine.dispose()

    def close(self) -> None:
        self._runner.run(self._close())
        self._runner.close()


def bound(sql: str, parameters: Sequence[Value]) -> tuple[Any, dict[str, Value]]:
    """Make SQLAlchemy's text with its values."""
    typed = sqlalchemy.text(with_placeholders(sql, parameters, ":p{}"))
    return typed, {f"p{number}": value for number, value in enumerate(parameters, 1)}


def alchemy_answer(result: Any, status: str | None, notices: Sequence[str]) -> Answer:
    """What SQLAlchemy shows of a result."""
    if not result.returns_rows:
        return Answer(status, notices=tuple(notices))
    return Answer(status, tuple(result.keys()), tuple(map(tuple, result.fetchall())), tuple(notices))


class Pg8000(Driver):
    """pg8000: its DB-API face, and its native one, plain or prepared. It shows no tag."""

    def __init__(self, site: Site, mode: str) -> None:
        where = {"host": site.host, "port": site.port, "database": site.database, "password": site.password}
        self._mode = mode
        self._prepared: dict[str, Any] = {}
        if mode == "dbapi":
            self._connection = pg8000.dbapi.connect(user=site.user, **where)
            self._connection.autocommit = True
        else:
            self._connection = pg8000.native.Connection(site.user, **where)

    def execute(self, sql: str, parameters: Sequence[Value]) -> Answer:
        self._connection.notices.clear()
        run = {"dbapi": self._dbapi, "native": self._native, "prepared": self._prepare}[self._mode]
        try:
            columns, found = run(sql, parameters)
        except pg8000.Error as refused:
            fields = refused.args[0]
            return Answer(
                sqlstate=fields["C"],
                message=fields["M"],
                position=int(fields["P"]) if "P" in fields else None,
            )
        notices = tuple(
            f"{notice[b'S'].decode()}: {notice[b'M'].decode()}" for notice in self._connection.notices
        )
        if columns is None:
            return Answer(notices=notices)
        return Answer(None, columns, tuple(map(tuple, found)), notices)

    def _dbapi(self, sql: str, parameters: Sequence[Value]) -> tuple[tuple[str, ...] | None, Any]:
        cursor = self._connection.cursor()
        if parameters:
            cursor.execute(with_placeholders(sql, parameters, "%s"), tuple(parameters))
        else:
            cursor.execute(sql)
        if cursor.description is None:
            return None, None
        return tuple(column[0] for column in cursor.description), cursor.fetchall()

    def _native(self, sql: str, parameters: Sequence[Value]) -> tuple[tuple[str, ...] | None, Any]:
        typed = with_placeholders(sql, parameters, ":p{}")
        found = self._connection.run(typed, **named(parameters))
        return names_of(self._connection.columns), found

    def _prepare(self, sql: str, parameters: Sequence[Value]) -> tuple[tuple[str, ...] | None, Any]:
        if sql not in self._prepared:
            self._prepared[sql] = self._connection.prepare(with_placeholders(sql, parameters, ":p{}"))
        statement = self._prepared[sql]
        found = statement.run(**named(parameters))
        return names_of(statement.columns), found

    def close(self) -> None:
        self._connection.close()


def named(parameters: Sequence[Value]) -> dict[str, Value]:
    """Number the values."""
    return {f"p{number}": value for number, value in enumerate(parameters, 1)}


def names_of(columns: Any) -> tuple[str, ...] | None:
    """The names of pg8000's columns, None where a statement has none."""
    return tuple(column["name"] for column in columns) if columns else None


PYTHON_DRIVERS: dict[str, tuple[Callable[[Site, str], Driver], tuple[str, ...]]] = {
    "psycopg": (Psycopg, ("simple", "extended", "prepared", "pipeline")),
    "asyncpg": (Asyncpg, ("simple", "prepared")),
    "sqlalchemy-psycopg": (SqlAlchemyPsycopg, ("text",)),
    "sqlalchemy-asyncpg": (SqlAlchemyAsyncpg, ("text",)),
    "pg8000": (Pg8000, ("dbapi", "native", "prepared")),
}
