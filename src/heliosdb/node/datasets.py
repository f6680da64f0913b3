"""The rows of a dataset as numbers, read by binary COPY through the dataset's view.

What always holds: what is read is of rows that the answer may be about, as if there were no others; under a
budget a row is read by itself. `arranging` makes a table of them.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from heliosdb.algorithms.encoding import number_classes
from heliosdb.algorithms.space import MEMORY, Space, slices
from heliosdb.algorithms.table import Codes, RawColumn
from heliosdb.catalog.dataset_rows import NULL_HASH, CodeRange, ColumnReading, RowQuery
from heliosdb.domain.disclosure_rules import DEFAULT_RULES
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.node.admission import EVERYBODY, Admission
from heliosdb.node.read_texts import KnownTexts
from heliosdb.node.reader import Rows
from heliosdb.node.scratch import RowSpool, spool_of
from heliosdb.scoring.words import LONGEST
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
    and it is a category; elements: where it is an array. hashed: of each feature into how many numbers its
    text is hashed, 0 where it is read otherwise. named: categories of which every value is known by its text,
    under a budget; without one all are. roles: (role, column) of further columns. base_tables: what
    the rows come from. known_by: the columns by which a row is known. key: secret; of the choice of held-out
    subjects, of the names in row sets and of the order of training. plain: for answers without noise, under
    the rules of `disclosure`; min_rows to max_row_sets are theirs (`DisclosureRules`). admission: whose rows
    are read as if they were not there; has_consent_query: whether it lacks who is in the dataset's
    consent_query. lets_withdraw: whether plain answers go on without who is not in it any more. phi_check:
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
    min_cell: int = DEFAULT_RULES.min_cell
    min_category: int = DEFAULT_RULES.min_category
    max_dominance: float = DEFAULT_RULES.max_dominance
    max_row_sets: int = DEFAULT_RULES.max_row_sets
    classes: tuple[str, ...] = ()
    levels: tuple[tuple[str, ...], ...] = ()
    named: tuple[str, ...] = ()
    elements: tuple[int, ...] = ()
    hashed: tuple[int, ...] = ()
    fold: Fold | None = None
    roles: tuple[tuple[str, str], ...] = ()
    admission: Admission = EVERYBODY
    phi_check: bool = False
    has_consent_query: bool = False
    lets_withdraw: bool = False

    @property
    def rules(self) -> tuple[float, ...]:
        """What decides, where answers have no noise, what inputs are made of columns, and whether."""
        return (self.min_cell, self.min_category, self.max_dominance)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read: features, roles and, last, the target."""
        return (*self.features, *(column for _, column in self.roles), self.target)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Of what codes are read: rows where something is to be known by them, then subjects."""
        rows = (self.known_by,) if self.plain or self.subject is None else ()
        return rows if self.subject is None else (*rows, (self.subject,))

    @property
    def width(self) -> int:
        """How many numbers a row is as it is read, but for elements of arrays."""
        return len(self.columns) + len(self.names) + sum(self.elements)

    @property
    def most_width(self) -> int:
        """As how many numbers a row may be computed on: under a budget each level that a task names is
        one, and so may be what has none of them, NULL, and that it is missing."""
        inputs = sum(1 if not levels else len(levels) + 3 for levels in self.levels)
        return max(self.width, inputs + sum(self.elements) + sum(self.hashed) + 1)

    @property
    def texts(self) -> tuple[str, ...]:
        """The features that are read as texts."""
        return tuple(name for name, size in zip(self.features, self.hashed, strict=False) if size)


def table_key(secret: bytes) -> bytes:
    """The key of held-out choices and row sets, unknown to whoever asks: of the node's secret."""
    return hmac.digest(secret, b"held-out", hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, row by row in the order of the database.

    values: (n, numbers); the target is the last. codes: (n, names). columns: of the features. labels: of a
    target that is a category. space: where they lie, and what is made of them belongs.
    """

    values: Matrix
    codes: Codes
    columns: tuple[RawColumn, ...] = ()
    labels: tuple[str, ...] | None = None
    space: Space = MEMORY


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows as the database sent them. values: (n, numbers), of a category and a text the bits of hashes;
    codes: (n, names). vocabularies: by column, the values of categories by their hash; texts: those of texts.
    space: as `Reading`."""

    values: Matrix
    codes: Codes
    columns: Sequence[ColumnReading]
    vocabularies: Mapping[str, Mapping[int, str]]
    space: Space = MEMORY
    texts: Mapping[str, KnownTexts] = field(default_factory=dict)


def read_rows(rows: Rows, request: TableRequest, spool: RowSpool | None = None) -> Reading:
    """Read a dataset's numbers and codes in one snapshot; NOT_SUPPORTED for what is neither number nor
    category, PROGRAM_LIMIT for arrays that are too long, or more than there is room for.

    spool: where they are put; None: in memory.
    """
    query = RowQuery(request.dataset, request.columns, request.names)
    return number_levels(read_raw_rows(rows, query, request, spool), request)


def read_raw_rows(
    rows: Rows, query: RowQuery, request: TableRequest, spool: RowSpool | None = None
) -> RawRows:
    """Read them as `read_rows` does, before what a task says of levels and classes is applied to them."""
    spool = spool or RowSpool(None, None)
    with opened(rows, query, request) as reading:
        values, codes = copy_admitted(rows, query, reading.columns, request, spool=spool)
        counts = count_values(values, reading.columns) if request.admission.leaves_out else None
        vocabularies = reading.vocabularies(counts)
        texts = _read_texts(rows, query, reading.columns, values)
    return RawRows(values, codes, reading.columns, vocabularies, spool.space, texts)


def _read_texts(
    rows: Rows, query: RowQuery, columns: Sequence[ColumnReading], values: Matrix
) -> dict[str, KnownTexts]:
    """Read the texts that rows have, by column."""
    found, start = {}, 0
    for column in columns:
        if column.kind is ColumnKind.TEXT:
            with closing(rows.copy_texts(query, column.name, LONGEST)) as copied:
                found[column.name] = KnownTexts.read(copied, values[:, start])
        start += column.width
    return found


Vocabularies = Mapping[str, Mapping[int, str]]
"""By column, the values of a category by their hash."""


@dataclass(frozen=True, slots=True)
class OpenReading:
    """A snapshot in which a dataset is being read. columns: how each is. known: under a budget the values of
    categories by their hash."""

    rows: Rows
    query: RowQuery
    request: TableRequest
    columns: Sequence[ColumnReading]
    known: Mapping[str, Mapping[int, str]]

    def vocabularies(self, counts: Mapping[str, Mapping[int, int]] | None) -> Vocabularies:
        """Return the values of categories by their hash.

        counts: by column of the rows that count, where these are not all.
        """
        if not self.request.plain:
            named = self.request.named
            return {**self.known, **{name: self.rows.all_values(self.query, name) for name in named}}
        return {
            column.name: self.rows.values_by_hash(
                self.query, column.name, None if counts is None else counts[column.name]
            )
            for column in self.columns
            if column.kind is ColumnKind.CATEGORY
        }


@contextmanager
def opened(rows: Rows, query: RowQuery, request: TableRequest) -> Iterator[OpenReading]:
    """Begin to read a dataset, in one snapshot until the block ends; errors as `read_rows` has them."""
    kinds = _as_texts(_find_kinds(rows, query, len(request.features)), request)
    # Before the snapshot: what the database cannot hold ends a transaction.
    known = _private_vocabularies(rows, query, kinds, request) if not request.plain else {}
    with rows.snapshot():
        columns = [_with_elements(rows, query, column, request, place) for place, column in enumerate(kinds)]
        numbers = sum(column.width for column in columns)
        if numbers + len(query.names) > MOST_NUMBERS:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f'the features of dataset "{request.dataset}" are {numbers} numbers a row, more than'
                f" {MOST_NUMBERS}",
                hint="Leave arrays out, or share a part of them.",
            )
        yield OpenReading(rows, query, request, columns, known)


