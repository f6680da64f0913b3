"""The rows that were read as a table: ordered, their subjects numbered, the held-out ones chosen.

What always holds: the table depends on the rows alone and not on the order in which the database gives them,
so that a node that starts again computes the same bits; which subjects are held out depends on a secret of
the node and on nothing that a task says but the fraction, so that a coordinator cannot choose them and
figures of different runs are about the same ones.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.parted import Parted
from heliosdb.algorithms.space import MEMORY, Space, gather, held, slices, take
from heliosdb.algorithms.table import (
    HELD_OUT_PURPOSE,
    Codes,
    Mask,
    RawColumn,
    Table,
    first_part,
    folds_of,
    keyed_hashes,
    starts_of_runs,
)
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.node.datasets import NEITHER, Reading, TableRequest, first_role
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
from heliosdb.node.dominance import Dominance
from heliosdb.scoring.words import Bags


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


def make_table(values: Matrix, codes: Codes, request: TableRequest, read: Reading | None = None) -> Table:
    """Order the rows by content, number the subjects, choose the held-out ones; without row sets' rules.

    read: how what was read stands in the values; None where each column is a number.
    """
    space = _space_of(read)
    return described(arrange(order_rows(values, codes, request, space), request, space).table, read)


def _space_of(read: Reading | None) -> Space:
    return MEMORY if read is None else read.space


def make_plain_table(
    values: Matrix,
    codes: Codes,
    request: TableRequest,
    earlier: Sequence[RowSet],
    read: Reading | None = None,
) -> tuple[Table, RowSet]:
    """The table for plain answers, and the row set that it is about; FederatedError where there may be
    none."""
    space = _space_of(read)
    return settle(arrange(order_rows(values, codes, request, space), request, space), request, earlier, read)


def settle(
    arranged: Arranged, request: TableRequest, earlier: Sequence[RowSet], read: Described | None
) -> tuple[Table, RowSet]:
    """Have the rules of plain answers decide which of the arranged rows the table has, as `make_plain_table`
    does."""
    table = arranged.table
    chosen, parts = _choose_rows(arranged, request, earlier)
    plain = replace(table, held_out=parts == HELD_OUT, others=table.others[:0]).where(parts != ABSENT)
    plain = _with_own_levels(described(plain, read))
    _check_columns(plain, request)
    return plain, chosen


def _choose_rows(
    arranged: Arranged, request: TableRequest, earlier: Sequence[RowSet]
) -> tuple[RowSet, NDArray[np.int8]]:
    """Return the row set that a plain answer is about, and which part of it each row of the table is."""
    rows, space = arranged.rows, arranged.table.space
    order = np.argsort(rows, kind="stable")
    ranked = take(rows, order, space)
    subjects = ranked if arranged.subjects is rows else take(arranged.subjects, order, space)
    own = RowSet(ranked, subjects, arranged.table.held_out[order])
    chosen = choose_row_set(own, earlier, request.min_rows, request.dataset, request.max_row_sets)
    parts = np.empty(rows.size, dtype=np.int8)
    parts[order] = chosen.part_of(own.rows)
    return chosen, parts


class Described(Protocol):
    """How the columns of what was read stand; see `Reading`."""

    @property
    def columns(self) -> tuple[RawColumn, ...]:
        """Of the features."""
        ...

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Of a target that is a category."""
        ...


def described(table: Table, read: Described | None) -> Table:
    """Say of a table how the dataset's columns stand in it."""
    if read is None:
        return table
    return replace(table, columns=read.columns, labels=read.labels)


def _check_columns(table: Table, request: TableRequest) -> None:
    """Of numbers; of categories and arrays the inputs are looked at that an encoding makes of them."""
    dominance = Dominance(table, request.max_dominance, request.dataset)
    check_cells(table, _numbers(table, request), request.dataset, request.min_cell)
    if table.labels is None:
        check_cells(table, [(request.target, table.target)], request.dataset, request.min_cell)
        dominance.demand(request.target, table.target)
    for name, values in _numbers(table, request):
        dominance.demand(name, values)
    check_role_cells(table, dict(request.roles), request.dataset, request.min_cell)
    for role, column in request.roles:
        if role != "event":
            dominance.demand(column, table.roles[role])


