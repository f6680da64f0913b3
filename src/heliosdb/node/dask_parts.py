"""What a dask worker does for a node: it holds a part of a dataset's rows and computes on them.

What always holds: a worker reads rows as the node itself does, as the reader's role through the dataset's
view, in the snapshot that the node has exported; what names a row, and how the database is reached, is told
beside the task graph and never in it. An error that leaves here is the product's own: it quotes no row.
"""

from __future__ import annotations

import functools
import os
import platform
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ParamSpec, TypeVar

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from heliosdb.algorithms.parted import Rows
from heliosdb.algorithms.space import MEMORY, Space, keep
from heliosdb.algorithms.table import HELD_OUT_PURPOSE, Codes, Hashes, Mask, RawColumn, Table
from heliosdb.catalog.dataset_rows import CodeRange, ColumnReading, RowQuery
from heliosdb.catalog.failures import is_connection_lost
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.node.allowance import Allowance, Holder, check_one_block, held_memory
from heliosdb.node.arranging import Ordered, numbers_of_equal, order_rows
from heliosdb.node.database import unreadable
from heliosdb.node.datasets import (
    RawRows,
    TableRequest,
    Vocabularies,
    copy_admitted,
    count_values,
    number_levels,
)
from heliosdb.node.disclosure import ROW_SET_PURPOSE
from heliosdb.node.engine import spool_of
from heliosdb.node.reader import DirectRows, connect_reader
from heliosdb.node.scratch import RowSpool, ScratchFullError

P = ParamSpec("P")
T = TypeVar("T")

_MOST_TOLD = 8


class PartFailedError(Exception):
    """What went wrong with a part, in a form that travels.

    args: the kind (`lost`, `memory`, `scratch` or an `ErrorCode`'s name), then message, detail and hint.
    """


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker knows of a reading. reader: conninfo. allowance: what it may take; None: as it likes."""

    reader: str = field(repr=False)
    request: TableRequest = field(repr=False)
    allowance: Allowance | None = None
    vocabularies: Vocabularies = field(default_factory=dict, repr=False)


_told = OrderedDict[str, Told]()
_holders: list[Holder] = []


def tell(name: str, told: Told, cores: Sequence[int] = ()) -> None:
    """Hear of a reading, and be held to its allowance. cores: on which this worker runs; (): on any."""
    _told[name] = told
    while len(_told) > _MOST_TOLD:
        _told.popitem(last=False)
    if told.allowance is not None:
        if not _holders:
            _holders.append(Holder(cores or None))
        _holders[0].hold(told.allowance)


def describe() -> dict[str, str]:
    """Say on what the last bits of a sum depend here."""
    return {
        "heliosdb": version("heliosdb-federated-learning"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", ""),
        "machine": platform.machine(),
    }


def _guarded(task: Callable[P, T]) -> Callable[P, T]:
    """Have a task fail with `PartFailedError` alone."""

    @functools.wraps(task)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            # Warnings would be printed; the node's own process prints none.
            with np.errstate(all="ignore"):
                return task(*args, **kwargs)
        except PartFailedError:
            raise
        except ScratchFullError as error:
            raise PartFailedError("scratch", error.message, None, error.hint) from None
        except FederatedError as error:
            raise PartFailedError(error.code.name, error.message, error.detail, error.hint) from None
        except MemoryError:
            raise PartFailedError("memory", "a worker's memory does not suffice", None, None) from None
        except Exception as error:  # noqa: BLE001 -- told by its place alone: its text may quote a row
            raise PartFailedError(ErrorCode.INTERNAL.name, "internal error", place_of(error), None) from None

    return run


@dataclass(slots=True)
class Resident:
    """Arrays that stay with a worker; where they have to travel they do as arrays in memory."""

    arrays: tuple[NDArray[Any], ...]
    space: Space

    def __sizeof__(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return Resident, (tuple(map(np.array, self.arrays)), MEMORY)

    @property
    def features(self) -> Matrix:
        """Of a part that was read."""
        return self.arrays[0]


@_guarded
def read_part(
    name: str, snapshot: str, query: RowQuery, columns: Sequence[ColumnReading], within: CodeRange
) -> Resident:
    """Read the rows whose subjects' codes lie in a range, in a snapshot that another session has exported."""
    told = _known(name)
    spool = _spool(told)
    if told.allowance is not None:
        check_one_block(told.request, told.allowance, held_memory())
    try:
        with connect_reader(told.reader) as raw, raw.transaction():
            raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            _take_snapshot(raw, snapshot)
            return Resident(
                copy_admitted(DirectRows(raw), query, columns, told.request, spool=spool, within=within),
                spool.space,
            )
    except psycopg.Error as error:
        raise unreadable(error, told.request.dataset) from None


