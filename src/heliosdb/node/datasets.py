"""The rows of a dataset as a table of numbers, read by binary COPY through the dataset's view.

What always holds: the table depends on the rows alone and not on the order in which the database gives them,
so that a node that starts again computes the same bits; which subjects are held out depends on a secret of
the node and on nothing that a task says but the fraction, so that a coordinator cannot choose them and
figures of different runs are about the same ones.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from heliosdb.algorithms.table import Codes, Table, held_out
from heliosdb.catalog.dataset_rows import (
    RowQuery,
    as_read,
    column_types,
    copy_rows,
    is_number,
    type_name,
)
from heliosdb.domain.classes import show_number
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.node.disclosure import Hashes, RowSet, check_cells, check_role_cells, choose_row_set

_COPY_HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_TRAILER = struct.pack(">h", -1)
_OTHER = 2.0
"""Stands for a target that is neither of its two classes in a plain table, whose rows are chosen first."""

NEITHER = math.inf
"""Stands for it under a budget: no row of a table has it."""


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Everything that decides what a table holds; equal requests may share one table.

    run: its id in hexadecimal; a new run reads anew. classes: the two numbers of a target that is
    to be 0 and 1; () where it is read as it is. roles: (role, column) of further columns.
    base_tables: what the rows come from. known_by: the columns by which a row is known. key: secret; of the
    choice of held-out subjects, of the names in row sets and of the order of training. plain: for answers
    without noise, under the rules of `disclosure`; min_rows and max_parameter_share are theirs.
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
    classes: tuple[float, ...] = ()
    roles: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read as numbers: features, roles and, last, the target."""
        return (*self.features, *(column for _, column in self.roles), self.target)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """Of what codes are read: rows where something is to be known by them, then subjects."""
        rows = (self.known_by,) if self.plain or self.subject is None else ()
        return rows if self.subject is None else (*rows, (self.subject,))


def table_key(secret: bytes) -> bytes:
    """The key of held-out choices and row sets, unknown to whoever asks: of the node's secret."""
    return hmac.digest(secret, b"held-out", hashlib.sha256)


def read_rows(raw: psycopg.Connection[Any], request: TableRequest) -> tuple[Matrix, Codes]:
    """Read a dataset's numbers, (rows, columns), and codes, (rows, names); NOT_SUPPORTED for what is no
    number."""
    query = RowQuery(request.dataset, request.columns, request.names)
    types = column_types(raw, query)
    for column, type_oid in zip(query.columns, types, strict=True):
        if not is_number(type_oid):
            role = "features" if column in request.features else "the target and further columns"
            raise not_supported(
                f'column "{column}" of dataset "{request.dataset}" has type {type_name(raw, type_oid)}; '
                f"{role} must be numeric or boolean"
            )
    values, codes = parse_copy(b"".join(copy_rows(raw, query, types)), len(query.columns), len(query.names))
    if request.classes:
        values[:, -1] = number_classes(values[:, -1], as_read(request.classes, types[-1]), request)
    return _without_incomplete(values, request), codes


def _without_incomplete(values: Matrix, request: TableRequest) -> Matrix:
    """Take the target from rows that lack a value in a column with a role: they are left out as those without
    a target are; each row by itself."""
    first = len(request.features)
    lacking = ~np.isfinite(values[:, first:-1]).all(axis=1)
    values[lacking, -1] = np.nan
    return values


def number_classes(target: Vector, classes: Sequence[float], request: TableRequest) -> Vector:
    """Turn a target into 0 for its first class, 1 for its second, `NEITHER` for another number and NaN for
    none; each row by itself.

    For a plain answer a value that is neither becomes `_OTHER`: see `_check_classes`.
    """
    otherwise = np.where(np.isfinite(target), _OTHER if request.plain else NEITHER, np.nan)
    numbered: Vector = np.where(target == classes[0], 0.0, np.where(target == classes[1], 1.0, otherwise))
    return numbered


def _check_classes(target: Vector, request: TableRequest) -> None:
    """FederatedError INVALID_VALUE, telling no value, where a plain answer would leave rows of another class
    out.

    Only of rows that an answer may be about: that it is raised tells of a single one.
    """
    if request.classes and bool((target == _OTHER).any()):
        expected = " or ".join(map(show_number, request.classes))
        raise invalid_value(
            f'the target "{request.target}" of dataset "{request.dataset}" must be {expected} in every row;'
            " the model's option target_classes names the two values that it holds",
            hint="Rows of further classes are left out by the dataset's WHERE.",
        )


def parse_copy(copied: bytes, columns: int, codes: int) -> tuple[Matrix, Codes]:
    """Read binary COPY of fixed-width rows by stride: (rows, columns) float64 and (rows, codes) int64."""
    fields = columns + codes
    row = np.dtype(
        [("fields", ">i2")]
        + [part for i in range(fields) for part in ((f"size{i}", ">i4"), (f"value{i}", _field(i, columns)))]
    )
    body = memoryview(copied)[len(_COPY_HEADER) : len(copied) - len(_COPY_TRAILER)]
    framed = copied.startswith(_COPY_HEADER) and copied.endswith(_COPY_TRAILER)
    if not framed or len(body) % row.itemsize:
        raise ValueError("not a binary COPY of fixed-width rows")
    rows = np.frombuffer(body, dtype=row)
    if not (rows["fields"] == fields).all() or not all((rows[f"size{i}"] == 8).all() for i in range(fields)):
        raise ValueError("not a binary COPY of fixed-width rows")
    values, found = np.empty((len(rows), columns)), np.empty((len(rows), codes), dtype=np.int64)
    for i in range(columns):
        values[:, i] = rows[f"value{i}"]
    for i in range(codes):
        found[:, i] = rows[f"value{columns + i}"]
    return values, found


