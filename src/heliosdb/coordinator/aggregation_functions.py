"""Calls aggregation functions, in sessions of their own and with no rights.

What always holds: a function's code runs as federated_aggregator, in a transaction that reads only and is
undone, over a connection that is used for nothing else and closed afterwards, so that nothing that it sets
outlives it; however it goes about it, it runs no longer than its time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from heliosdb.aggregation.custom_function import CustomFunction
from heliosdb.aggregation.strategy import Strategy
from heliosdb.aggregation.updates import rejected
from heliosdb.catalog.aggregation_functions import has_aggregation_function
from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.lease import become_daemon
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connect
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.domain.wording import counted

log = logging.getLogger(__name__)

_SQL = Statements("aggregation.sql")

MOST_VALUES = 50_000_000
"""Of all updates together: an array of PostgreSQL's has at most a gigabyte."""

_GRACE = 5.0
"""Seconds after its time in which the server may still end a function by itself."""

_MOST_REASON = 300

_FLOAT8, _FLOAT8_ARRAY = 701, 1022


def check_function(connection: Connection, rule: Strategy) -> None:
    """Raise FederatedError UNDEFINED_OBJECT where the rule is a function that is not there."""
    if isinstance(rule, CustomFunction) and not has_aggregation_function(connection, rule.name):
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT, f'federated aggregation function "{rule.name}" does not exist'
        )


@dataclass(frozen=True, slots=True)
class Numbers:
    """An array for a parameter of type double precision[]."""

    values: Matrix | Vector


class _NumbersDumper(Dumper):
    """Writes the array as the server's binary form has it (src/backend/utils/adt/arrayfuncs.c)."""

    format = Format.BINARY
    oid = _FLOAT8_ARRAY

    def dump(self, obj: Numbers) -> bytes:
        shape = obj.values.shape
        head = [len(shape), 0, _FLOAT8, *(number for length in shape for number in (length, 1))]
        elements = np.empty(obj.values.size, dtype=[("length", ">i4"), ("value", ">f8")])
        elements["length"], elements["value"] = 8, obj.values.ravel()
        return np.array(head, dtype=">i4").tobytes() + elements.tobytes()


@dataclass(frozen=True, slots=True)
class FunctionCaller:
    """conninfo: of the coordinator's database. seconds: how long a function may run."""

    conninfo: str
    seconds: float

    def __call__(self, name: str, updates: Matrix, weights: Vector) -> Sequence[float | None] | None:
        """What the function returns; updates (n, size), weights (n,).

        FederatedError UPDATE_REJECTED where it fails or runs past its time, PROGRAM_LIMIT for more values
        than it can be given; psycopg.OperationalError where the database is away.
        """
        if updates.size > MOST_VALUES:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f'aggregation function "{name}" cannot be given {updates.size} values: at most {MOST_VALUES}',
            )
        connection = connect(self.conninfo, application_name="heliosdb coordinator (aggregation function)")
        try:
            connection.raw.adapters.register_dumper(Numbers, _NumbersDumper)
            become_daemon(connection)
            return self._call(connection, name, updates, weights)
        finally:
            connection.close()

    def _call(
        self, connection: PsycopgConnection, name: str, updates: Matrix, weights: Vector
    ) -> Sequence[float | None] | None:
        ended = threading.Event()
        backend = connection.raw.info.backend_pid
        watch = threading.Timer(self.seconds + _GRACE, self._end, (backend, ended))
        watch.daemon = True
        watch.start()
        try:
            with connection.raw.transaction(force_rollback=True):
                _SQL.query(connection, "begin_reading")
                _SQL.query(connection, "bound_time", f"{max(1, round(1000 * self.seconds))}ms")
                rows = _SQL.query(connection, "aggregate", name, Numbers(updates), Numbers(weights))
            found: Sequence[float | None] | None = rows[0]["combined"]
            return found
        except psycopg.Error as error:
            raise self._explain(name, error, ended) from error
        finally:
            watch.cancel()

    def _end(self, backend: int, ended: threading.Event) -> None:
        """End a session whose function does not heed that its time is over."""
        ended.set()
        try:
            killer = connect(self.conninfo, application_name="heliosdb coordinator (time is over)")
            try:
                _SQL.query(killer, "end_session", backend)
            finally:
                killer.close()
        except psycopg.Error as error:
            log.warning("an aggregation function could not be ended: %s", type(error).__name__)

    def _explain(self, name: str, error: psycopg.Error, ended: threading.Event) -> FederatedError:
        function = f'aggregation function "{name}"'
        if ended.is_set() or isinstance(error, psycopg.errors.QueryCanceled):
            return rejected(f"{function} took longer than its {counted(self.seconds, 'second')}")
        if isinstance(error, psycopg.errors.UndefinedFunction) and name in str(error):
            return rejected(f"{function} does not exist, or cannot be called")
        said = (error.diag.message_primary or "its session ended")[:_MOST_REASON]
        code: Any = error.sqlstate or "08006"
        return rejected(f"{function} failed: {said} (SQLSTATE {code})")
