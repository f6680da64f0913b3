"""Round 0 of algorithms that grow trees: statistics, then counts in cells, until these make bins.

What always holds: cells and bins follow from released sums alone; no count of a node is about fewer data
subjects than its min_rows, and none is about held-out rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.statistics import StatisticsStep
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.bins import (
    LOOKS,
    MOST_CELLS,
    Ragged,
    codes_of,
    edges_of,
    first_cells,
    split_full,
)
from heliosdb.algorithms.trees.crowds import Crowds
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.private_round_0 import with_depth
from heliosdb.algorithms.trees.remembered import counted
from heliosdb.algorithms.trees.work import (
    Model,
    check_shape,
    levels_of,
    make_learner,
    read_ragged,
    refuse_budget,
)
from heliosdb.domain import wording
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Plain, Vector
from heliosdb.parts.algorithms import TreeSettings

QUANTILES = StepName("quantiles")

_BITS = 20

CELLS, N_CELLS, LOOK, BASE = "cells", "n_cells", "look", "base"


@dataclass(frozen=True, slots=True)
class TreeStatisticsStep(StatisticsStep):
    """The statistics of round 0, from which counting begins. boosts: see `GrowStep`."""

    boosts: bool = False

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Find scaling and first cells; as `StatisticsStep.read`."""
        assert isinstance(gathered, Total)
        taken = StatisticsStep.read(self, plan, state, gathered)
        if plan.findings.plan is not None:
            return with_depth(plan, taken, gathered.nodes)
        assert taken.findings is not None
        assert taken.findings.scaling is not None
        scaling = _rounded(taken.findings.scaling)
        cells = first_cells(scaling, levels_of(plan.findings.encoding, len(plan.inputs)))
        base = _base(gathered.vector, len(classes_of(plan))) if self.boosts else np.empty(0)
        found = _locating(cells, base, 1)
        findings = replace(taken.findings, scaling=scaling, rows=float(gathered.vector[0]))
        return Taken(found, findings, following=QUANTILES, notes=taken.notes)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        StatisticsStep.check(self, task)


def _rounded(scaling: Scaling) -> Scaling:
    """Round to 20 bits, and means to as much of their scales: a node rounds what is far smaller than its own
    largest value, so that beyond these bits statistics say how rows are spread over nodes."""
    scales = [_to_bits(scale) for scale in (*scaling.scales, scaling.target_scale)]
    means = zip((*scaling.means, scaling.target_mean), scales, strict=True)
    steps = [(mean, scale * 2.0**-_BITS) for mean, scale in means]
    *inputs, target = (
        mean if abs(mean) > step * 2.0**52 else round(mean / step) * step for mean, step in steps
    )
    return Scaling(tuple(inputs), tuple(scales[:-1]), target, scales[-1])


def _to_bits(number: float) -> float:
    mantissa, exponent = math.frexp(number)
    return math.ldexp(round(mantissa * 2**_BITS), exponent - _BITS)


def _base(total: Vector, classes: int) -> Vector:
    """Return the scores with which boosting begins: those of the base rates, or the mean of a scaled
    number."""
    if not classes:
        return np.zeros(1)
    others = total[1 - classes :]
    counts = np.concatenate([[total[0] - others.sum()], others]) + 0.5
    if classes == 2:
        return np.log(counts[1:] / counts[:1])
    shares: Vector = np.log(counts / counts.sum())
    return shares


def _locating(cells: Ragged, base: Vector, look: int) -> State:
    begins = {BASE: base} if base.size else {}
    counter = np.array([look], dtype=np.int64)
    return make_state(**{CELLS: cells.values, N_CELLS: cells.counts, LOOK: counter}, **begins)