def copy_admitted(
    rows: Rows,
    query: RowQuery,
    columns: Sequence[ColumnReading],
    request: TableRequest,
    *,
    spool: RowSpool,
    within: CodeRange | None = None,
) -> tuple[Matrix, Codes]:
    """Read the rows that an answer may be about, in the transaction that is open.

    within: those whose last code lies there; None: all.
    """
    numbers = sum(column.width for column in columns)
    hashed = [place for column in columns for place in [column.is_hashed] * column.width]
    with closing(rows.copy_rows(query, columns, within)) as copied:
        blocks = parse_blocks(copied, numbers, len(query.names), hashed)
        leaves_out = request.admission.leaves_out
        return spool_of((_admitted(*block, request) for block in blocks) if leaves_out else blocks, spool)


def read_consenting(rows: Rows, request: TableRequest) -> Codes:
    """The codes of who is in the dataset's consent_query; (n,)."""
    return np.unique(parse_copy(rows.copy_consenting(request.dataset), 0, 1)[1])


def _admitted(values: Matrix, codes: Codes, request: TableRequest) -> tuple[Matrix, Codes]:
    """The rows that an answer may be about, as if there were no others."""
    if request.subject is None:
        # Nobody knows whose they are: where subjects have to be admitted, none of them is.
        return (values, codes) if request.admission.admitted is None else (values[:0], codes[:0])
    admitted = request.admission.admits(codes[:, -1], request.key)
    return (values, codes) if admitted.all() else (values[admitted], codes[admitted])


