"""The rows of a dataset as a table of numbers, read by binary COPY through the dataset's view.

What always holds: the table depends on the rows alone and not on the order in which the database gives them,
so that a node that starts again computes the same bits; which subjects are held out depends on a secret of
the node and on nothing that a task says but the fraction, so that a coordinator cannot choose them and
figures of different runs are about the same ones. Under a budget a row is read by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from heliosdb.algorithms.encoding import number_classes
from heliosdb.algorithms.table import (
    Codes,
    Mask,
    RawColumn,
    Table,
    first_part,
    folds_of,
    keyed_hashes,
    places_of,
    starts_of_runs,
)
from heliosdb.catalog.dataset_rows import (
    NULL_HASH,
    ColumnReading,
    RowQuery,
    column_types,
    copy_consenting,
    copy_lengths,
    copy_rows,
    hashes_of,
    kind_of_type,
    longest_array,
    type_name,
    values_by_hash,
)
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.node.admission import EVERYBODY, Admission
from heliosdb.node.disclosure import (
    ABSENT,
    HELD_OUT,
    ROW_SET_PURPOSE,
    Hashes,
    RowSet,
    check_cells,
    check_folds,
    check_role_cells,
    choose_row_set,
)
from heliosdb.transport.limits import MAX_LEVEL_BYTES

_COPY_HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_TRAILER = struct.pack(">h", -1)

NEITHER = math.inf
"""Stands under a budget for a target that is none of its classes: no row of a table has it."""

MOST_NUMBERS = 1_600
"""Of a row: a query has no more columns."""


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Everything that decides what a table holds; equal requests may share one table.

    run: its id in hexadecimal; a new run reads anew. classes: the labels of a target that is read as their
    indices, under a budget; () where it is read as it is. levels: of each feature, where there is a budget
    and it is a category. roles: (role, column) of further columns. base_tables: what the rows come from.
    known_by: the columns by which a row is known. key: secret; of the choice of held-out subjects, of the
    names in row sets and of the order of training. plain: for answers without noise, under the rules of
    `disclosure`; min_rows and max_parameter_share are theirs. admission: whose rows are read as if they were
    not there; has_consent_query: whether it lacks who is in the dataset's consent_query. lets_withdraw:
    whether plain answers go on without who is not in it any more. phi_check:
    whether values are looked at for identifiers of people when they are read.
    """

    run: str
    dataset_id: int
    dataset: DatasetName
    base_tables: tuple[int, ...]
    features: tuple[str, ...]
    target: str
    validation_split: float
    subject: str | None
    known_by: tuple[str, ...]
    key: bytes
    plain: bool
    min_rows: int
    max_parameter_share: float
    classes: tuple[str, ...] = ()
    levels: tuple[tuple[str, ...], ...] = ()
    fold: Fold | None = None
    roles: tuple[tuple[str, str], ...] = ()
    admission: Admission = EVERYBODY
    phi_check: bool = False
    has_consent_query: bool = False
    lets_withdraw: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read: features, roles and, last, the target."""
        return (*self.features, *(column for _, column in self.roles), self.target)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Of what codes are read: rows where something is to be known by them, then subjects."""
        rows = (self.known_by,) if self.plain or self.subject is None else ()
        return rows if self.subject is None else (*rows, (self.subject,))


def table_key(secret: bytes) -> bytes:
    """The key of held-out choices and row sets, unknown to whoever asks: of the node's secret."""
    return hmac.digest(secret, b"held-out", hashlib.sha256)


def choose_held_out(places: Hashes, request: TableRequest) -> Mask:
    """Whom of the subjects, by their places, a request holds out; FederatedError NODE_REFUSED where a fold of
    a plain answer has too few."""
    if request.fold is None:
        return first_part(places, request.validation_split)
    numbers = folds_of(places, request.fold.of)
    if request.plain:
        check_folds(np.bincount(numbers, minlength=request.fold.of), request.min_rows, request.dataset)
    chosen: Mask = numbers == request.fold.number
    return chosen


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, row by row in the order of the database.

    values: (n, numbers); the target is the last. codes: (n, names). columns: of the features. labels: of a
    target that is a category.
    """

    values: Matrix
    codes: Codes
    columns: tuple[RawColumn, ...] = ()
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows as the database sent them. values: (n, numbers), of a category the bits of hashes; codes: (n,
    names). vocabularies: by column, the values of categories by their hash."""

    values: Matrix
    codes: Codes
    columns: Sequence[ColumnReading]
    vocabularies: Mapping[str, Mapping[int, str]]


