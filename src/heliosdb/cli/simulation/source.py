"""The table that a simulation deals out, read once from a database or a CSV file.

What always holds: a database is read as its nodes' training processes read a dataset, with the caller's own
rights, in one statement that changes nothing; what is read lies in arrays of which each node has a slice.
"""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from heliosdb.algorithms.table import Codes
from heliosdb.catalog.dataset_rows import (
    NULL_HASH,
    ColumnReading,
    RowQuery,
    type_name,
    values_by_hash,
)
from heliosdb.cli.people import limited
from heliosdb.cli.simulation.settings import SimulationSettings
from heliosdb.domain.datasets import ENUM, kind_of
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.vector import Vector
from heliosdb.domain.wording import counted
from heliosdb.node.datasets import RawRows, TableRequest, read_raw_rows
from heliosdb.node.reader import DirectRows

_BOOLEANS = {"true": 1.0, "t": 1.0, "false": 0.0, "f": 0.0}
_LONGEST_FIELD = 1_000_000

_SETTINGS = (
    b"SET default_transaction_read_only = on",
    # Names were looked up in the role's own path; what follows is PostgreSQL's own, whoever owns the table.
    b"SET search_path = pg_catalog, pg_temp",
    # What rows are known by is hashed as text, which must not change with a role's settings.
    b"SET TimeZone = 'UTC'",
    b"SET DateStyle = 'ISO, YMD'",
    b"SET IntervalStyle = 'postgres'",
    b"SET extra_float_digits = 1",
)


@dataclass(frozen=True, slots=True)
class Source:
    """name: as it is shown. rows: the columns in the order of a run's; codes: of rows, then of subjects where
    there is a column for them. types: of the columns. by, values: the code of each row's value of the split's
    column, and what these stand for; None, {} where there is none."""

    name: str
    rows: RawRows
    types: tuple[str, ...]
    by: Codes | None = None
    values: Mapping[int, str] | None = None

    @property
    def size(self) -> int:
        """How many rows there are."""
        return int(self.rows.values.shape[0])

    @property
    def subjects(self) -> Codes:
        """Whose each row is; (n,). Without a subject each row is one."""
        if self.rows.codes.shape[1] < 2:
            return np.arange(self.size, dtype=np.int64)
        return self.rows.codes[:, 1]

    @property
    def labels(self) -> Vector:
        """The target as a number: of a category, one number a value; NaN for none. (n,)."""
        target = self.rows.values[:, -1]
        if not self.rows.columns[-1].is_hashed:
            return target
        hashes, numbers = np.unique(target.copy().view(np.int64), return_inverse=True)
        return np.where(hashes[numbers] == NULL_HASH, np.nan, numbers.astype(np.float64))

    def slice(self, places: Codes) -> RawRows:
        """Return some of the rows."""
        rows = self.rows
        return RawRows(rows.values[places], rows.codes[places], rows.columns, rows.vocabularies)


def read_table(conninfo: str, table: str, settings: SimulationSettings, by: str | None) -> Source:
    """Read a table or view. by: the column of the split.

    FederatedError UNDEFINED_TABLE, UNDEFINED_COLUMN, PRIVILEGE, UNREACHABLE, or as `read_rows` of a node.
    """
    options, subject = settings.run.options, settings.subject
    try:
        with psycopg.connect(limited(conninfo), autocommit=True, application_name="heliosdb simulate") as raw:
            relation = _find(raw, table)
            for setting in _SETTINGS:
                raw.execute(setting)
            known_by = (*options.columns, *(() if subject is None else (subject,)))
            names = (known_by, *((one,) for one in (subject, by) if one is not None))
            query = RowQuery(DatasetName(relation[1]), options.columns, names, relation)
            rows = read_raw_rows(DirectRows(raw), query, _request(settings, DatasetName(relation[1])))
            types = tuple(_type(raw, column) for column in rows.columns)
            values = None if by is None else values_by_hash(raw, query, by)
    except psycopg.Error as error:
        raise _unreadable(error, table) from None
    if by is None:
        return Source(table, rows, types)
    codes = rows.codes
    shorter = RawRows(rows.values, np.ascontiguousarray(codes[:, :-1]), rows.columns, rows.vocabularies)
    return Source(table, shorter, types, codes[:, -1].copy(), values)


def _find(raw: psycopg.Connection[Any], table: str) -> tuple[str, str]:
    row = raw.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"
        " WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(%s::text)::oid",
        [table],
    ).fetchone()
    if row is None:
        raise FederatedError(
            ErrorCode.UNDEFINED_TABLE,
            f'table "{table}" does not exist',
            hint="Write it as in SQL: schema.table, and with quotes where its name has them.",
        )
    return str(row[0]), str(row[1])


def _request(settings: SimulationSettings, dataset: DatasetName) -> TableRequest:
    """What is read, before it is known what single tasks ask for."""
    options = settings.run.options
    return TableRequest(
        run="",
        dataset_id=1,
        dataset=dataset,
        base_tables=(),
        features=options.features,
        target=options.target,
        validation_split=0.0,
        subject=None,
        known_by=options.columns,
        key=b"-",
        plain=True,
        min_rows=1,
        max_parameter_share=1.0,
        roles=options.roles,
    )


