"""The rows of a dataset, as a node's training process reads them.

What always holds: a node reads them through the dataset's view alone, by a connection of the reader's role,
as numbers and as hashes: of what rows and subjects are known by, and of the values of categories. Reading
raises nothing that a value decides: what a double cannot hold is missing.
"""

from __future__ import annotations

import codecs
import heapq
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from heliosdb.domain.bounds import IMAGE_BYTES
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.ids import DatasetName

MOST_VALUES = 65_536
"""Of a category's different values so many are known by their text, those of most rows first."""

LONGEST_VALUE = 480
"""Bytes of a value that is known by its text, in any encoding of a database: longer than that no level is."""

_SENT_AT_ONCE = 1 << 19

NULL_HASH = -(2**63)
"""Stands for NULL among hashes of values."""


@dataclass(frozen=True, slots=True)
class ColumnReading:
    """How a column is read.

    elements: of an array, how many are read, of rows whose arrays have so many; of an image its pixels in all
    channels. shape: of an image, (channels, height, width).
    """

    name: str
    type_oid: int
    kind: ColumnKind
    elements: int = 0
    shape: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers a row has of it: of an array or an image its length goes first."""
        return 1 + self.elements if self.kind.is_several else 1

    @property
    def is_hashed(self) -> bool:
        """Whether its number is the bits of a hash."""
        return self.kind in (ColumnKind.CATEGORY, ColumnKind.TEXT)


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Which columns of a dataset to read as numbers, and by which columns rows and subjects are known.

    names: one entry for each code that is read beside the numbers: the columns that it is of. relation:
    schema and name of a table that is no dataset; None: the dataset's view is read.
    """

    dataset: DatasetName
    columns: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    relation: tuple[str, str] | None = None


_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC, _MONEY = 21, 23, 20, 1700, 790
_REAL, _DOUBLE, _BOOLEAN = 700, 701, 16
_DATE, _TIMESTAMP, _TIMESTAMPTZ, _INTERVAL = 1082, 1114, 1184, 1186
_KINDS = {
    ColumnKind.NUMBER: (_SMALL_INTEGER, _INTEGER, _BIGINT, _NUMERIC, _MONEY, _REAL, _DOUBLE),
    ColumnKind.BOOLEAN: (_BOOLEAN,),
    ColumnKind.TIME: (_DATE, _TIMESTAMP, _TIMESTAMPTZ),
    ColumnKind.INTERVAL: (_INTERVAL,),
    # text, character varying, character, name, uuid; and every enum.
    ColumnKind.CATEGORY: (25, 1043, 1042, 19, 2950),
    ColumnKind.IMAGE: (17,),
}
_ELEMENTS = {
    1005: _SMALL_INTEGER, 1007: _INTEGER, 1016: _BIGINT, 1231: _NUMERIC, 1021: _REAL, 1022: _DOUBLE,
    1000: _BOOLEAN,
}  # fmt: skip
_KIND_OF = {oid: kind for kind, oids in _KINDS.items() for oid in oids} | dict.fromkeys(
    _ELEMENTS, ColumnKind.ARRAY
)


def export_snapshot(raw: psycopg.Connection[Any]) -> str:
    """Return by which name other sessions may read in the snapshot of the transaction that is open."""
    row = raw.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])


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


def kind_of_type(raw: psycopg.Connection[Any], type_oid: int) -> ColumnKind | None:
    """How values of a type are read; None where they cannot be."""
    found = _KIND_OF.get(type_oid)
    if found is not None:
        return found
    statement = "SELECT typtype = 'e' FROM pg_catalog.pg_type WHERE oid = %s"
    row = raw.execute(statement, [type_oid]).fetchone()
    return ColumnKind.CATEGORY if row is not None and row[0] else None


def longest_array(raw: psycopg.Connection[Any], query: RowQuery, column: str) -> int:
    """Return how many elements the longest array of a column has."""
    statement = sql.SQL("SELECT coalesce(max(cardinality({})), 0) FROM {}").format(
        sql.Identifier(column), _view(query)
    )
    row = raw.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def copy_lengths(raw: psycopg.Connection[Any], query: RowQuery, column: str, subject: str) -> bytearray:
    """Return as binary COPY how many elements the array of each row has, int8, and the subject's code."""
    statement = sql.SQL(
        "COPY (SELECT coalesce(cardinality({}), 0)::bigint, {} FROM {}) TO STDOUT (FORMAT binary)"
    )
    made = statement.format(sql.Identifier(column), _code((subject,)), _view(query))
    return bytearray(b"").join(_copied(raw, made.as_bytes(raw)))