def read_rows(raw: psycopg.Connection[Any], request: TableRequest) -> Reading:
    """Read a dataset's numbers and codes in one snapshot; NOT_SUPPORTED for what is neither number nor
    category, PROGRAM_LIMIT for arrays that are too long."""
    query = RowQuery(request.dataset, request.columns, request.names)
    return number_levels(read_raw_rows(raw, query, request), request)


def read_raw_rows(raw: psycopg.Connection[Any], query: RowQuery, request: TableRequest) -> RawRows:
    """Read them as `read_rows` does, before what a task says of levels and classes is applied to them."""
    kinds = _find_kinds(raw, query, len(request.features))
    # Before the snapshot: what the database cannot hold ends a transaction.
    vocabularies = _private_vocabularies(raw, query, kinds, request) if not request.plain else {}
    with raw.transaction():
        raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        columns = [_with_elements(raw, query, column, request) for column in kinds]
        numbers = sum(column.width for column in columns)
        if numbers + len(query.names) > MOST_NUMBERS:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f'the features of dataset "{request.dataset}" are {numbers} numbers a row, more than'
                f" {MOST_NUMBERS}",
                hint="Leave arrays out, or share a part of them.",
            )
        hashed = [place for column in columns for place in [column.is_hashed] * column.width]
        copied = copy_rows(raw, query, columns)
        if not request.admission.leaves_out:
            if request.plain:
                vocabularies = _plain_vocabularies(raw, query, columns)
            values, codes = parse_copy(copied, numbers, len(query.names), hashed)
        else:
            values, codes = _admitted(*parse_copy(copied, numbers, len(query.names), hashed), request)
            if request.plain:
                vocabularies = _plain_vocabularies(raw, query, columns, values)
    return RawRows(values, codes, columns, vocabularies)


def read_consenting(raw: psycopg.Connection[Any], request: TableRequest) -> Codes:
    """The codes of who is in the dataset's consent_query; (n,)."""
    return np.unique(parse_copy(copy_consenting(raw, request.dataset), 0, 1)[1])


def _admitted(values: Matrix, codes: Codes, request: TableRequest) -> tuple[Matrix, Codes]:
    """The rows that an answer may be about, as if there were no others."""
    if request.subject is None:
        # Nobody knows whose they are: where subjects have to be admitted, none of them is.
        return (values, codes) if request.admission.admitted is None else (values[:0], codes[:0])
    admitted = request.admission.admits(codes[:, -1], request.key)
    return (values, codes) if admitted.all() else (values[admitted], codes[admitted])


def _plain_vocabularies(
    raw: psycopg.Connection[Any],
    query: RowQuery,
    columns: Sequence[ColumnReading],
    values: Matrix | None = None,
) -> dict[str, dict[int, str]]:
    """The values of categories by their hash. values: of the rows that count, where these are not all."""
    found, start = {}, 0
    for column in columns:
        if column.is_hashed:
            counts = None
            if values is not None:
                hashes, n = np.unique(values[:, start].copy().view(np.int64), return_counts=True)
                counts = dict(zip(hashes.tolist(), n.tolist(), strict=True))
            found[column.name] = values_by_hash(raw, query, column.name, counts)
        start += column.width
    return found


def _find_kinds(raw: psycopg.Connection[Any], query: RowQuery, features: int) -> list[ColumnReading]:
    """How each column is read: so many features, then what has a role, then the target."""
    found: list[ColumnReading] = []
    for column, type_oid in zip(query.columns, column_types(raw, query), strict=True):
        kind, place = kind_of_type(raw, type_oid), len(found)
        fits: tuple[ColumnKind, ...] = tuple(ColumnKind)
        role = "it is no feature"
        if place == len(query.columns) - 1:
            fits, role = _TARGETS, "the target is a number or a category"
        elif place >= features:
            fits, role = _NUMBERS, "what is beside features and target is a number, or true or false"
        if kind is None or kind not in fits:
            raise not_supported(
                f'column "{column}" of dataset "{query.dataset}" has type {type_name(raw, type_oid)}; {role}'
            )
        found.append(ColumnReading(column, type_oid, kind))
    return found


