"""Rows as a process gets them that may connect to nothing: from one beside it that may, over a pipe.

What always holds: whoever stops listening ends the reading, in the database too; of an error the SQLSTATE
alone comes over, and whether the connection is lost.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from heliosdb.catalog.dataset_rows import CodeRange, ColumnReading, RowQuery
from heliosdb.catalog.failures import ToldError
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.ids import DatasetName
from heliosdb.node.reader_calls import (
    ClosedError,
    Kind,
    read_texts,
    receive,
    send_json,
    write_columns,
    write_pairs,
    write_query,
    write_range,
)

log = logging.getLogger(__name__)


class PipedRows:
    """Asks over a line to the other process; `Rows`."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def connect(self, conninfo: str) -> None:
        """Have the other process connect, once."""
        self._call("connect", conninfo)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `Rows`."""
        self._call("begin")
        # Where it fails in between nothing else is asked, and the line's end ends the transaction.
        yield
        self._call("end")

    def export_snapshot(self) -> str:
        """See `Rows`."""
        return str(self._call("export_snapshot"))

    def column_types(self, query: RowQuery) -> list[int]:
        """See `Rows`."""
        return list(map(int, self._call("column_types", write_query(query))))

    def kind_of_type(self, type_oid: int) -> ColumnKind | None:
        """See `Rows`."""
        kind = self._call("kind_of_type", type_oid)
        return None if kind is None else ColumnKind(kind)

    def type_name(self, type_oid: int) -> str:
        """See `Rows`."""
        return str(self._call("type_name", type_oid))

    def longest_array(self, query: RowQuery, column: str) -> int:
        """See `Rows`."""
        return int(self._call("longest_array", write_query(query), column))

    def copy_lengths(self, query: RowQuery, column: str, subject: str) -> bytearray:
        """See `Rows`."""
        return bytearray(b"").join(self._copied("copy_lengths", write_query(query), column, subject))

    def values_by_hash(
        self, query: RowQuery, column: str, counts: Mapping[int, int] | None = None
    ) -> dict[int, str]:
        """See `Rows`."""
        return read_texts(self._call("values_by_hash", write_query(query), column, write_pairs(counts)))

    def all_values(self, query: RowQuery, column: str) -> dict[int, str]:
        """See `Rows`."""
        return read_texts(self._call("all_values", write_query(query), column))

    def hashes_of(self, values: Sequence[str]) -> dict[int, str]:
        """See `Rows`."""
        return read_texts(self._call("hashes_of", list(values)))

    def copy_texts(self, query: RowQuery, column: str, longest: int) -> Generator[bytearray, None, None]:
        """See `Rows`."""
        yield from self._copied("copy_texts", write_query(query), column, longest)

    def copy_rows(
        self, query: RowQuery, columns: Sequence[ColumnReading], within: CodeRange | None = None
    ) -> Generator[bytearray, None, None]:
        """See `Rows`."""
        yield from self._copied("copy_rows", write_query(query), write_columns(columns), write_range(within))

    def copy_consenting(self, dataset: DatasetName) -> bytearray:
        """See `Rows`."""
        return bytearray(b"").join(self._copied("copy_consenting", dataset))

    def sample_texts(
        self, query: RowQuery, columns: Sequence[str], longest: int, rows: int
    ) -> list[list[str]]:
        """See `Rows`."""
        told = self._call("sample_texts", write_query(query), list(columns), longest, rows)
        return [list(map(str, column)) for column in told]

    def _call(self, name: str, *arguments: Any) -> Any:
        self._ask(name, arguments)
        kind, body = self._next()
        if kind is not Kind.VALUE:
            raise _lost()
        return json.loads(body)

    def _copied(self, name: str, *arguments: Any) -> Iterator[bytearray]:
        self._ask(name, arguments)
        while (message := self._next())[0] is Kind.CHUNK:
            yield bytearray(message[1])

    def _ask(self, name: str, arguments: Sequence[Any]) -> None:
        try:
            send_json(self._line, Kind.CALL, [name, *arguments])
        except OSError:
            raise _lost() from None

    def _next(self) -> tuple[Kind, bytes]:
        try:
            kind, body = receive(self._line)
        except (OSError, ClosedError):
            raise _lost() from None
        if kind is Kind.FAILED:
            raise _failure(json.loads(body))
        return kind, body


class ReaderProcess:
    """The process that reads. line: on which it takes a line of its own for each reading."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    @contextmanager
    def open_rows(self, conninfo: str) -> Iterator[PipedRows]:
        """Ask by a connection string, until the block ends; psycopg's errors."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._hand_over(theirs)
            rows = PipedRows(ours)
            rows.connect(conninfo)
            yield rows

    def _hand_over(self, theirs: socket.socket) -> None:
        try:
            socket.send_fds(self._line, [b"r"], [theirs.fileno()])
        except OSError:
            # Nothing can be read any more, and no other one started from in here.
            log.error("the process that reads for the training process is gone")
            os._exit(1)


def _failure(told: Mapping[str, Any]) -> Exception:
    match told["what"]:
        case "memory":
            return MemoryError()
        case "text":
            return UnicodeError()
        case _:
            return ToldError(told["sqlstate"], is_lost=told["is_lost"])


def _lost() -> psycopg.Error:
    """Say that the other process is gone: as if it were the connection."""
    return ToldError(None, is_lost=True)
