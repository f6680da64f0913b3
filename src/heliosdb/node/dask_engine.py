"""Reads a dataset in parts, by data subject, with dask workers.

What always holds: all parts are read in one snapshot, which this process has exported and keeps open until
the last is there; a part that is lost later is never read by itself, for it would be of another moment. What
the rules of plain answers decide by is put together here from all parts, and is what one process has.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from heliosdb.algorithms.space import MEMORY, Space
from heliosdb.algorithms.table import HELD_OUT_PURPOSE, Hashes
from heliosdb.catalog.dataset_rows import ColumnReading, split_codes
from heliosdb.domain.errors import not_supported
from heliosdb.domain.vector import Matrix
from heliosdb.node import dask_parts
from heliosdb.node.allowance import Allowance
from heliosdb.node.arranging import (
    Arranged,
    Described,
    Ordered,
    Subjects,
    arrange,
    hash_names,
    numbers_of_equal,
    rows_as_subjects,
)
from heliosdb.node.dask_matrix import DaskMatrix, Part
from heliosdb.node.dask_parts import PartNames, Told
from heliosdb.node.dask_place import DaskPlace
from heliosdb.node.dask_workers import Held, Workers
from heliosdb.node.datasets import OpenReading, TableRequest, opened
from heliosdb.node.disclosure import ROW_SET_PURPOSE
from heliosdb.node.engine import OneProcess, query_of
from heliosdb.node.reader import Rows
from heliosdb.node.scratch import Scratch

log = logging.getLogger(__name__)

_NAMES_SHARE = 16
"""Names that take more than one part in so many of the memory go to scratch files."""


class DaskEngine:
    """An `Engine`. allowance: of the node's process when it began."""

    def __init__(self, place: DaskPlace, allowance: Allowance) -> None:
        self._place = place
        self._workers = Workers(place, allowance)

    def read(
        self, rows: Rows, reader: str, request: TableRequest, allowance: Allowance
    ) -> tuple[Arranged, Described]:
        """See `Engine`."""
        if any(request.shapes):
            raise not_supported(
                "images as bytea are not read by an engine's workers yet",
                hint="Take engine out of the node's settings, or let a view share arrays of numbers.",
            )
        if request.texts:
            # Which words count all rows decide, so they are read here.
            return OneProcess().read(rows, reader, request, allowance)
        places = self._workers.addresses()
        told = Told(self._place.reader or reader, request, allowance if self._workers.are_local else None)
        name = secrets.token_hex(8)
        with opened(rows, query_of(request), request) as reading:
            self._workers.tell(name, told)
            raws = self._read_parts(name, reading, len(places))
            vocabularies = reading.vocabularies(self._counts(raws, reading))
        self._workers.tell(name, replace(told, vocabularies=vocabularies))
        columns = list(reading.columns)
        ordered = [self._workers.submit(dask_parts.order_part, name, part, columns) for part in raws]
        features = [self._workers.submit(dask_parts.features_of, part) for part in ordered]
        named = [self._workers.submit(dask_parts.names_of, part) for part in ordered]
        names: list[PartNames] = self._workers.gather(named)
        self._workers.done(features)
        log.info("dataset %s was read in %d parts", request.dataset, len(names))
        return self._arrange(features, names, request, allowance), names[0]

    def close(self) -> None:
        """End workers of this machine; let go of a scheduler's."""
        self._workers.close()

    def _read_parts(self, name: str, reading: OpenReading, count: int) -> list[Held]:
        given = (name, reading.rows.export_snapshot(), reading.query, list(reading.columns))
        parts = [self._workers.submit(dask_parts.read_part, *given, within) for within in split_codes(count)]
        self._workers.done(parts)
        return parts

    def _counts(self, raws: Sequence[Held], reading: OpenReading) -> dict[str, Counter[int]] | None:
        """How many of the rows that count have each value; None where all of the dataset's count."""
        categories = [column.name for column in reading.columns if column.is_hashed]
        if not reading.request.admission.leaves_out or not reading.request.plain or not categories:
            return None
        columns: list[ColumnReading] = list(reading.columns)
        tasks = [self._workers.submit(dask_parts.count_part, part, columns) for part in raws]
        found: list[dict[str, Counter[int]]] = self._workers.gather(tasks)
        return {name: sum((one[name] for one in found), Counter()) for name in categories}

    def _arrange(
        self,
        features: Sequence[Held],
        names: Sequence[PartNames],
        request: TableRequest,
        allowance: Allowance,
    ) -> Arranged:
        space = _Elsewhere(_space_of(names, allowance))
        parts = [
            Part(held, one.target.size, one.in_memory) for held, one in zip(features, names, strict=True)
        ]
        width = sum(column.width for column in names[0].columns)
        matrix = DaskMatrix(self._workers, parts, width)
        rows = _joined(cast(Matrix, matrix), names, request, space)
        return arrange(rows, request, space)