def _numbers(table: Table, request: TableRequest) -> Iterator[tuple[str, Vector]]:
    start = 0
    for name, column in zip(
        request.features, table.columns or (RawColumn(),) * len(request.features), strict=True
    ):
        if column.kind not in (ColumnKind.CATEGORY, ColumnKind.TEXT) and not column.kind.is_several:
            yield name, table.features[:, start]
        start += column.width


def _with_own_levels(table: Table) -> Table:
    """Number the levels that the table's own rows have, so that other rows of the dataset leave no trace."""
    features, columns, start = table.features, list(table.columns), 0
    for index, column in enumerate(columns):
        if column.kind is ColumnKind.CATEGORY:
            numbers = held(features[:, start], table.space)
            numbers = numbers.copy() if table.space.is_memory else numbers
            columns[index] = replace(column, levels=_renumber(numbers, column.levels))
            features = _with_column(features, start, numbers, table)
        elif column.bags is not None:
            numbers, bags = _own_texts(held(features[:, start], table.space), column.bags)
            columns[index] = replace(column, bags=bags)
            features = _with_column(features, start, numbers, table)
        start += column.width
    table = replace(table, features=features, columns=tuple(columns))
    if table.labels is None:
        return table
    target = table.target.copy()
    labels = _renumber(target, table.labels)
    return replace(table, target=target, labels=labels)


def _own_texts(column: Vector, bags: Bags) -> tuple[Vector, Bags]:
    """The same of texts, which are numbered in an order of their own."""
    there = ~np.isnan(column)
    used = np.zeros(bags.texts, dtype=np.bool_)
    used[column[there].astype(np.int64)] = True
    numbers, ranks = np.full(column.size, np.nan), np.cumsum(used) - 1.0
    numbers[there] = ranks[column[there].astype(np.int64)]
    return numbers, bags.of_texts(used)


def _with_column(features: Matrix, place: int, column: Vector, table: Table) -> Matrix:
    """Return features with other values in one column; those of the table stay as they are."""
    if isinstance(features, Parted):
        others: list[int | Vector] = list(range(features.shape[1]))
        others[place] = column[:, np.newaxis]
        return cast(Matrix, features.derive(others))
    made = features if features is not table.features else _copied(features, table.space)
    made[:, place] = column
    return made


def _copied(features: Matrix, space: Space) -> Matrix:
    made = space.empty(features.shape)
    for block in slices(len(features)):
        made[block] = features[block]
        space.rest(2 * features[block].nbytes)
    return made


def _renumber(column: Vector, levels: tuple[str, ...]) -> tuple[str, ...]:
    counts = np.zeros(len(levels) + 1, dtype=np.int64)
    for block in slices(column.size):
        own = column[block]
        counts += np.bincount(own[own >= 0].astype(np.int64), minlength=counts.size)
    renumbered = np.cumsum(counts > 0) - 1.0
    for block in slices(column.size):
        own = column[block]
        there = own >= 0
        own[there] = renumbered[own[there].astype(np.int64)]
    return tuple(level for level, count in zip(levels, counts.tolist(), strict=False) if count)


def content_hash(table: Table, key: bytes) -> bytes:
    """A keyed hash of a table's rows, the same however often the same rows are read; 32 bytes."""
    keyed = hashlib.blake2b(key=key, digest_size=32, person=b"run-rows")
    keyed.update(struct.pack("<QQ", *table.features.shape))
    described = any(column.levels or column.width > 1 or column.bags is not None for column in table.columns)
    if described or table.labels is not None:
        keyed.update(repr((table.columns, table.labels)).encode())
    rows, others = _renumbered(table)
    for array in (table.features, table.target, rows, table.held_out, others, *table.roles.values()):
        for block in slices(len(array)):
            rows_read = np.ascontiguousarray(array[block])
            keyed.update(rows_read.data)
            table.space.rest(rows_read.nbytes)
    return keyed.digest()


def _renumbered(table: Table) -> tuple[Codes, Codes]:
    """Number the subjects of a table's rows and of its others from 0 on: they are numbered among all rows
    that were read, of which a plain table may be a part."""
    subjects = table.subjects
    if not table.others.size and bool(np.all(subjects[1:] >= subjects[:-1])):
        return _numbers_of_runs(subjects, table.space), table.others
    both = np.concatenate([subjects, table.others])
    numbers = np.unique(both, return_inverse=True)[1].astype(np.int64)
    return numbers[: table.rows], numbers[table.rows :]


