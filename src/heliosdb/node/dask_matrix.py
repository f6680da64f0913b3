"""Features that lie with dask workers, a part with each.

What always holds: parts follow each other in the order of the table's rows, and no data subject is in two of
them; a block of rows that reaches from one part into the next is put together before it is computed on, so
that it is the block that one process has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.parted import Parted, Rows
from heliosdb.algorithms.space import Space, slices
from heliosdb.algorithms.table import Codes, Mask, Table
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.node import dask_parts
from heliosdb.node.dask_parts import Beside, Ranks
from heliosdb.node.dask_workers import Held, Workers

Made = TypeVar("Made")

_BLOCKS_AT_ONCE = 8
"""Of which one task gives the results: a node holds no more of them at once."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part's rows, so many. held: where they are; in_memory: whether that is in a worker's memory."""

    held: Held
    rows: int
    in_memory: bool


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Blocks from rank `start` on, before `stop`: within one part, or one block over several."""

    start: int
    stop: int
    parts: tuple[int, ...]


class DaskMatrix(Parted):
    """See the module. width: columns."""

    def __init__(self, workers: Workers, parts: Sequence[Part], width: int) -> None:
        self._workers, self._parts, self._width = workers, tuple(parts), width
        self._starts = np.cumsum([0, *(part.rows for part in parts)])
        # What was sent beside the parts: by the arrays it is of, which stay for as long.
        self._sent: dict[tuple[int, ...], tuple[Beside, list[Held]]] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self._starts[-1]), self._width

    @property
    def are_in_memory(self) -> tuple[bool, ...]:
        """See `Parted`."""
        return tuple(part.in_memory for part in self._parts)

    def column(self, place: int) -> Vector:
        """See `Parted`."""
        return np.concatenate(self._each(dask_parts.column_of, place))

    def rows(self, some: slice) -> Matrix:
        """See `Parted`."""
        start, stop, step = some.indices(len(self))
        if step != 1:
            return self.take(np.arange(start, stop, step))
        tasks = []
        for part, (first, after) in zip(self._parts, pairwise(self._starts.tolist()), strict=True):
            if start < after and stop > first:
                within = slice(max(start, first) - first, min(stop, after) - first)
                tasks.append(self._workers.submit(dask_parts.rows_of, part.held, within))
        found = self._workers.gather(tasks)
        return np.concatenate(found) if found else np.empty((0, self._width))

    def take(self, places: Codes) -> Matrix:
        """See `Parted`."""
        whose = np.searchsorted(self._starts, places, side="right") - 1
        made = np.empty((places.size, self._width))
        asked = [(number, np.flatnonzero(whose == number)) for number in np.unique(whose).tolist()]
        tasks = [
            self._workers.submit(
                dask_parts.places_of,
                self._parts[number].held,
                places[where] - self._starts[number],
            )
            for number, where in asked
        ]
        for (_, where), rows in zip(asked, self._workers.gather(tasks), strict=True):
            made[where] = rows
        return made

    def keep(self, mask: Mask) -> DaskMatrix:
        """See `Parted`."""
        parts = []
        for part, some in zip(self._parts, self._slices(), strict=True):
            own = mask[some]
            task = (dask_parts.keep_of, part.held, np.packbits(own).tobytes(), part.rows)
            parts.append(Part(self._workers.submit(*task), int(np.count_nonzero(own)), part.in_memory))
        return DaskMatrix(self._workers, parts, self._width)

    def derive(self, columns: Sequence[int | NDArray[Any]]) -> DaskMatrix:
        """See `Parted`."""
        places = [column if isinstance(column, int) else None for column in columns]
        if places == list(range(self._width)):
            return self
        given = [column for column in columns if not isinstance(column, int)]
        parts = []
        for part, some in zip(self._parts, self._slices(), strict=True):
            sent = [self._workers.send(np.ascontiguousarray(one[some]), part.held) for one in given]
            made = self._workers.submit(dask_parts.derive_of, part.held, places, sent)
            parts.append(Part(made, part.rows, part.in_memory))
        width = sum(1 if isinstance(column, int) else column.shape[1] for column in columns)
        return DaskMatrix(self._workers, parts, width)

    def map_rows(self, width: int, of: Callable[[Matrix, Space], Matrix]) -> DaskMatrix:
        """See `Parted`."""
        parts = [
            Part(self._workers.submit(dask_parts.map_rows, of, part.held), part.rows, part.in_memory)
            for part in self._parts
        ]
        return DaskMatrix(self._workers, parts, width)

    def map_blocks(self, table: Table, rows: Rows, size: int, of: Callable[[Table], Made]) -> Iterator[Made]:
        """See `Parted`."""
        besides, ranks = self._besides(table), self._ranks(table, rows)

        def within(number: int, stretch: _Stretch) -> Ranks:
            first, after = ranks[number], ranks[number + 1]
            return Ranks(rows, max(stretch.start, first) - first, min(stretch.stop, after) - first)

        def task(stretch: _Stretch) -> Held:
            pieces = [(self._parts[one].held, besides[one], within(one, stretch)) for one in stretch.parts]
            if len(pieces) == 1:
                return self._workers.submit(dask_parts.map_blocks, of, *pieces[0], size)
            joined = [self._workers.submit(dask_parts.piece_of, *one) for one in pieces]
            return self._workers.submit(dask_parts.map_joined, of, joined)

        yield from self._given([task(stretch) for stretch in _stretches(ranks, size)])

    def map_subjects(self, table: Table, size: int, of: Callable[[Table], Made]) -> Iterator[Made]:
        """See `Parted`."""
        tasks = [
            self._workers.submit(dask_parts.map_subjects, of, part.held, beside, size)
            for part, beside in zip(self._parts, self._besides(table), strict=True)
        ]
        yield from self._given(tasks)

    def _given(self, tasks: list[Held]) -> Iterator[Any]:
        """What tasks give, in their order; of each no more is held here than is being looked at."""
        tasks.reverse()
        while tasks:
            yield from self._workers.gather([tasks.pop()])[0]

    def _ranks(self, table: Table, rows: Rows) -> list[int]:
        """Where the parts begin among the chosen rows, and behind the last where they end."""
        chosen = {"all": None, "validation": table.held_out, "training": ~table.held_out}[rows]
        counts = [
            part.rows if chosen is None else int(np.count_nonzero(chosen[some]))
            for part, some in zip(self._parts, self._slices(), strict=True)
        ]
        return [0, *np.cumsum(counts).tolist()]

    def _besides(self, table: Table) -> list[Held]:
        """What the workers need of a table beside its features: sent once."""
        beside = Beside.of(table)
        arrays = (beside.target, beside.subjects, beside.held_out, *beside.roles.values())
        name = (*beside.least, *map(id, arrays))
        if name not in self._sent:
            sent = [
                self._workers.send(beside.at(some), part.held)
                for part, some in zip(self._parts, self._slices(), strict=True)
            ]
            self._sent[name] = (beside, sent)
        return self._sent[name][1]

    def _slices(self) -> Iterator[slice]:
        return (slice(first, after) for first, after in pairwise(self._starts.tolist()))

    def _each(self, task: Callable[..., Any], *given: Any) -> list[Any]:
        parts = self._parts
        return self._workers.gather([self._workers.submit(task, part.held, *given) for part in parts])


def _stretches(ranks: list[int], size: int) -> Iterator[_Stretch]:
    """Cut ranks into blocks of one size, and put a few of one part together; one for no ranks."""
    kept: _Stretch | None = None
    for block in slices(max(1, ranks[-1]), size):
        found = _Stretch(block.start, min(block.stop, ranks[-1]), _parts_of(block, ranks))
        if kept is not None:
            alone = len(found.parts) == 1 and found.parts == kept.parts
            if alone and found.stop - kept.start <= _BLOCKS_AT_ONCE * size:
                kept = _Stretch(kept.start, found.stop, kept.parts)
                continue
            yield kept
        kept = found
    if kept is not None:
        yield kept


def _parts_of(block: slice, ranks: list[int]) -> tuple[int, ...]:
    """Which parts have rows of a block; of none the first."""
    there = tuple(
        number
        for number, (first, after) in enumerate(pairwise(ranks))
        if max(block.start, first) < min(block.stop, after)
    )
    return there or (0,)