def values_by_hash(
    raw: psycopg.Connection[Any], query: RowQuery, column: str, counts: Mapping[int, int] | None = None
) -> dict[int, str]:
    """Return the values of a category by their hash; the most frequent ones where there are too many, and
    of several that have one hash.

    counts: how many rows have each hash, where not all of the dataset's count: none has any other.
    """
    if counts is not None:
        return _values_of(raw, query, column, counts)
    statement = sql.SQL(
        "SELECT hash, value FROM (SELECT {hash} AS hash, {value} AS value, count(*) AS n FROM {view}"
        " WHERE octet_length({value}) <= {longest} GROUP BY 1, 2) AS s ORDER BY n DESC, value LIMIT {most}"
    ).format(
        hash=_hash(column),
        value=_as_text(column),
        view=_view(query),
        longest=sql.Literal(LONGEST_VALUE),
        most=sql.Literal(MOST_VALUES),
    )
    found: dict[int, str] = {}
    for number, value in raw.execute(statement):
        text = _decoded(value)
        if text is not None:
            found.setdefault(int(number), text)
    return found


def all_values(raw: psycopg.Connection[Any], query: RowQuery, column: str) -> dict[int, str]:
    """Return every value of a category by its hash, however few rows have it; of several that have one hash
    the first in the order of their bytes.

    So whether a row's value is among them, and by which text it is known, does not depend on how many others
    there are: two values are told apart, as two subjects are, wherever their hashes differ.
    """
    statement = sql.SQL(
        "SELECT DISTINCT {hash} AS hash, {value} AS value FROM {view}"
        " WHERE octet_length({value}) <= {longest} ORDER BY hash, value"
    ).format(
        hash=_hash(column), value=_as_text(column), view=_view(query), longest=sql.Literal(LONGEST_VALUE)
    )
    found: dict[int, str] = {}
    with raw.cursor(name="values") as cursor:
        for number, value in cursor.execute(statement):
            text = _decoded(value)
            if text is not None:
                found.setdefault(int(number), text)
    return found


def _values_of(
    raw: psycopg.Connection[Any], query: RowQuery, column: str, counts: Mapping[int, int]
) -> dict[int, str]:
    """The same of some of the rows: no more is held at once than is returned."""
    statement = sql.SQL(
        "SELECT DISTINCT {hash} AS hash, {value} AS value FROM {view}"
        " WHERE octet_length({value}) <= {longest}"
    ).format(
        hash=_hash(column), value=_as_text(column), view=_view(query), longest=sql.Literal(LONGEST_VALUE)
    )
    with raw.cursor(name="values") as cursor:
        rows = cursor.execute(statement)
        there = (
            (-counts[number], text.encode() if isinstance(text, str) else text, number, text)
            for number, text in ((int(row[0]), row[1]) for row in rows)
            if number in counts
        )
        first = heapq.nsmallest(MOST_VALUES, there, key=lambda one: one[:2])
    found: dict[int, str] = {}
    for _, _, number, value in first:
        text = _decoded(value)
        if text is not None:
            found.setdefault(number, text)
    return found


def copy_texts(
    raw: psycopg.Connection[Any], query: RowQuery, column: str, longest: int
) -> Generator[bytearray, None, None]:
    """Yield the different texts of a column, cut anywhere: Python's name of the database's encoding and a
    zero byte, then a binary COPY of the hash, int8, rising, and of so many characters of the text, from the
    first on, as they lie in the database; of several that have one hash the first in the order of bytes.

    Nothing is converted there: a character without a place in UTF-8 would raise, and one row end what was
    charged. Of a database without an encoding, or of one that Python does not know, the bytes are taken for
    UTF-8.
    """
    yield bytearray(_codec(raw).encode() + b"\0")
    value = sql.SQL("left({}, {})").format(_as_text(column), sql.Literal(longest))
    statement = sql.SQL(
        "COPY (SELECT DISTINCT ON (hash) hash, shown FROM (SELECT {hash} AS hash, {shown} AS shown"
        " FROM {view} WHERE {column} IS NOT NULL) AS s ORDER BY hash, shown) TO STDOUT (FORMAT binary)"
    ).format(
        hash=_hash_of_text(column), shown=_own_bytes(value), view=_view(query), column=sql.Identifier(column)
    )
    yield from _copied(raw, statement.as_bytes(raw))


def _codec(raw: psycopg.Connection[Any]) -> str:
    name = raw.info.parameter_status("server_encoding") or ""
    try:
        return codecs.lookup(_spelled(name.lower())).name
    except LookupError:
        return "utf-8"


def _spelled(name: str) -> str:
    return name.replace("win", "cp").replace("koi8", "koi8_").replace("euc_cn", "gb2312")