def count_values(values: Matrix, columns: Sequence[ColumnReading]) -> dict[str, Counter[int]]:
    """Count the rows of each hash, of each category by its name."""
    found, start = {}, 0
    for column in columns:
        if column.kind is ColumnKind.CATEGORY:
            found[column.name] = _count_hashes(values[:, start])
        start += column.width
    return found


def _count_hashes(column: Vector) -> Counter[int]:
    counts = Counter[int]()
    for block in slices(column.size):
        hashes, n = np.unique(column[block].copy().view(np.int64), return_counts=True)
        counts.update(dict(zip(hashes.tolist(), n.tolist(), strict=True)))
    return counts


def _find_kinds(rows: Rows, query: RowQuery, features: int) -> list[ColumnReading]:
    """How each column is read: so many features, then what has a role, then the target."""
    found: list[ColumnReading] = []
    for column, type_oid in zip(query.columns, rows.column_types(query), strict=True):
        kind, place = rows.kind_of_type(type_oid), len(found)
        fits: tuple[ColumnKind, ...] = tuple(ColumnKind)
        role = "it is no feature"
        if place == len(query.columns) - 1:
            fits, role = _TARGETS, "the target is a number or a category"
        elif place >= features:
            fits, role = _NUMBERS, "what is beside features and target is a number, or true or false"
        if kind is None or kind not in fits:
            raise not_supported(
                f'column "{column}" of dataset "{query.dataset}" has type {rows.type_name(type_oid)}; {role}'
            )
        found.append(ColumnReading(column, type_oid, kind))
    return found


def _as_texts(columns: Sequence[ColumnReading], request: TableRequest) -> list[ColumnReading]:
    """Have the features that a task reads as texts be read as such."""
    found = list(columns)
    for place, size in enumerate(request.hashed):
        if size and found[place].kind is not ColumnKind.CATEGORY:
            raise not_supported(
                f'column "{found[place].name}" of dataset "{request.dataset}" is no text, and the task reads'
                " it as one"
            )
        if size:
            found[place] = replace(found[place], kind=ColumnKind.TEXT)
    return found


_NUMBERS = (ColumnKind.NUMBER, ColumnKind.BOOLEAN)
_TARGETS = (*_NUMBERS, ColumnKind.CATEGORY)


def _with_elements(
    rows: Rows, query: RowQuery, column: ColumnReading, request: TableRequest, place: int
) -> ColumnReading:
    if column.kind is not ColumnKind.ARRAY:
        return column
    if not request.plain:
        # Under a budget the length is the task's: how long a row's array is, is nobody else's matter.
        declared = request.elements[place] if place < len(request.elements) else 0
        return replace(column, elements=declared)
    if request.admission.leaves_out and request.subject is not None:
        lengths = parse_copy(rows.copy_lengths(query, column.name, request.subject), 0, 2)[1]
        admitted = request.admission.admits(lengths[:, 1], request.key)
        longest = int(lengths[admitted, 0].max(initial=0))
    else:
        longest = rows.longest_array(query, column.name)
    return replace(column, elements=min(longest, MOST_NUMBERS))


def _private_vocabularies(
    rows: Rows, query: RowQuery, kinds: Sequence[ColumnReading], request: TableRequest
) -> dict[str, dict[int, str]]:
    """Under a budget the levels are the task's: which of them a row has is nobody else's matter."""
    of_roles: list[tuple[str, ...]] = [()] * len(request.roles)
    levels = [*(request.levels or [()] * len(request.features)), *of_roles, request.classes]
    pairs = zip(kinds, levels, strict=True)
    return {
        column.name: rows.hashes_of(known) for column, known in pairs if column.kind is ColumnKind.CATEGORY
    }


def number_levels(rows: RawRows, request: TableRequest) -> Reading:
    """Turn hashes into places among the levels that are known, and under a budget a target into classes, in
    the rows themselves."""
    values, columns, raw, start = rows.values, rows.columns, list[RawColumn](), 0
    for column in columns:
        known, bags = tuple[str, ...](), None
        if column.kind is ColumnKind.TEXT:
            bags = rows.texts[column.name].place(values[:, start])
        elif column.is_hashed:
            known = _place_levels(values[:, start], rows.vocabularies[column.name])
        raw.append(RawColumn(column.kind, column.width, known, bags))
        start += column.width
    labels = raw[-1].levels if columns[-1].is_hashed else None
    if request.classes:
        for block in slices(len(values)):
            values[block, -1] = number_classes(values[block, -1], request.classes, NEITHER, labels)
        labels = None
    complete = _without_incomplete(values, request)
    return Reading(complete, rows.codes, tuple(raw[: len(request.features)]), labels, rows.space)