def _type(raw: psycopg.Connection[Any], column: ColumnReading) -> str:
    name = type_name(raw, column.type_oid)
    return ENUM if kind_of(name) is None and column.kind is ColumnKind.CATEGORY else name


def _unreadable(error: psycopg.Error, table: str) -> FederatedError:
    said = error.diag.message_primary
    if isinstance(error, psycopg.errors.UndefinedColumn):
        return FederatedError(ErrorCode.UNDEFINED_COLUMN, f'table "{table}": {said}')
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return FederatedError(
            ErrorCode.PRIVILEGE,
            f'table "{table}" cannot be read: {said}',
            hint="A simulation reads with the rights of the role that connects.",
        )
    if isinstance(error, psycopg.OperationalError):
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return FederatedError(ErrorCode.UNREACHABLE, "the database cannot be reached", detail=reason)
    if said is None:
        # What cannot be read as a connection string may be quoted, password and all.
        return FederatedError(ErrorCode.INVALID_VALUE, "the connection string cannot be used")
    return FederatedError(ErrorCode.WRONG_STATE, f'table "{table}" cannot be read: {said}')


def read_csv(path: Path, settings: SimulationSettings, by: str | None) -> Source:
    """Read a CSV file with a header (UTF-8); an empty field is NULL. by: the column of the split.

    A column is a number or true and false where all its fields are, else a category. FederatedError
    INVALID_VALUE for a file that is none, UNDEFINED_COLUMN.
    """
    options, subject = settings.run.options, settings.subject
    wanted = list(dict.fromkeys((*options.columns, *(one for one in (subject, by) if one is not None))))
    texts = _read_fields(path, wanted)
    made = {name: _Column.of(name, texts[name]) for name in dict.fromkeys(options.columns)}
    columns = [made[name] for name in options.columns]
    values = np.column_stack([column.values for column in columns]) if columns[0].values.size else None
    if values is None:
        raise invalid_value(f"{path} has no rows")
    rows = zip(*(texts[name] for name in options.columns), strict=True)
    codes = [_codes("\0".join(row) for row in rows)]
    if subject is not None:
        codes.append(_codes(texts[subject]))
    found = RawRows(
        values,
        np.column_stack(codes),
        [column.reading for column in columns],
        {column.reading.name: column.vocabulary for column in columns if column.reading.is_hashed},
    )
    types = tuple(column.type for column in columns)
    if by is None:
        return Source(path.name, found, types)
    distinct, numbers = np.unique(np.array(texts[by]), return_inverse=True)
    named = dict(enumerate(map(str, distinct.tolist())))
    return Source(path.name, found, types, numbers.astype(np.int64), named)


def _read_fields(path: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {name: [] for name in wanted}
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            heads = next(reader, [])
            missing = [name for name in wanted if name not in heads]
            if missing:
                raise FederatedError(
                    ErrorCode.UNDEFINED_COLUMN,
                    f"{path} has no column {', '.join(missing)}",
                    hint=f"Its columns: {', '.join(heads[:50])}.",
                )
            places = [(fields[name].append, heads.index(name)) for name in wanted]
            for row in reader:
                if len(row) != len(heads):
                    raise invalid_value(
                        f"line {reader.line_num} of {path} has {counted(len(row), 'field')},"
                        f" and the header {len(heads)}"
                    )
                for add, place in places:
                    add(row[place])
    except OSError as error:
        raise invalid_value(f"cannot read {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise invalid_value(f"{path} is not a CSV file in UTF-8") from error
    return fields


@dataclass(frozen=True, slots=True)
class _Column:
    reading: ColumnReading
    values: Vector
    vocabulary: Mapping[int, str]
    type: str

    @classmethod
    def of(cls, name: str, texts: Sequence[str]) -> _Column:
        """Tell what the fields are, and make numbers of them."""
        for convert, kind, type_ in (
            (_integer, ColumnKind.NUMBER, "bigint"),
            (_number, ColumnKind.NUMBER, "double precision"),
            (_boolean, ColumnKind.BOOLEAN, "boolean"),
        ):
            try:
                values = np.array([math.nan if text == "" else convert(text) for text in texts])
            except (KeyError, ValueError, OverflowError):
                continue
            return cls(ColumnReading(name, 0, kind), values, {}, type_)
        distinct, numbers = np.unique(np.array(texts), return_inverse=True)
        bits = numbers.astype(np.int64)
        bits[np.array(texts) == ""] = NULL_HASH
        vocabulary = {place: str(text) for place, text in enumerate(distinct.tolist()) if text}
        return cls(ColumnReading(name, 0, ColumnKind.CATEGORY), bits.view(np.float64), vocabulary, "text")


def _integer(text: str) -> float:
    return float(int(text))


def _number(text: str) -> float:
    return float(text)


def _boolean(text: str) -> float:
    return _BOOLEANS[text.strip().lower()]


def _codes(names: Iterator[str] | Sequence[str]) -> Codes:
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)