_NUMBERS = (ColumnKind.NUMBER, ColumnKind.BOOLEAN)
_TARGETS = (*_NUMBERS, ColumnKind.CATEGORY)


def _with_elements(
    raw: psycopg.Connection[Any], query: RowQuery, column: ColumnReading, request: TableRequest
) -> ColumnReading:
    if column.kind is not ColumnKind.ARRAY:
        return column
    if request.admission.leaves_out and request.subject is not None:
        lengths = parse_copy(copy_lengths(raw, query, column.name, request.subject), 0, 2)[1]
        admitted = request.admission.admits(lengths[:, 1], request.key)
        longest = int(lengths[admitted, 0].max(initial=0))
    else:
        longest = longest_array(raw, query, column.name)
    return replace(column, elements=min(longest, MOST_NUMBERS))


def _private_vocabularies(
    raw: psycopg.Connection[Any], query: RowQuery, kinds: Sequence[ColumnReading], request: TableRequest
) -> dict[str, dict[int, str]]:
    """Under a budget the levels are the task's: which of them a row has is nobody else's matter."""
    of_roles: list[tuple[str, ...]] = [()] * len(request.roles)
    levels = [*(request.levels or [()] * len(request.features)), *of_roles, request.classes]
    pairs = zip(kinds, levels, strict=True)
    return {column.name: hashes_of(raw, known) for column, known in pairs if column.is_hashed}


def number_levels(rows: RawRows, request: TableRequest) -> Reading:
    """Turn hashes into places among the levels that are known, and under a budget a target into classes, in
    the rows themselves."""
    values, columns, raw, start = rows.values, rows.columns, list[RawColumn](), 0
    for column in columns:
        known: tuple[str, ...] = ()
        if column.is_hashed:
            known = _place_levels(values[:, start], rows.vocabularies[column.name])
        raw.append(RawColumn(column.kind, column.width, known))
        start += column.width
    labels = raw[-1].levels if columns[-1].is_hashed else None
    if request.classes:
        values[:, -1] = number_classes(values[:, -1], request.classes, NEITHER, labels)
        labels = None
    complete = _without_incomplete(values, request)
    return Reading(complete, rows.codes, tuple(raw[: len(request.features)]), labels)


def _without_incomplete(values: Matrix, request: TableRequest) -> Matrix:
    """Take the target from rows that lack a value in a column with a role: they are left out as those without
    a target are; each row by itself."""
    roles = values[:, _first_role(values, request) : -1]
    values[np.any(~np.isfinite(roles), axis=1), -1] = np.nan
    return values


def _first_role(values: Matrix, request: TableRequest) -> int:
    """Where the columns with roles begin: the target is the last, and they are before it."""
    return int(values.shape[1]) - 1 - len(request.roles)


def _place_levels(column: Vector, vocabulary: Mapping[int, str]) -> tuple[str, ...]:
    """Put places into a column of hashes' bits: see `RawColumn.levels`, which is returned."""
    known = {number: value for number, value in vocabulary.items() if _is_level(value)}
    levels = tuple(sorted(set(known.values()), key=str.encode))
    places = {value: place for place, value in enumerate(levels)}
    hashes, inverse = np.unique(column.copy().view(np.int64), return_inverse=True)
    numbers = [
        math.nan if number == NULL_HASH else float(places[known[number]]) if number in known else -1.0
        for number in hashes.tolist()
    ]
    column[:] = np.array(numbers)[inverse]
    return levels


def _is_level(value: str) -> bool:
    return len(value.encode()) <= MAX_LEVEL_BYTES and "\0" not in value