def _field(i: int, columns: int) -> str:
    return ">f8" if i < columns else ">i8"


def make_table(values: Matrix, codes: Codes, request: TableRequest) -> Table:
    """Order the rows by content, number the subjects, choose the held-out ones; without row sets' rules."""
    return _arrange(values, codes, request)[0]


def make_plain_table(
    values: Matrix, codes: Codes, request: TableRequest, earlier: Sequence[RowSet]
) -> tuple[Table, RowSet]:
    """The table for plain answers, and the row set that it is about; FederatedError where there may be
    none."""
    table, rows, subjects = _arrange(values, codes, request)
    own = RowSet.of(rows, subjects, table.held_out)
    chosen = choose_row_set(own, earlier, request.min_rows, request.dataset)
    place = np.searchsorted(chosen.rows, rows)
    place[place == chosen.rows.size] = 0
    kept = chosen.rows[place] == rows
    held = chosen.held_out[place[kept]]
    roles = {role: column[kept] for role, column in table.roles.items()}
    plain = Table(table.features[kept], table.target[kept], table.subjects[kept], held, roles=roles)
    check_cells(plain, request.features, request.dataset)
    check_role_cells(plain, dict(request.roles), request.dataset)
    _check_classes(plain.target, request)
    return plain, chosen


def content_hash(table: Table, key: bytes) -> bytes:
    """A keyed hash of a table's rows, the same however often the same rows are read; 32 bytes."""
    # Subjects are numbered among all rows that were read, of which a plain table may be a part.
    both = np.concatenate([table.subjects, table.others])
    subjects = np.unique(both, return_inverse=True)[1].astype(np.int64)
    keyed = hashlib.blake2b(key=key, digest_size=32, person=b"run-rows")
    keyed.update(struct.pack("<QQ", *table.features.shape))
    rows, others = subjects[: table.rows], subjects[table.rows :]
    for array in (table.features, table.target, rows, table.held_out, others, *table.roles.values()):
        keyed.update(np.ascontiguousarray(array).data)
    return keyed.digest()


def _arrange(values: Matrix, codes: Codes, request: TableRequest) -> tuple[Table, Hashes, Hashes]:
    """The table of the rows with a target, and the keyed hashes of its rows (none unless plain) and
    subjects."""
    bits = values.view(np.int64)
    keys = [bits[:, i] for i in range(bits.shape[1])] + [codes[:, i] for i in range(codes.shape[1])]
    order = np.lexsort(keys) if len(values) else np.empty(0, dtype=np.intp)
    target = values[order, -1]
    # What is read as it is has no classes, so that none of its rows is of neither.
    others = order[target == NEITHER] if request.classes else order[:0]
    order = order[np.isfinite(target)]
    of_others = codes[others, -1]
    values, codes = np.ascontiguousarray(values[order]), codes[order]
    row_names = _numbered(codes[:, 0]) if request.plain or request.subject is None else None
    if request.subject is None:
        # A row is a subject: known by what names it, since its number would change with other rows.
        assert row_names is not None
        names, numbers = row_names, np.arange(len(values) + of_others.size, dtype=np.int64)
    else:
        both = np.concatenate([codes[:, -1], of_others])
        distinct, numbers = np.unique(both, return_inverse=True)
        names = [code.tobytes() for code in distinct]
    subjects, others = np.split(numbers.astype(np.int64), [len(values)])
    chosen = held_out(names, request.validation_split, request.key)[subjects]
    first = len(request.features)
    table = Table.from_rows(values[:, :first], values[:, -1], subjects, chosen, others)
    own = {role: values[:, first + place] for place, (role, _) in enumerate(request.roles)}
    table = replace(table, roles=own) if own else table
    if not request.plain:
        return table, np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64)
    assert row_names is not None
    rows = _hashes(row_names, request.key)
    return table, rows, rows if request.subject is None else _hashes(names, request.key)[subjects]


def _numbered(codes: NDArray[np.int64]) -> list[bytes]:
    """Name each row by its code and its number among the rows of the same code, so that equal rows differ."""
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    starts = np.concatenate(([True], ranked[1:] != ranked[:-1])) if codes.size else np.empty(0, np.bool_)
    first = np.flatnonzero(starts)
    numbers = np.arange(codes.size) - np.repeat(first, np.diff(np.append(first, codes.size)))
    named = np.empty((codes.size, 2), dtype=np.int64)
    named[order, 0], named[order, 1] = ranked, numbers
    return [name.tobytes() for name in named]


def _hashes(names: Sequence[bytes], key: bytes) -> Hashes:
    """A keyed 64-bit hash (BLAKE2b) of each name."""
    keyed = hashlib.blake2b(key=key, digest_size=8, person=b"row-set")

    def digest(name: bytes) -> int:
        one = keyed.copy()
        one.update(name)
        return int.from_bytes(one.digest(), "big")

    return np.fromiter(map(digest, names), dtype=np.uint64, count=len(names))