class _Elsewhere:
    """A `Space` of rows of which a part lies with workers: what is made of them here belongs to another."""

    is_memory = False

    def __init__(self, here: Space) -> None:
        self._here = here

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """See `Space`."""
        return self._here.empty(shape, dtype)

    def rest(self, looked_at: int) -> None:
        """See `Space`."""
        self._here.rest(looked_at)


def _space_of(names: Sequence[PartNames], allowance: Allowance) -> Space:
    memory, scratch = allowance.memory_bytes, allowance.scratch
    # Of a row its target, subject, places and hashes.
    size = sum(6 * one.target.nbytes for one in names)
    return MEMORY if memory is None or scratch is None or size <= memory // _NAMES_SHARE else Scratch(scratch)


def _joined(features: Matrix, names: Sequence[PartNames], request: TableRequest, space: Space) -> Ordered:
    """Put parts together; they follow each other, and subjects are numbered over all of them."""
    starts = np.cumsum([0, *(one.subjects for one in names)]).tolist()
    rows = sum(one.target.size for one in names)
    named_rows = _concatenated([one.named_rows for one in names], space)
    if request.plain and request.subject is not None:
        _name_equal_rows(named_rows, names, request.key)
    by_subject = {
        HELD_OUT_PURPOSE: _concatenated([one.held_out for one in names], space),
        ROW_SET_PURPOSE: _concatenated([one.named for one in names], space),
    }
    if request.subject is None:
        rows_named = {**by_subject, ROW_SET_PURPOSE: named_rows}
        others = sum(one.others.size for one in names)
        subjects = rows_as_subjects(rows, others, rows_named.__getitem__, space)
    else:
        numbers = [one.numbers + start for one, start in zip(names, starts, strict=False)]
        rest = [one.others + start for one, start in zip(names, starts, strict=False)]
        subjects = Subjects(
            _concatenated(numbers, space), np.concatenate(rest), starts[-1], by_subject.__getitem__
        )
    own = _concatenated([one.own for one in names], space)
    return Ordered(
        features,
        _concatenated([one.target for one in names], space),
        {role: _concatenated([one.roles[role] for one in names], space) for role in names[0].roles},
        own,
        own,
        subjects,
        lambda purpose: named_rows,
    )


def _name_equal_rows(named: Hashes, names: Sequence[PartNames], key: bytes) -> None:
    """Name rows anew that are known by what rows of other parts are known by, too: of equal ones each is
    told by its number among all."""
    codes = np.concatenate([one.row_codes for one in names])
    numbers = numbers_of_equal(codes, ranked=False)
    differing = np.flatnonzero(numbers != np.concatenate([one.row_numbers for one in names]))
    if differing.size:
        pairs = [codes[differing], numbers[differing].astype(np.int64)]
        named[differing] = hash_names(pairs, key, ROW_SET_PURPOSE, MEMORY)


def _concatenated(arrays: Sequence[NDArray[Any]], space: Space) -> NDArray[Any]:
    made = space.empty(sum(one.size for one in arrays), arrays[0].dtype)
    start = 0
    for one in arrays:
        made[start : start + one.size] = one
        start += one.size
        space.rest(2 * one.nbytes)
    return made