def parse_copy(
    copied: bytes | bytearray, columns: int, codes: int, hashed: Sequence[bool] = ()
) -> tuple[Matrix, Codes]:
    """Read binary COPY of fixed-width rows by stride: (rows, columns) float64 and (rows, codes) int64.

    hashed: which columns are integers, whose bits are kept.
    """
    fields = columns + codes
    kinds = [">i8" if i >= columns or (hashed and hashed[i]) else ">f8" for i in range(fields)]
    row = np.dtype(
        [("fields", ">i2")]
        + [part for i, kind in enumerate(kinds) for part in ((f"size{i}", ">i4"), (f"value{i}", kind))]
    )
    body = memoryview(copied)[len(_COPY_HEADER) : len(copied) - len(_COPY_TRAILER)]
    framed = copied.startswith(_COPY_HEADER) and copied.endswith(_COPY_TRAILER)
    if not framed or len(body) % row.itemsize:
        raise ValueError("not a binary COPY of fixed-width rows")
    rows = np.frombuffer(body, dtype=row)
    if not (rows["fields"] == fields).all() or not all((rows[f"size{i}"] == 8).all() for i in range(fields)):
        raise ValueError("not a binary COPY of fixed-width rows")
    values, found = np.empty((len(rows), columns)), np.empty((len(rows), codes), dtype=np.int64)
    bits = values.view(np.int64)
    for i in range(columns):
        (bits if kinds[i] == ">i8" else values)[:, i] = rows[f"value{i}"]
    for i in range(codes):
        found[:, i] = rows[f"value{columns + i}"]
    return values, found


def make_table(values: Matrix, codes: Codes, request: TableRequest, read: Reading | None = None) -> Table:
    """Order the rows by content, number the subjects, choose the held-out ones; without row sets' rules.

    read: how what was read stands in the values; None where each column is a number.
    """
    return _described(_arrange(values, codes, request)[0], read)


def make_plain_table(
    values: Matrix,
    codes: Codes,
    request: TableRequest,
    earlier: Sequence[RowSet],
    read: Reading | None = None,
) -> tuple[Table, RowSet]:
    """The table for plain answers, and the row set that it is about; FederatedError where there may be
    none."""
    table, rows, subjects = _arrange(values, codes, request)
    order = np.argsort(rows, kind="stable")
    own = RowSet(rows[order], subjects[order], table.held_out[order])
    chosen = choose_row_set(own, earlier, request.min_rows, request.dataset)
    parts = np.empty(rows.size, dtype=np.int64)
    parts[order] = chosen.part_of(own.rows)
    plain = replace(table, held_out=parts == HELD_OUT, others=table.others[:0]).where(parts != ABSENT)
    plain = _with_own_levels(_described(plain, read))
    _check_cells(plain, request)
    check_role_cells(plain, dict(request.roles), request.dataset)
    return plain, chosen


def _described(table: Table, read: Reading | None) -> Table:
    if read is None:
        return table
    return replace(table, columns=read.columns, labels=read.labels)


def _check_cells(table: Table, request: TableRequest) -> None:
    """Of numbers; of categories and arrays the inputs are looked at that an encoding makes of them."""
    columns = table.columns or (RawColumn(),) * len(request.features)
    starts = np.cumsum([0, *(column.width for column in columns)])
    numbers = [
        (name, table.features[:, start])
        for name, start, column in zip(request.features, starts, columns, strict=False)
        if column.kind not in (ColumnKind.CATEGORY, ColumnKind.ARRAY)
    ]
    check_cells(table, numbers, request.dataset)


def _with_own_levels(table: Table) -> Table:
    """Number the levels that the table's own rows have, so that other rows of the dataset leave no trace."""
    features, columns, start = table.features, list(table.columns), 0
    for index, column in enumerate(columns):
        if column.kind is ColumnKind.CATEGORY:
            features = features if features is not table.features else features.copy()
            columns[index] = replace(column, levels=_renumber(features[:, start], column.levels))
        start += column.width
    table = replace(table, features=features, columns=tuple(columns))
    if table.labels is None:
        return table
    target = table.target.copy()
    labels = _renumber(target, table.labels)
    return replace(table, target=target, labels=labels)


def _renumber(column: Vector, levels: tuple[str, ...]) -> tuple[str, ...]:
    there = np.isfinite(column) & (column >= 0)
    places, inverse = np.unique(column[there].astype(np.int64), return_inverse=True)
    column[there] = inverse
    return tuple(levels[place] for place in places.tolist())