def _take_snapshot(raw: psycopg.Connection[Any], snapshot: str) -> None:
    try:
        raw.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
    except psycopg.Error as error:
        if is_connection_lost(error):
            raise
        # Its transaction is over: a worker that was lost has left its part to be read once more.
        raise PartFailedError("lost", "the snapshot is gone", None, None) from None


def _known(name: str) -> Told:
    try:
        return _told[name]
    except KeyError:
        raise PartFailedError("lost", "the worker is a new one", None, None) from None


def _spool(told: Told) -> RowSpool:
    return RowSpool(None, None) if told.allowance is None else spool_of(told.allowance, told.request)


@_guarded
def count_part(raw: Resident, columns: Sequence[ColumnReading]) -> dict[str, Counter[int]]:
    """Count the rows of each value of each category."""
    return count_values(raw.arrays[0], columns)


@dataclass(slots=True)
class PartNames:
    """All of a part but its features: what the node decides by.

    As `Ordered` has them: target, roles, own, numbers and others, of `subjects` subjects. held_out, named:
    the keyed hashes for choosing held-out subjects and for row sets, of subjects; named_rows: for row sets,
    of rows; each () where it is not asked for. row_codes, row_numbers: what rows are known by where they are
    not the subjects.
    """

    target: Vector
    roles: dict[str, Vector]
    own: Codes
    numbers: Codes
    others: Codes
    subjects: int
    held_out: Hashes
    named: Hashes
    named_rows: Hashes
    row_codes: Codes
    row_numbers: Codes
    columns: tuple[RawColumn, ...]
    labels: tuple[str, ...] | None
    in_memory: bool = True


@_guarded
def order_part(name: str, raw: Resident, columns: Sequence[ColumnReading]) -> tuple[Resident, PartNames]:
    """Order a part's rows, and name them."""
    told, space = _known(name), raw.space
    rows = RawRows(raw.arrays[0], raw.arrays[1], columns, told.vocabularies, space)
    read = number_levels(rows, told.request)
    ordered = order_rows(read.values, read.codes, told.request, space)
    names = _names_of(ordered, told.request)
    names.columns, names.labels, names.in_memory = read.columns, read.labels, space.is_memory
    return Resident((ordered.features,), space), names


def _names_of(ordered: Ordered, request: TableRequest) -> PartNames:
    subjects, none = ordered.subjects, np.empty(0, dtype=np.uint64)
    holds_out = bool(request.validation_split) or request.fold is not None
    by_subject = request.subject is not None
    row_codes = row_numbers = np.empty(0, dtype=np.int64)
    if request.plain and by_subject:
        row_codes = ordered.codes
        row_numbers = numbers_of_equal(row_codes, ranked=False)
    return PartNames(
        ordered.target,
        ordered.roles,
        ordered.own if request.plain and by_subject else ordered.own[:0],
        subjects.numbers,
        subjects.others,
        subjects.count,
        subjects.hashed(HELD_OUT_PURPOSE) if holds_out else none,
        subjects.hashed(ROW_SET_PURPOSE) if request.plain and by_subject else none,
        ordered.hashed(ROW_SET_PURPOSE) if request.plain else none,
        row_codes,
        row_numbers,
        (),
        None,
    )


def names_of(part: tuple[Resident, PartNames]) -> PartNames:
    """What goes to the node."""
    return part[1]


def features_of(part: tuple[Resident, PartNames]) -> Resident:
    """What stays."""
    return part[0]


# What is done with a part once it is read.


@_guarded
def column_of(part: Resident, place: int) -> Vector:
    """Return a column."""
    return np.array(part.features[:, place])


@_guarded
def rows_of(part: Resident, some: slice) -> Matrix:
    """Return rows that follow each other."""
    return np.array(part.features[some])


@_guarded
def places_of(part: Resident, places: Codes) -> Matrix:
    """Return rows at some places."""
    return np.array(part.features[places])


@_guarded
def keep_of(part: Resident, packed: bytes, rows: int) -> Resident:
    """Return the part with the rows of a mask. packed: its bits."""
    mask: Mask = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=rows).astype(np.bool_)
    return Resident((keep(part.features, mask, part.space),), part.space)


