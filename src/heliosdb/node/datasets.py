"""The rows of a dataset as numbers, read by binary COPY through the dataset's view.

What always holds: what is read is of rows that the answer may be about, as if there were no others; under a
budget a row is read by itself. `arranging` makes a table of them.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

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
from heliosdb.node.copied_rows import decode_images, fields_of, parse_blocks, parse_copy
from heliosdb.node.read_texts import KnownTexts
from heliosdb.node.reader import Rows
from heliosdb.node.scratch import RowSpool, spool_of
from heliosdb.scoring.images import load_libraries
from heliosdb.scoring.words import LONGEST
from heliosdb.transport.limits import MAX_INPUTS, MAX_LEVEL_BYTES

NEITHER = math.inf
"""Stands under a budget for a target that is none of its classes: no row of a table has it."""

MOST_FIELDS = 1_600
"""Of a row: a query has no more columns. An array is two, its length and its elements."""

MOST_NUMBERS = MAX_INPUTS + MOST_FIELDS
"""Of a row: as many inputs as a task may have, and what is beside them."""


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Everything that decides what a table holds; equal requests may share one table.

    run: its id in hexadecimal; a new run reads anew. classes: the labels of a target that is read as their
    indices, under a budget; () where it is read as it is. levels: of each feature, where there is a budget
    and it is a category; elements: where it is an array or an image. shapes: of each feature, where one is an
    image: (channels, height, width), () of all else. hashed: of each feature into how many numbers its text
    is hashed, 0 where it is read otherwise. named: categories of which every value is known by its text,
    under a budget; without one all are. roles: (role, column) of further columns. base_tables: what the
    rows come from. known_by: the columns by which a row is known. key: secret; of the choice of held-out
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
    shapes: tuple[tuple[int, ...], ...] = ()
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
        images = sum(math.prod(shape) for shape in self.shapes if shape)
        return len(self.columns) + len(self.names) + (sum(self.elements) or images)

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
        _check_width(columns, query, request)
        yield OpenReading(rows, query, request, columns, known)


def _check_width(columns: Sequence[ColumnReading], query: RowQuery, request: TableRequest) -> None:
    numbers, fields = sum(column.width for column in columns), len(fields_of(columns))
    for count, most, what in (
        (numbers, MOST_NUMBERS, "numbers"),
        (fields, MOST_FIELDS, "columns of a query"),
    ):
        if count + len(query.names) > most:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f'the features of dataset "{request.dataset}" are {count} {what} a row, more than {most}',
                hint="Leave arrays out, or share a part of them.",
            )


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
    names = len(query.names)
    with closing(rows.copy_rows(query, columns, within)) as copied:
        blocks = parse_blocks(decode_images(copied, columns, names), fields_of(columns), names)
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
    if column.kind is ColumnKind.IMAGE:
        return _with_shape(query, column, request, place)
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


def _with_shape(query: RowQuery, column: ColumnReading, request: TableRequest, place: int) -> ColumnReading:
    shape = request.shapes[place] if place < len(request.shapes) else ()
    if not shape:
        raise not_supported(
            f'column "{column.name}" of dataset "{query.dataset}" has type bytea; the task says of no image',
            hint="Images are for a cnn, whose input_shape says how large they are.",
        )
    # Before a row is read: whether one can be decoded is no matter of rows.
    load_libraries()
    return replace(column, elements=math.prod(shape), shape=shape)


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