@dataclass(frozen=True, slots=True)
class QuantilesStep:
    """How many values of each input lie in cells: asked until no cell holds too many, then made bins."""

    algorithm: str
    boosts: bool
    name: StepName = QUANTILES
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the counts in the cells that were chosen."""
        del plan
        cells = Ragged(state[CELLS], state[N_CELLS])
        size = int(cells.widths.sum())
        return Asked(
            Work(self.algorithm, size), state=make_state(**{CELLS: cells.values, N_CELLS: cells.counts})
        )

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say where counts are not those of one table's rows: whole, and as many for each input.

        How an answer falls into the inputs' cells only the state knows; see `read`.
        """
        del work
        counts, rows = update.vector, update.weight
        if not (ROWS.hold(rows) and rows.is_integer()):
            return f"its weight {rows:g} is no number of rows"
        if np.any((counts < 0.0) | (counts > rows) | (counts != np.rint(counts))):
            return f"its counts are not of {wording.counted(rows, 'row')}"
        if counts.sum() not in (rows * len(plan.inputs), 0.0):
            return f"its counts do not add up to its {wording.counted(rows, 'row')} for each input"
        return None

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: the statistics have told them."""
        del plan, update
        return None

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Look closer where cells are full, or make bins of them."""
        assert isinstance(gathered, Total)
        cells, look = Ragged(state[CELLS], state[N_CELLS]), int(state[LOOK][0])
        settings = plan.run.options.settings(TreeSettings)
        finer = split_full(cells, gathered.vector, settings.bins) if look < LOOKS else None
        base = state.get(BASE, np.empty(0))
        if finer is not None:
            return Taken(_locating(finer, base, look + 1), following=QUANTILES)
        levels = levels_of(plan.findings.encoding, len(plan.inputs))
        edges = edges_of(cells, gathered.vector, settings.bins, levels)
        widest = max((many + 1 for many in levels if many), default=0)
        learner = make_learner(len(classes_of(plan)), 0, boosts=self.boosts)
        model = Model(edges, levels, base, Trees.empty(learner.outputs, widest))
        return Taken(model.to_state())

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        refuse_budget(task)
        if task.work.settings:
            raise invalid_value(f"{min(task.work.settings)} is no setting here")
        if set(task.state) != {CELLS, N_CELLS} or task.scaling is not None:
            raise invalid_value("counts in cells depend on the cells alone")
        cells = read_ragged(task.state, CELLS, N_CELLS, task.n_inputs)
        # Splitting the cells of one input leaves no more than twice what an exchange is meant to hold.
        if cells.values.size > 4 * MOST_CELLS + 1_000 * task.n_inputs:
            raise invalid_value("the task asks for more counts than an exchange has")
        check_shape(task.work, int(cells.widths.sum()))

    def least_rows(self, task: Task) -> int | None:
        """Return None: the answer itself holds to the node's min_rows."""
        del task
        return None

    def parameters(self, task: Task) -> int:
        """Return 0: where values lie is no model."""
        del task
        return 0

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the counts of the rows that are trained on; of fewer than min_rows subjects, zeros."""
        del draws
        cells = read_ragged(task.state, CELLS, N_CELLS, task.n_inputs)
        rows = table.training()
        stays = counted(memory)
        return Contribution(_counts(rows, cells), max(1.0, float(rows.rows)), Plain(), stays=stays)


def _counts(rows: Table, cells: Ragged) -> Vector:
    crowds, codes = Crowds.of(rows), codes_of(rows.features, cells)
    if crowds.firsts.sum() < crowds.least:
        return np.zeros(int(cells.widths.sum()))
    counted = [_count(crowds, *one) for one in zip(codes, cells.widths, strict=True)]
    return np.concatenate(counted) if counted else np.empty(0)


def _count(crowds: Crowds, code: NDArray[np.int64], width: int) -> Vector:
    rows = np.bincount(code, minlength=width).astype(np.float64)
    subjects = np.bincount(code, crowds.firsts, width).astype(np.float64)
    joined: Vector = crowds.joined(rows[None, None], subjects[None])[0, 0]
    return joined