def _numbers_of_runs(ranked: Codes, space: Space) -> Codes:
    """Number the runs of equal ones from 0 on."""
    numbers: Codes = space.empty(ranked.size, np.int64)
    reached = 0
    for block in slices(ranked.size):
        before = max(0, block.start - 1)
        own = np.cumsum(np.diff(ranked[before : block.stop], prepend=ranked[before]) != 0)
        numbers[block] = reached + own[block.start - before :]
        reached = int(numbers[block.stop - 1])
        space.rest(2 * own.nbytes)
    return numbers


@dataclass(frozen=True, slots=True)
class Arranged:
    """A table of the rows with a target; for a plain answer also the keyed hashes of its rows and their
    subjects, else none."""

    table: Table
    rows: Hashes
    subjects: Hashes


@dataclass(frozen=True, slots=True)
class Subjects:
    """Whose rows are. numbers: of each row its subject's; others: of further rows; count: how many subjects
    are numbered. hashed: gives the keyed hash of each subject's name, for a purpose."""

    numbers: Codes
    others: Codes
    count: int
    hashed: Callable[[bytes], Hashes]


@dataclass(frozen=True, slots=True)
class Ordered:
    """The rows with a target in their order, before any is held out. own: of each row its subject's code, or
    where the dataset names none its own; codes: its own, if it is known. hashed: gives the keyed hash of each
    row's name, for a purpose."""

    features: Matrix
    target: Vector
    roles: dict[str, Vector]
    own: Codes
    codes: Codes
    subjects: Subjects
    hashed: Callable[[bytes], Hashes]


def order_rows(values: Matrix, codes: Codes, request: TableRequest, space: Space) -> Ordered:
    """Order the rows and number their subjects."""
    order, others = _usable(values, codes, request, space)
    own = take(codes[:, -1], order, space)
    # Under a budget the rows of subjects are known by nothing.
    known = own if codes.shape[1] == 1 else take(codes[:, 0], order, space)
    row_hashes = _row_hashes(known, request, space)
    # A row that is a subject is known by what names it, since its number would change with other rows.
    subjects = (
        rows_as_subjects(order.size, others.size, row_hashes, space)
        if request.subject is None
        else _named_subjects(own, codes[others, -1], request.key, space)
    )
    # Arrays of their own: what is kept of them is what they take.
    features = take(values[:, : first_role(values, request)], order, space)
    target, roles = take(values[:, -1], order, space), _roles(values, order, request, space)
    return Ordered(features, target, roles, own, known, subjects, row_hashes)


def arrange(rows: Ordered, request: TableRequest, space: Space) -> Arranged:
    """Choose the held-out subjects."""
    subjects, count = rows.subjects, rows.target.size
    if request.validation_split or request.fold is not None:
        places = subjects.hashed(HELD_OUT_PURPOSE)
        chosen = choose_held_out(places, request)
        if request.subject is not None:
            places, chosen = take(places, subjects.numbers, space), chosen[subjects.numbers]
    else:
        chosen, places = np.zeros(count, dtype=np.bool_), np.empty(0, dtype=np.uint64)
    table = Table(
        rows.features,
        rows.target,
        subjects.numbers,
        chosen,
        subjects.others,
        roles=rows.roles,
        space=space,
    )
    if not request.plain:
        none = np.empty(0, dtype=np.uint64)
        return Arranged(table, none, none)
    table = replace(table, places=places, codes=rows.own if request.subject is not None else table.codes)
    named = rows.hashed(ROW_SET_PURPOSE)
    if request.subject is None:
        return Arranged(table, named, named)
    return Arranged(table, named, take(subjects.hashed(ROW_SET_PURPOSE), subjects.numbers, space))


def _usable(values: Matrix, codes: Codes, request: TableRequest, space: Space) -> tuple[Codes, Codes]:
    """Say where the rows with a target are, in their order, and those whose target is none of its classes."""
    bits = values.view(np.int64)
    keys = [bits[:, i] for i in range(bits.shape[1])] + [codes[:, i] for i in range(codes.shape[1])]
    order = _order(keys)
    there = np.empty(order.size, dtype=np.bool_)
    neither = np.zeros(order.size, dtype=np.bool_)
    for block in slices(order.size):
        target = gather(values[:, -1], order[block], space)
        there[block] = np.isfinite(target)
        # What is read as it is has no classes, so that none of its rows is of neither.
        if request.classes:
            neither[block] = target == NEITHER
    return order if bool(there.all()) else order[there], order[neither]