def sample_texts(
    raw: psycopg.Connection[Any], query: RowQuery, columns: Sequence[str], longest: int, rows: int
) -> list[list[str]]:
    """Return some values of each column as text, cut to `longest` characters, of so many rows; none that a
    database without an encoding gives as bytes."""
    shown = sql.SQL(", ").join(
        sql.SQL("left({}::text, {})").format(sql.Identifier(name), sql.Literal(longest)) for name in columns
    )
    statement = sql.SQL("SELECT {} FROM {} LIMIT {}").format(shown, _view(query), sql.Literal(rows))
    found = raw.execute(statement).fetchall()
    return [[row[place] for row in found if isinstance(row[place], str)] for place in range(len(columns))]


def hashes_of(raw: psycopg.Connection[Any], values: Sequence[str]) -> dict[int, str]:
    """Return values by the hash that a column has for them; without those that the database cannot hold."""
    found = {}
    for value in values:
        try:
            row = raw.execute(
                'SELECT pg_catalog.hashtextextended(%s::text COLLATE "C", 0)', [value]
            ).fetchone()
        except (psycopg.DataError, UnicodeEncodeError):
            # The second is of the client: of characters that the database's encoding has not.
            continue
        assert row is not None
        found[int(row[0])] = value
    return found


def _decoded(value: str | bytes) -> str | None:
    """A database without an encoding gives bytes."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class CodeRange:
    """Codes from `first` to `last`, both included; they are int8."""

    first: int
    last: int


def split_codes(parts: int) -> list[CodeRange]:
    """Cut all codes into so many ranges of one width, rising: codes are hashes, so that each has about as
    many names. A name is in one of them."""
    bounds = [-(2**63) + (place << 64) // parts for place in range(parts + 1)]
    return [CodeRange(first, after - 1) for first, after in pairwise(bounds)]


def copy_rows(
    raw: psycopg.Connection[Any],
    query: RowQuery,
    columns: Sequence[ColumnReading],
    within: CodeRange | None = None,
) -> Generator[bytearray, None, None]:
    """Yield the rows as binary COPY, cut anywhere: each number a float8 (NULL is NaN) or a hash, int8, then a
    code, int8, for each name. within: those alone whose last code lies there.

    Of an array its length is a float8, and the elements, where there are any, an array of float8, of so many
    in every row (NULL is NaN). An image is its bytes, NULL, or no byte where it has more than an image may.

    A code is a hash without a key: a statement is seen by whoever reads the server's log, so none holds a
    secret. Whoever needs one keys the codes.
    """
    fields: list[sql.Composable] = [field for column in columns for field in _fields(column)]
    fields += [_code(name) for name in query.names]
    chosen: sql.Composable = sql.SQL("")
    if within is not None:
        chosen = sql.SQL(" WHERE {} BETWEEN {}::bigint AND {}::bigint").format(
            _code(query.names[-1]), sql.Literal(str(within.first)), sql.Literal(str(within.last))
        )
    statement = sql.SQL("COPY (SELECT {} FROM {}{}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(fields), _view(query), chosen
    )
    yield from _copied(raw, statement.as_bytes(raw))


def copy_consenting(raw: psycopg.Connection[Any], dataset: DatasetName) -> bytearray:
    """Return who has consented by a dataset's consent_query as binary COPY: the code of each subject, int8.

    As `copy_rows` has the codes of subjects; whoever is named by nothing has not consented.
    """
    view = sql.Identifier("federated_subject", dataset)
    statement = sql.SQL(
        "COPY (SELECT hashtextextended(c.subject::text, 0) FROM {} AS c (subject)"
        " WHERE c.subject IS NOT NULL) TO STDOUT (FORMAT binary)"
    ).format(view)
    return bytearray(b"").join(_copied(raw, statement.as_bytes(raw)))


def _copied(raw: psycopg.Connection[Any], statement: bytes) -> Iterator[bytearray]:
    """Yield what a COPY sends, some hundreds of kilobytes at a time; psycopg's errors.

    From libpq itself: there is a message for every row, and psycopg waits for each as if it were the last,
    which takes longer than the rest of reading. Nor is an object made of each.
    """
    pgconn, encoding = raw.pgconn, raw.info.encoding
    begun = pgconn.exec_(statement)
    if begun.status != ExecStatus.COPY_OUT:
        raise error_from_result(begun, encoding=encoding)
    copied, whole = bytearray(), False
    try:
        while (message := pgconn.get_copy_data(0))[0] > 0:
            copied += message[1]
            if len(copied) >= _SENT_AT_ONCE:
                yield copied
                copied = bytearray()
        whole = True
    finally:
        if not whole:
            # Nobody wants the rest, and nothing else can be asked before it.
            pgconn.finish()
    while (ended := pgconn.get_result()) is not None:
        if ended.status != ExecStatus.COMMAND_OK:
            raise error_from_result(ended, encoding=encoding)
    yield copied


def _code(name: tuple[str, ...]) -> sql.Composed:
    # Rows without a subject count as one subject's: that bounds them together.
    columns = sql.SQL(", ").join(map(sql.Identifier, name))
    named = columns if len(name) == 1 else sql.SQL("ROW({})").format(columns)
    return sql.SQL("coalesce(hashtextextended(({})::text, 0), 0)").format(named)


def _fields(column: ColumnReading) -> Iterator[sql.Composable]:
    name = sql.Identifier(column.name)
    if column.is_hashed:
        hashed = (_hash_of_text if column.kind is ColumnKind.TEXT else _hash)(column.name)
        yield sql.SQL("coalesce({}, {}::bigint)").format(hashed, sql.Literal(str(NULL_HASH)))
        return
    if column.kind is ColumnKind.IMAGE:
        yield sql.SQL(_IMAGE).format(c=name, most=sql.Literal(int(IMAGE_BYTES.most)))
        return
    if column.kind is not ColumnKind.ARRAY:
        yield _as_number(name, column.type_oid)
        return
    yield sql.SQL(_LENGTH).format(c=name)
    if column.elements:
        numbers = _ARRAYS.get(_ELEMENTS[column.type_oid], _ARRAY).format(c=name)
        yield sql.SQL(_FIXED).format(c=name, numbers=numbers, count=sql.Literal(column.elements))


def _as_text(column: str) -> sql.Composed:
    # As text the padding of character(n), which no comparison heeds, is gone.
    return sql.SQL('({}::text COLLATE "C")').format(sql.Identifier(column))


def _hash(column: str) -> sql.Composed:
    return sql.SQL("hashtextextended({}, 0)").format(_as_text(column))


def _hash_of_text(column: str) -> sql.Composed:
    # For the server's own hash a text is made up in a moment that has another's, and would be read in the
    # place of that one in every row that has it: under a budget one person would move the rows of many.
    return sql.SQL("('x' || left(encode(sha256({}), 'hex'), 16))::bit(64)::bigint").format(
        _own_bytes(_as_text(column))
    )


def _own_bytes(value: sql.Composable) -> sql.Composed:
    return sql.SQL("convert_to({}, getdatabaseencoding())").format(value)


def _as_number(value: sql.Composable, type_oid: int) -> sql.Composed:
    number = _CONVERSIONS.get(type_oid, _CONVERSION).format(c=value)
    return sql.SQL("coalesce({}, 'NaN'::double precision)").format(number)


_CONVERSION = sql.SQL("{c}::double precision")
# From 1970-01-01 on; what is infinite is missing.
_SECONDS = sql.SQL("CASE WHEN isfinite({c}) THEN extract(epoch FROM {c})::double precision / 86400 END")
_CONVERSIONS = {
    _BOOLEAN: sql.SQL("{c}::integer::double precision"),
    # What a double cannot hold would be an error, which would tell that one row holds such a value.
    _NUMERIC: sql.SQL(
        "CASE WHEN abs({c}) BETWEEN 1e-300 AND 1e300 THEN {c}::double precision "
        "WHEN abs({c}) < 1e-300 THEN 0 END"
    ),
    _MONEY: sql.SQL("{c}::numeric::double precision"),
    _DATE: _SECONDS,
    _TIMESTAMP: _SECONDS,
    _TIMESTAMPTZ: _SECONDS,
    _INTERVAL: _SECONDS,
}

_LENGTH = (
    "CASE WHEN {c} IS NULL THEN 'NaN'::double precision WHEN array_ndims({c}) = 1 OR cardinality({c}) = 0"
    " THEN cardinality({c})::double precision ELSE -1 END"
)
"""Of an array of more than one dimension no length is told."""

_FIXED = (
    "CASE WHEN array_ndims({c}) = 1 AND cardinality({c}) = {count}"
    " THEN array_replace({numbers}, NULL, 'NaN'::double precision)"
    " ELSE array_fill('NaN'::double precision, ARRAY[{count}]) END"
)
"""So many elements in every row: of an array of another length none is told."""

# A slice begins with element 1, wherever the array does.
_ARRAY = sql.SQL("({c}[:])::double precision[]")
_ARRAYS = {
    _BOOLEAN: sql.SQL("({c}[:])::integer[]::double precision[]"),
    # As of a number that is no element.
    _NUMERIC: sql.SQL(
        "ARRAY(SELECT CASE WHEN abs(u.v) BETWEEN 1e-300 AND 1e300 THEN u.v::double precision"
        " WHEN abs(u.v) < 1e-300 THEN 0 END FROM unnest({c}) WITH ORDINALITY AS u (v, n) ORDER BY u.n)"
    ),
}

_IMAGE = "CASE WHEN octet_length({c}) <= {most} THEN {c} WHEN {c} IS NOT NULL THEN ''::bytea END"


def _view(query: RowQuery) -> sql.Identifier:
    return sql.Identifier(*(query.relation or ("federated_dataset", query.dataset)))