@_guarded
def derive_of(part: Resident, columns: Sequence[int | None], given: Sequence[NDArray[Any]]) -> Resident:
    """Return the part with these columns: own ones by place, where there is None the next that are given."""
    rest = iter(given)
    chosen = [part.features[:, [place]] if place is not None else next(rest) for place in columns]
    made = part.space.empty((len(part.features), sum(one.shape[1] for one in chosen)))
    start = 0
    for one in chosen:
        made[:, start : start + one.shape[1]] = one
        start += one.shape[1]
    return Resident((made,), part.space)


@_guarded
def map_rows(of: Callable[[Matrix, Space], Matrix], part: Resident) -> Resident:
    """Return the part with what is made of its rows."""
    return Resident((of(part.features, part.space),), part.space)


@dataclass(frozen=True, slots=True)
class Beside:
    """What a part of a table has beside its features, and what all its parts have. least: min_rows, min_cell
    and min_category."""

    target: Vector
    subjects: Codes
    held_out: Mask
    roles: dict[str, Vector]
    least: tuple[int, int, int]
    columns: tuple[RawColumn, ...]
    labels: tuple[str, ...] | None

    @classmethod
    def of(cls, table: Table) -> Beside:
        """Take it from a table."""
        return cls(
            table.target,
            table.subjects,
            table.held_out,
            dict(table.roles),
            (table.min_rows, table.min_cell, table.min_category),
            table.columns,
            table.labels,
        )

    def at(self, some: slice) -> Beside:
        """Return that of some rows."""
        roles = {role: column[some] for role, column in self.roles.items()}
        arrays = (self.target[some], self.subjects[some], self.held_out[some], roles)
        return Beside(*arrays, self.least, self.columns, self.labels)

    def table(self, part: Resident) -> Table:
        """Put the two together."""
        min_rows, min_cell, min_category = self.least
        return Table(
            part.features,
            self.target,
            self.subjects,
            self.held_out,
            roles=self.roles,
            min_rows=min_rows,
            min_cell=min_cell,
            min_category=min_category,
            columns=self.columns,
            labels=self.labels,
            space=part.space,
        )


Piece = tuple[Matrix, Beside]
"""Rows of a block that lies in several parts."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Of some rows of a part, in their order, those from `start` on, before `stop`."""

    rows: Rows
    start: int
    stop: int

    def of(self, table: Table) -> Table:
        """Return these rows, in memory."""
        places = table.where_are(self.rows)
        ranks = slice(self.start, self.stop)
        return table.at(ranks if places is None else places[ranks])


@_guarded
def map_blocks(of: Callable[[Table], T], part: Resident, beside: Beside, blocks: Ranks, size: int) -> list[T]:
    """Return what each block of so many rows gives, of blocks that lie in this part whole."""
    table, found = beside.table(part), []
    places = table.where_are(blocks.rows)
    # Of no rows there is one block.
    for start in range(blocks.start, max(blocks.stop, blocks.start + 1), size):
        ranks = slice(start, min(start + size, blocks.stop))
        block = table.at(ranks if places is None else places[ranks])
        found.append(of(block))
        part.space.rest(block.features.nbytes + 3 * block.target.nbytes)
    return found


@_guarded
def piece_of(part: Resident, beside: Beside, ranks: Ranks) -> Piece:
    """Return a part's rows of a block that lies in several."""
    rows = ranks.of(beside.table(part))
    return np.array(rows.features), Beside.of(rows)


@_guarded
def map_joined(of: Callable[[Table], T], pieces: Sequence[Piece]) -> list[T]:
    """Return what one block gives that lies in several parts."""
    features = np.concatenate([one for one, _ in pieces])
    besides = [beside for _, beside in pieces]
    first = besides[0]
    joined = Beside(
        np.concatenate([one.target for one in besides]),
        np.concatenate([one.subjects for one in besides]),
        np.concatenate([one.held_out for one in besides]),
        {role: np.concatenate([one.roles[role] for one in besides]) for role in first.roles},
        first.least,
        first.columns,
        first.labels,
    )
    return [of(joined.table(Resident((features,), MEMORY)))]


@_guarded
def map_subjects(of: Callable[[Table], T], part: Resident, beside: Beside, size: int) -> list[T]:
    """Return what each block of whole subjects of the part gives."""
    return list(map(of, beside.table(part).subject_blocks(size)))