def content_hash(table: Table, key: bytes) -> bytes:
    """A keyed hash of a table's rows, the same however often the same rows are read; 32 bytes."""
    # Subjects are numbered among all rows that were read, of which a plain table may be a part.
    both = np.concatenate([table.subjects, table.others])
    subjects = np.unique(both, return_inverse=True)[1].astype(np.int64)
    keyed = hashlib.blake2b(key=key, digest_size=32, person=b"run-rows")
    keyed.update(struct.pack("<QQ", *table.features.shape))
    if any(column.levels or column.width > 1 for column in table.columns) or table.labels is not None:
        keyed.update(repr((table.columns, table.labels)).encode())
    rows, others = subjects[: table.rows], subjects[table.rows :]
    for array in (table.features, table.target, rows, table.held_out, others, *table.roles.values()):
        keyed.update(np.ascontiguousarray(array).data)
    return keyed.digest()


def _arrange(values: Matrix, codes: Codes, request: TableRequest) -> tuple[Table, Hashes, Hashes]:
    """The table of the rows with a target, and the keyed hashes of its rows (none unless plain) and
    subjects."""
    bits = values.view(np.int64)
    keys = [bits[:, i] for i in range(bits.shape[1])] + [codes[:, i] for i in range(codes.shape[1])]
    order = _order(keys)
    target = values[order, -1]
    # What is read as it is has no classes, so that none of its rows is of neither.
    others = order[target == NEITHER] if request.classes else order[:0]
    order = order[np.isfinite(target)]
    of_others = codes[others, -1]
    codes = codes[order]
    row_names = _number_equal(codes[:, 0]) if request.plain or request.subject is None else None
    if request.subject is None:
        # A row is a subject: known by what names it, since its number would change with other rows.
        assert row_names is not None
        names, numbers = row_names, np.arange(order.size + of_others.size, dtype=np.int64)
    else:
        both = np.concatenate([codes[:, -1], of_others])
        distinct, numbers = np.unique(both, return_inverse=True)
        names = _names(distinct)
    subjects, others = np.split(numbers.astype(np.int64), [order.size])
    if request.validation_split or request.fold is not None:
        places = places_of(names, request.key)
        chosen, places = choose_held_out(places, request)[subjects], places[subjects]
    else:
        chosen, places = np.zeros(subjects.size, dtype=np.bool_), np.empty(0, dtype=np.uint64)
    first = _first_role(values, request)
    # Arrays of their own: what is kept of them is what they take.
    roles = {role: values[order, first + place] for place, (role, _) in enumerate(request.roles)}
    features, target = values[:, :first][order], values[order, -1]
    table = Table(features, target, subjects, chosen, others, roles=roles)
    if not request.plain:
        return table, np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64)
    table = replace(table, places=places)
    if request.subject is not None:
        table = replace(table, codes=codes[:, -1])
    assert row_names is not None
    rows = keyed_hashes(row_names, request.key, ROW_SET_PURPOSE)
    if request.subject is None:
        return table, rows, rows
    return table, rows, keyed_hashes(names, request.key, ROW_SET_PURPOSE)[subjects]


def _order(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.intp]:
    """What np.lexsort returns, which is slow: the last key is all that tells where none of its values is
    there twice."""
    order = np.argsort(keys[-1])
    ranked = keys[-1][order]
    return order if bool((ranked[1:] != ranked[:-1]).all()) else np.lexsort(keys)


def _number_equal(codes: NDArray[np.int64]) -> list[bytes]:
    """Name each row by its code and its number among the rows of the same code, so that equal rows differ."""
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    first = starts_of_runs(ranked)
    numbers = np.arange(codes.size) - np.repeat(first, np.diff(first, append=codes.size))
    named = np.empty((codes.size, 2), dtype=np.int64)
    named[order, 0], named[order, 1] = ranked, numbers
    return _names(named)


def _names(codes: NDArray[np.int64]) -> list[bytes]:
    """The bytes of each row of codes; (n,) or (n, several)."""
    width = codes.itemsize * math.prod(codes.shape[1:])
    names: list[bytes] = np.ascontiguousarray(codes).view(f"V{width}").ravel().tolist()
    return names
