"""The rows of a dataset as a table of numbers, read by binary COPY through the dataset's view.

What always holds: the table depends on the rows alone and not on the order in which the database gives them,
so that a node that starts again computes the same bits; which subjects are held out depends on a secret of
the node, so that a coordinator cannot choose them.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from heliosdb.algorithms.table import Codes, Table, held_out
from heliosdb.catalog.participant import RowQuery, column_types, copy_rows, is_number, type_name
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.task import Reading
from heliosdb.domain.vector import Matrix

_COPY_HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_TRAILER = struct.pack(">h", -1)


@dataclass(frozen=True, slots=True)
class TableRequest:
    """Everything that decides what a table holds; equal requests may share one table.

    run: its id in hexadecimal; a new run reads anew. held_out_key: secret, of the seed.
    """

    run: str
    dataset_id: int
    dataset: DatasetName
    features: tuple[str, ...]
    target: str
    validation_split: float
    subject: str | None
    min_rows: int
    held_out_key: bytes


def held_out_key(secret: bytes, seed: int) -> bytes:
    """The key of the choice of held-out subjects: the seed's, and unknown to whoever chose the seed."""
    return hmac.digest(secret, b"held-out\0" + struct.pack("<Q", seed), hashlib.sha256)


def choose_columns(reading: Reading) -> tuple[str, ...]:
    """The columns that a task reads: features, then the target."""
    return (*reading.features, reading.target)


def read_table(raw: psycopg.Connection[Any], request: TableRequest) -> Table:
    """Read a dataset; FederatedError NOT_SUPPORTED for what is no number, NODE_REFUSED below min_rows."""
    query = RowQuery(request.dataset, (*request.features, request.target), request.subject)
    types = column_types(raw, query)
    for column, type_oid in zip(query.columns, types, strict=True):
        if not is_number(type_oid):
            role = "the target" if column == request.target else "features"
            raise not_supported(
                f'column "{column}" of dataset "{request.dataset}" has type {type_name(raw, type_oid)}; '
                f"{role} must be numeric or boolean"
            )
    values, codes = parse_copy(
        b"".join(copy_rows(raw, query, types)), len(query.columns), request.subject is not None
    )
    table = make_table(values, codes, request)
    # The number of rows is not named: it would be a release.
    if table.rows < request.min_rows:
        raise FederatedError(
            ErrorCode.NODE_REFUSED,
            f'dataset "{request.dataset}" has fewer than min_rows = {request.min_rows} rows with a target',
        )
    return table


def parse_copy(copied: bytes, columns: int, with_subject: bool) -> tuple[Matrix, Codes | None]:
    """Read binary COPY of fixed-width rows by stride: (rows, columns) float64 and (rows,) int64 codes."""
    fields = columns + with_subject
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
    values = np.empty((len(rows), columns))
    for i in range(columns):
        values[:, i] = rows[f"value{i}"]
    return values, rows[f"value{columns}"].astype(np.int64) if with_subject else None


def _field(i: int, columns: int) -> str:
    return ">f8" if i < columns else ">i8"


def make_table(values: Matrix, codes: Codes | None, request: TableRequest) -> Table:
    """Order the rows by content, number the subjects, choose the held-out ones."""
    bits = values.view(np.int64)
    keys = [bits[:, i] for i in range(bits.shape[1])] + ([] if codes is None else [codes])
    order = np.lexsort(keys) if len(values) else np.empty(0, dtype=np.intp)
    values = np.ascontiguousarray(values[order])
    if codes is None:
        # Without a subject a row is one, known by what it holds: its number would change with other rows.
        row_keys = values.view(np.dtype((np.void, values.shape[1] * 8))).ravel()
        subjects: Codes = np.arange(len(values), dtype=np.int64)
        chosen = _held_out(row_keys, request)
    else:
        distinct, subjects = np.unique(codes[order], return_inverse=True)
        chosen = _held_out(distinct, request)[subjects]
    return Table.from_rows(values[:, :-1], values[:, -1], subjects, chosen)


def _held_out(keys: NDArray[Any], request: TableRequest) -> NDArray[np.bool_]:
    if request.validation_split == 0.0:
        return np.zeros(len(keys), dtype=np.bool_)
    return held_out([key.tobytes() for key in keys], request.validation_split, request.held_out_key)