def _roles(values: Matrix, order: Codes, request: TableRequest, space: Space) -> dict[str, Vector]:
    first = first_role(values, request)
    return {
        role: take(values[:, first + place], order, space) for place, (role, _) in enumerate(request.roles)
    }


def _row_hashes(known: Codes, request: TableRequest, space: Space) -> Callable[[bytes], Hashes]:
    """What gives the keyed hash of each row's name: its code and its number among the rows of the same code,
    so that equal rows differ."""

    def hashed(purpose: bytes) -> Hashes:
        # Where rows are subjects they are ordered by this code.
        numbers = numbers_of_equal(known, ranked=request.subject is None)
        return hash_names([known, numbers], request.key, purpose, space)

    return hashed


def rows_as_subjects(rows: int, others: int, hashed: Callable[[bytes], Hashes], space: Space) -> Subjects:
    """Number rows that are subjects of their own; others: how many further ones there are."""
    numbers: Codes = space.empty(rows, np.int64)
    for block in slices(rows):
        numbers[block] = np.arange(block.start, block.stop)
        space.rest(numbers[block].nbytes)
    return Subjects(numbers, np.arange(rows, rows + others, dtype=np.int64), rows, hashed)


def _named_subjects(own: Codes, others: Codes, key: bytes, space: Space) -> Subjects:
    """Number subjects in the order of their codes; own: the code of each row, rising."""
    if others.size:
        distinct, numbers = np.unique(np.concatenate([own, others]), return_inverse=True)
        numbers = numbers.astype(np.int64)
    else:
        distinct, numbers = own[starts_of_runs(own)], _numbers_of_runs(own, space)

    def hashed(purpose: bytes) -> Hashes:
        return hash_names([distinct], key, purpose, MEMORY)

    return Subjects(numbers[: own.size], numbers[own.size :], distinct.size, hashed)


def hash_names(columns: Sequence[Codes], key: bytes, purpose: bytes, space: Space) -> Hashes:
    """The keyed hash of each name: the bytes of one number of each column; (n,)."""
    hashes: Hashes = space.empty(columns[0].size, np.uint64)
    for block in slices(hashes.size):
        named = np.stack([column[block] for column in columns], axis=1)
        hashes[block] = keyed_hashes(_names(named), key, purpose)
        space.rest(2 * named.nbytes)
    return hashes


_SORTED_AT_ONCE = 1 << 20


def _order(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.intp]:
    """What np.lexsort returns, which is slow and takes more memory: the last key is all that tells where none
    of its values is there twice; of the rows that share one, as many whole groups are sorted as make a block.
    """
    last = np.ascontiguousarray(keys[-1])
    order = np.argsort(last)
    ranked = last[order]
    del last
    start = 0
    while start < order.size:
        stop = min(start + _SORTED_AT_ONCE, order.size)
        stop = int(np.searchsorted(ranked, ranked[stop - 1], side="right"))
        group = ranked[start:stop]
        if bool((group[1:] == group[:-1]).any()):
            rows = np.sort(order[start:stop])
            order[start:stop] = rows[np.lexsort([key[rows] for key in keys])]
        start = stop
    return order


def numbers_of_equal(codes: Codes, *, ranked: bool) -> Codes:
    """Number each row among the rows of the same code, from 0 on. ranked: whether equal ones are adjacent."""
    order = None if ranked else np.argsort(codes, kind="stable")
    sorted_codes = codes if order is None else codes[order]
    starts = starts_of_runs(sorted_codes)
    if starts.size == codes.size:
        return np.zeros(codes.size, dtype=np.int64)
    numbers = np.arange(codes.size) - np.repeat(starts, np.diff(starts, append=codes.size))
    if order is None:
        return numbers
    found = np.empty_like(numbers)
    found[order] = numbers
    return found


def _names(codes: NDArray[np.int64]) -> list[bytes]:
    """The bytes of each row of codes; (n,) or (n, several)."""
    width = codes.itemsize * math.prod(codes.shape[1:])
    names: list[bytes] = np.ascontiguousarray(codes).view(f"V{width}").ravel().tolist()
    return names
