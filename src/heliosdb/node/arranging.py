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
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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
    first = first_role(values, request)
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