def _without_incomplete(values: Matrix, request: TableRequest) -> Matrix:
    """Take the target from rows that lack a value in a column with a role: they are left out as those without
    a target are; each row by itself."""
    first = first_role(values, request)
    for block in slices(len(values) if request.roles else 0):
        rows = values[block]
        rows[np.any(~np.isfinite(rows[:, first:-1]), axis=1), -1] = np.nan
    return values


def first_role(values: Matrix, request: TableRequest) -> int:
    """Where the columns with roles begin: the target is the last, and they are before it."""
    return int(values.shape[1]) - 1 - len(request.roles)


def _place_levels(column: Vector, vocabulary: Mapping[int, str]) -> tuple[str, ...]:
    """Put places into a column of hashes' bits: see `RawColumn.levels`, which is returned."""
    known = {number: value for number, value in vocabulary.items() if _is_level(value)}
    levels = tuple(sorted(set(known.values()), key=str.encode))
    places = {value: place for place, value in enumerate(levels)}
    for block in slices(column.size):
        hashes, inverse = np.unique(column[block].copy().view(np.int64), return_inverse=True)
        numbers = [
            math.nan if number == NULL_HASH else float(places[known[number]]) if number in known else -1.0
            for number in hashes.tolist()
        ]
        column[block] = np.array(numbers)[inverse]
    return levels


def _is_level(value: str) -> bool:
    return len(value.encode()) <= MAX_LEVEL_BYTES and "\0" not in value


def parse_copy(
    copied: bytes | bytearray, columns: int, codes: int, hashed: Sequence[bool] = ()
) -> tuple[Matrix, Codes]:
    """Read binary COPY of fixed-width rows by stride: (rows, columns) float64 and (rows, codes) int64.

    hashed: which columns are integers, whose bits are kept.
    """
    blocks = list(parse_blocks([bytearray(copied)], columns, codes, hashed))
    return np.concatenate([one for one, _ in blocks]), np.concatenate([one for _, one in blocks])


def parse_blocks(
    chunks: Iterable[bytearray], columns: int, codes: int, hashed: Sequence[bool] = ()
) -> Iterator[tuple[Matrix, Codes]]:
    """Yield the rows of a binary COPY as its chunks come, cut anywhere: at least one block, as `parse_copy`;
    ValueError for what is none."""
    row = _row_type(columns, codes, hashed)
    rest, begun = bytearray(), False
    for chunk in chunks:
        rest += chunk
        if not begun:
            if len(rest) < len(_COPY_HEADER):
                continue
            if not rest.startswith(_COPY_HEADER):
                raise _not_fixed_width()
            del rest[: len(_COPY_HEADER)]
            begun = True
        # What may be the trailer stays.
        whole = max(0, len(rest) - len(_COPY_TRAILER)) // row.itemsize * row.itemsize
        if whole:
            yield _parse_rows(bytes(memoryview(rest)[:whole]), row, columns, codes)
            del rest[:whole]
    if not begun or rest != _COPY_TRAILER:
        raise _not_fixed_width()
    yield np.empty((0, columns)), np.empty((0, codes), dtype=np.int64)


def _not_fixed_width() -> ValueError:
    return ValueError("not a binary COPY of fixed-width rows")


def _row_type(columns: int, codes: int, hashed: Sequence[bool]) -> np.dtype[Any]:
    fields = columns + codes
    kinds = [">i8" if i >= columns or (hashed and hashed[i]) else ">f8" for i in range(fields)]
    return np.dtype(
        [("fields", ">i2")]
        + [part for i, kind in enumerate(kinds) for part in ((f"size{i}", ">i4"), (f"value{i}", kind))]
    )


def _parse_rows(body: bytes, row: np.dtype[Any], columns: int, codes: int) -> tuple[Matrix, Codes]:
    rows, fields = np.frombuffer(body, dtype=row), columns + codes
    if not (rows["fields"] == fields).all() or not all((rows[f"size{i}"] == 8).all() for i in range(fields)):
        raise _not_fixed_width()
    values, found = np.empty((len(rows), columns)), np.empty((len(rows), codes), dtype=np.int64)
    bits = values.view(np.int64)
    for i in range(columns):
        (bits if row[f"value{i}"].kind == "i" else values)[:, i] = rows[f"value{i}"]
    for i in range(codes):
        found[:, i] = rows[f"value{columns + i}"]
    return values, found
