"""How rows are read: over a connection of the reader's role, which can read datasets' views and no more.

What always holds: it writes nothing, finds nothing by a path that others may write to, and has values as text
look alike whatever the role's settings are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import psycopg

from heliosdb.catalog import dataset_rows as catalog
from heliosdb.catalog.dataset_rows import CodeRange, ColumnReading, RowQuery
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.ids import DatasetName

# What rows are known by is hashed as text, which must not change with a role's settings.
_TEXT_FORM = (
    "-c TimeZone=UTC -c DateStyle=ISO,YMD -c IntervalStyle=postgres -c extra_float_digits=1"
    " -c bytea_output=hex"
)


def connect_reader(conninfo: str) -> psycopg.Connection[Any]:
    """Connect; psycopg's errors."""
    return psycopg.connect(
        conninfo,
        autocommit=True,
        application_name="heliosdb node reader",
        options="-c search_path=pg_catalog,pg_temp -c default_transaction_read_only=on " + _TEXT_FORM,
    )


class Rows(Protocol):
    """What can be asked of the rows; each as the function of catalog/dataset_rows.py that it names has it.

    psycopg's errors, without the server's text where the connection is another process's.
    """

    def snapshot(self) -> AbstractContextManager[None]:
        """Have all that is asked until the block ends be of one moment; what fails in it ends the reading."""
        ...

    def export_snapshot(self) -> str:
        """See `export_snapshot`."""
        ...

    def column_types(self, query: RowQuery) -> list[int]:
        """See `column_types`."""
        ...

    def kind_of_type(self, type_oid: int) -> ColumnKind | None:
        """See `kind_of_type`."""
        ...

    def type_name(self, type_oid: int) -> str:
        """See `type_name`."""
        ...

    def longest_array(self, query: RowQuery, column: str) -> int:
        """See `longest_array`."""
        ...

    def copy_lengths(self, query: RowQuery, column: str, subject: str) -> bytearray:
        """See `copy_lengths`."""
        ...

    def values_by_hash(
        self, query: RowQuery, column: str, counts: Mapping[int, int] | None = None
    ) -> dict[int, str]:
        """See `values_by_hash`."""
        ...

    def all_values(self, query: RowQuery, column: str) -> dict[int, str]:
        """See `all_values`."""
        ...

    def hashes_of(self, values: Sequence[str]) -> dict[int, str]:
        """See `hashes_of`."""
        ...

    def copy_texts(self, query: RowQuery, column: str, longest: int) -> Generator[bytearray, None, None]:
        """See `copy_texts`."""
        ...

    def copy_rows(
        self, query: RowQuery, columns: Sequence[ColumnReading], within: CodeRange | None = None
    ) -> Generator[bytearray, None, None]:
        """See `copy_rows`."""
        ...

    def copy_consenting(self, dataset: DatasetName) -> bytearray:
        """See `copy_consenting`."""
        ...

    def sample_texts(
        self, query: RowQuery, columns: Sequence[str], longest: int, rows: int
    ) -> list[list[str]]:
        """See `sample_texts`; UnicodeError besides."""
        ...


OpensRows = Callable[[str], AbstractContextManager[Rows]]
"""Begins to ask by a connection string, until the block ends; psycopg's errors."""


class DirectRows:
    """Asks over a connection of this process; `Rows`."""

    def __init__(self, raw: psycopg.Connection[Any]) -> None:
        self._raw = raw

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """See `Rows`."""
        with self._raw.transaction():
            self._raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def export_snapshot(self) -> str:
        """See `Rows`."""
        return catalog.export_snapshot(self._raw)

    def column_types(self, query: RowQuery) -> list[int]:
        """See `Rows`."""
        return catalog.column_types(self._raw, query)

    def kind_of_type(self, type_oid: int) -> ColumnKind | None:
        """See `Rows`."""
        return catalog.kind_of_type(self._raw, type_oid)

    def type_name(self, type_oid: int) -> str:
        """See `Rows`."""
        return catalog.type_name(self._raw, type_oid)

    def longest_array(self, query: RowQuery, column: str) -> int:
        """See `Rows`."""
        return catalog.longest_array(self._raw, query, column)

    def copy_lengths(self, query: RowQuery, column: str, subject: str) -> bytearray:
        """See `Rows`."""
        return catalog.copy_lengths(self._raw, query, column, subject)

    def values_by_hash(
        self, query: RowQuery, column: str, counts: Mapping[int, int] | None = None
    ) -> dict[int, str]:
        """See `Rows`."""
        return catalog.values_by_hash(self._raw, query, column, counts)

    def all_values(self, query: RowQuery, column: str) -> dict[int, str]:
        """See `Rows`."""
        return catalog.all_values(self._raw, query, column)

    def hashes_of(self, values: Sequence[str]) -> dict[int, str]:
        """See `Rows`."""
        return catalog.hashes_of(self._raw, values)

    def copy_texts(self, query: RowQuery, column: str, longest: int) -> Generator[bytearray, None, None]:
        """See `Rows`."""
        return catalog.copy_texts(self._raw, query, column, longest)

    def copy_rows(
        self, query: RowQuery, columns: Sequence[ColumnReading], within: CodeRange | None = None
    ) -> Generator[bytearray, None, None]:
        """See `Rows`."""
        return catalog.copy_rows(self._raw, query, columns, within)

    def copy_consenting(self, dataset: DatasetName) -> bytearray:
        """See `Rows`."""
        return catalog.copy_consenting(self._raw, dataset)

    def sample_texts(
        self, query: RowQuery, columns: Sequence[str], longest: int, rows: int
    ) -> list[list[str]]:
        """See `Rows`."""
        return catalog.sample_texts(self._raw, query, columns, longest, rows)


@contextmanager
def rows_of(conninfo: str) -> Iterator[DirectRows]:
    """Ask over a connection of one's own until the block ends; psycopg's errors."""
    with connect_reader(conninfo) as raw:
        yield DirectRows(raw)
