"""Where the bins of numbers end, as feature_transforms ask for them: counted first of all in round 0.

What always holds: edges follow from summed counts alone, and stand in the encoding that all further steps,
and the prediction, read columns by; a node counts groups of neighbouring values (neighbours.py), so that no
count is about fewer than min_cell of its data subjects. There is no such step under a budget.

Cells and edges are those of trees (trees/bins.py). Nothing is known of a column yet, so they begin at halves
of octaves, and full ones are split up to `LOOKS` - 1 times: as far as a millionth of a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from heliosdb.algorithms.levels import first_of_columns
from heliosdb.algorithms.neighbours import gather
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import RawColumn, Table
from heliosdb.algorithms.trees.bins import MOST_CELLS, Ragged, codes_of, edges_of, split_full
from heliosdb.algorithms.trees.work import read_ragged
from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.encoding import Encoding
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Task, Work
from heliosdb.domain.transforms import BINNED
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Dtype, Plain, Vector
from heliosdb.domain.wording import counted

BINS = StepName("bins")

LOOKS = 6
"""Exchanges in which cells are counted, at most."""

_CELLS, _N_CELLS, _LOOK = "cells", "n_cells", "look"
_HALF_OCTAVES = np.exp2(np.arange(-120, 201) / 2.0)
_FIRST_CELLS = np.concatenate([-_HALF_OCTAVES[::-1], [0.0], _HALF_OCTAVES])


@dataclass(frozen=True, slots=True)
class BinsWork:
    """What is asked: counts of the columns at these places among the features."""

    columns: tuple[int, ...] = within(Bounds(0, 1_600))


def first_of_round_0(plan: RunPlan) -> StepName:
    """Return the step with which round 0 of supervised learning begins."""
    return BINS if _binned(plan) else first_of_columns(plan)


def _binned(plan: RunPlan) -> dict[int, int]:
    """Into how many bins columns are cut, by their places among the features, in order."""
    places = {column: place for place, column in enumerate(plan.run.options.features)}
    asked = {
        places[one.column]: one.count
        for one in plan.run.options.transforms
        if one.function == "bins" and one.count is not None
    }
    return dict(sorted(asked.items()))


@dataclass(frozen=True, slots=True)
class BinsStep:
    """How many rows' values of each column lie in cells: asked until no cell holds too many, then made
    bins."""

    algorithm: str
    name: StepName = BINS
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    reads_columns: bool = True

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the counts in the cells that were chosen."""
        columns = tuple(_binned(plan))
        cells = _cells_of(state, len(columns))
        work = Work(self.algorithm, int(cells.widths.sum()), settings=settings_of(BinsWork(columns)))
        return Asked(work, state=make_state(**{_CELLS: cells.values, _N_CELLS: cells.counts}))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say where counts are not those of one table's rows: whole, and as many for each column.

        How an answer falls into the columns' cells only the state knows.
        """
        del work
        counts, rows = update.vector, update.weight
        if not (bounds.ROWS.hold(rows) and rows.is_integer()):
            return f"its weight {rows:g} is no number of rows"
        if np.any((counts < 0.0) | (counts > rows) | (counts != np.rint(counts))):
            return f"its counts are not of {counted(rows, 'row')}"
        if counts.sum() != rows * len(_binned(plan)):
            return f"its counts do not add up to its {counted(rows, 'row')} for each column"
        return None

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return the node's rows, as its answer states them."""
        del plan
        return max(0, round(update.weight))

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Look closer where cells are full, or put the edges into the encoding."""
        assert isinstance(gathered, Total)
        encoding, binned = plan.findings.encoding, _binned(plan)
        assert encoding is not None
        cells, look = _cells_of(state, len(binned)), int(state[_LOOK][0]) if state else 1
        finer = split_full(cells, gathered.vector, max(binned.values())) if look < LOOKS else None
        if finer is not None:
            counter = np.array([look + 1], dtype=np.int64)
            told = {_CELLS: finer.values, _N_CELLS: finer.counts, _LOOK: counter}
            return Taken(make_state(**told), following=BINS)
        made = list(encoding.columns)
        for place, edges in zip(binned, _edges(cells, gathered.vector, binned.values()), strict=True):
            made[place] = replace(made[place], form="bins", edges=edges)
        found = Encoding(tuple(made), encoding.classes)
        if not found.inputs:
            raise invalid_value("every feature has the same value in every row of every node")
        after = replace(plan, findings=replace(plan.findings, encoding=found))
        notes = tuple(
            f"{made[place].column} cannot be cut into bins" for place in binned if not made[place].edges
        )
        return Taken(NO_STATE, after.findings, following=first_of_columns(after), notes=notes)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work, encoding = read_settings(BinsWork, task.work.settings, exact=True), task.encoding
        if task.work.privacy is not None or task.budget is not None:
            raise invalid_value("bins are not counted under a privacy budget")
        if set(task.state) != {_CELLS, _N_CELLS} or task.scaling is not None:
            raise invalid_value("counts in cells depend on the cells alone")
        if encoding is None or len(encoding.columns) != len(task.reading.features):
            raise invalid_value("the task does not say how its columns are read")
        places = work.columns
        if not places or list(places) != sorted(set(places)) or places[-1] >= len(encoding.columns):
            raise invalid_value("the task's columns are not among its features, or not in their order")
        if any(encoding.columns[place].kind not in BINNED for place in places):
            raise invalid_value("only numbers, times and intervals have bins")
        cells = read_ragged(task.state, _CELLS, _N_CELLS, len(places))
        if cells.values.size > 4 * MOST_CELLS:
            raise invalid_value("the task asks for more counts than an exchange has")
        size = int(cells.widths.sum())
        if task.work.dtype is not Dtype.FLOAT64 or task.work.size != size:
            raise invalid_value(
                f"the task asks for {counted(task.work.size, 'value')}, not {size} of float64"
            )

    def least_rows(self, task: Task) -> int | None:
        """Return None: every count is over all rows."""
        del task
        return None

    def parameters(self, task: Task) -> int:
        """Return 0: where values lie is no model."""
        del task
        return 0

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the node's counts, of all its rows."""
        del memory, draws
        columns = read_settings(BinsWork, task.work.settings, exact=True).columns
        cells, encoding = read_ragged(task.state, _CELLS, _N_CELLS, len(columns)), task.encoding
        assert encoding is not None
        raw = table.columns or (RawColumn(),) * len(encoding.columns)
        starts = np.cumsum([0, *(column.width for column in raw)])
        values = [table.features[:, int(starts[place])] for place in columns]
        gathered = np.column_stack([gather(one, table, table.min_cell) for one in values])
        codes = zip(codes_of(gathered, cells), cells.widths, strict=True)
        counts = [np.bincount(code, minlength=width).astype(np.float64) for code, width in codes]
        return Contribution(np.concatenate(counts), max(1.0, float(table.rows)), Plain())


def _cells_of(state: State, columns: int) -> Ragged:
    if not state:
        return Ragged.of([_FIRST_CELLS] * columns)
    return Ragged(state[_CELLS], state[_N_CELLS])


def _edges(cells: Ragged, counts: Vector, bins: Iterable[int]) -> Iterator[tuple[float, ...]]:
    """Give the edges of each column, which has its own number of bins."""
    parts = np.split(counts, np.cumsum(cells.widths)[:-1])
    for points, part, many in zip(cells.parts(), parts, bins, strict=True):
        found = edges_of(Ragged.of([points]), part, many, (0,)).values
        yield tuple(found[np.abs(found) <= bounds.LOCATION.most].tolist())
