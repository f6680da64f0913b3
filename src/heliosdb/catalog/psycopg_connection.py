"""The catalog's connection in a daemon: psycopg, autocommit, transactions by context manager."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.pq import PipelineStatus
from psycopg.rows import dict_row

from heliosdb.catalog.connection import Row, Statement


class PsycopgConnection:
    """A `Connection` over one psycopg connection; not to be shared between threads at the same time."""

    def __init__(self, raw: psycopg.Connection[dict[str, Any]]) -> None:
        self.raw = raw

    def query(self, statement: Statement, *values: object) -> Sequence[Row]:
        """Run `statement` with server-side parameters."""
        # The text comes from a file of this package; as bytes it needs no claim to be a literal.
        cursor = self.raw.execute(statement.text.encode(), values)
        # In a batch nothing is known of the answer until it is asked for.
        batched = self.raw.info.pipeline_status is PipelineStatus.ON
        return cursor.fetchall() if batched or cursor.description else []

    def execute(self, statement: Statement, *values: object) -> None:
        """Run `statement` with server-side parameters for its effect."""
        self.raw.execute(statement.text.encode(), values)

    def batch(self) -> AbstractContextManager[object]:
        """Pipeline mode: a round trip for each query whose rows are asked for, and one at the end."""
        return self.raw.pipeline()

    def transaction(self) -> AbstractContextManager[object]:
        """Open a transaction, or a savepoint inside one."""
        return self.raw.transaction()

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()


def connect(conninfo: str, *, application_name: str) -> PsycopgConnection:
    """Connect with a pinned search_path and isolation level; raises psycopg.OperationalError."""
    raw = psycopg.connect(
        conninfo,
        autocommit=True,
        row_factory=dict_row,
        cursor_factory=RawCursor,
        application_name=application_name,
        # A statement after a lock has to see what was committed before it, whatever the database's default.
        # The few statements of a daemon, all by key, are planned once.
        prepare_threshold=0,
        options=(
            # Compiling a plan whose rows nobody has counted yet takes longer than any of them runs.
            "-c search_path=pg_catalog,pg_temp -c plan_cache_mode=force_generic_plan -c jit=off"
            r" -c default_transaction_isolation=read\ committed"
        ),
    )
    return PsycopgConnection(raw)


@contextmanager
def connected(conninfo: str, *, application_name: str) -> Iterator[PsycopgConnection]:
    """Connect for the length of a block."""
    connection = connect(conninfo, application_name=application_name)
    try:
        yield connection
    finally:
        connection.close()
