"""The rows of a dataset, as a node's training process reads them.

What always holds: they are read through the dataset's view alone, by a connection of the reader's role, as
numbers and as hashes of what rows and subjects are known by.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from heliosdb.domain.ids import DatasetName


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which columns of a dataset to read as numbers, and by which columns rows and subjects are known.

    names: one entry for each code that is read beside the numbers: the columns that it is of.
    """

    dataset: DatasetName
    columns: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]


_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC = 21, 23, 20, 1700
_REAL, _DOUBLE, _BOOLEAN = 700, 701, 16
NUMERIC_TYPES = frozenset({_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC, _REAL, _DOUBLE})


def type_name(raw: psycopg.Connection[Any], type_oid: int) -> str:
    """Return the SQL name of a type."""
    row = raw.execute("SELECT pg_catalog.format_type(%s::oid, NULL)", [type_oid]).fetchone()
    assert row is not None
    return str(row[0])


def column_types(raw: psycopg.Connection[Any], query: RowQuery) -> list[int]:
    """Return the type OIDs of the columns to be read; a domain counts as what it is made of."""
    names = sql.SQL(", ").join(map(sql.Identifier, query.columns))
    statement = sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, _view(query))
    description = raw.execute(statement).description
    assert description is not None
    return [column.type_code for column in description]


def is_number(type_oid: int) -> bool:
    """Whether values of this type can be read as numbers."""
    return type_oid == _BOOLEAN or type_oid in NUMERIC_TYPES


def as_read(numbers: Sequence[float], type_oid: int) -> list[float]:
    """Return what is read where a column of this type holds these numbers: of a real, the nearest one."""
    if type_oid != _REAL:
        return list(numbers)
    return [float(struct.unpack("f", struct.pack("f", number))[0]) for number in numbers]


def copy_rows(raw: psycopg.Connection[Any], query: RowQuery, types: Sequence[int]) -> Iterator[bytes]:
    """Yield the rows as binary COPY: each column a float8 (NULL is NaN), then a code, int8, for each name.

    A code is a hash without a key: a statement is seen by whoever reads the server's log, so none holds a
    secret. Whoever needs one keys the codes.
    """
    columns: list[sql.Composable] = [
        _as_number(name, type_oid) for name, type_oid in zip(query.columns, types, strict=True)
    ]
    columns += [_code(name) for name in query.names]
    statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(columns), _view(query)
    )
    yield from _copied(raw, statement.as_bytes(raw))


def _copied(raw: psycopg.Connection[Any], statement: bytes) -> Iterator[bytes]:
    """Yield what a COPY sends; psycopg's errors.

    From libpq itself: there is a message for every row, and psycopg waits for each as if it were the last,
    which takes longer than the rest of reading.
    """
    pgconn, encoding = raw.pgconn, raw.info.encoding
    begun = pgconn.exec_(statement)
    if begun.status != ExecStatus.COPY_OUT:
        raise error_from_result(begun, encoding=encoding)
    while (message := pgconn.get_copy_data(0))[0] > 0:
        yield bytes(message[1])
    while (ended := pgconn.get_result()) is not None:
        if ended.status != ExecStatus.COMMAND_OK:
            raise error_from_result(ended, encoding=encoding)


def _code(name: tuple[str, ...]) -> sql.Composed:
    # Rows without a subject count as one subject's: that bounds them together.
    columns = sql.SQL(", ").join(map(sql.Identifier, name))
    named = columns if len(name) == 1 else sql.SQL("ROW({})").format(columns)
    return sql.SQL("coalesce(hashtextextended(({})::text, 0), 0)").format(named)


def _as_number(column: str, type_oid: int) -> sql.Composed:
    number = _CONVERSIONS.get(type_oid, _CONVERSION).format(c=sql.Identifier(column))
    return sql.SQL("coalesce({}, 'NaN'::double precision)").format(number)


_CONVERSION = sql.SQL("{c}::double precision")
_CONVERSIONS = {
    _BOOLEAN: sql.SQL("{c}::integer::double precision"),
    # What a double cannot hold would be an error, which would tell that one row holds such a value.
    _NUMERIC: sql.SQL(
        "CASE WHEN abs({c}) BETWEEN 1e-300 AND 1e300 THEN {c}::double precision "
        "WHEN abs({c}) < 1e-300 THEN 0 END"
    ),
}


def _view(query: RowQuery) -> sql.Identifier:
    return sql.Identifier("federated_dataset", query.dataset)
