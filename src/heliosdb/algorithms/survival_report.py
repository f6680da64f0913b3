"""The report of a Cox regression: how well its hazards order the held-out survivors.

What always holds: as of report.py; pairs are of rows of one node, and added up over nodes: Harrell's C,
stratified by node. A node counts pairs where at least min_cell of its held-out data subjects had the
event, and none or as many had not; else it says how many rows there are, and no more.

A vector is [rows, pairs in order, pairs]; see concordance.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliosdb.algorithms.concordance import count_pairs
from heliosdb.algorithms.linear import scale_inputs
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import REPORT, Asked, Draws, Taken
from heliosdb.algorithms.survival_step import NAME, SurvivalStep, check_coefficients, check_survivors
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, demand_no_settings, scaling_of
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import State, told_of
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Plain, Vector
from heliosdb.domain.wording import counted

_SIZE = 3


@dataclass(frozen=True, slots=True)
class SurvivalReportStep(SurvivalStep):
    """One look at the model that is about to be published."""

    name: StepName = REPORT
    required: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for pairs at the parameters."""
        return Asked(Work(NAME, _SIZE), plan.findings.scaling, told_of(state, (PARAMETERS,)))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to, or were not stated in round 0."""
        del work
        rows, ordered, pairs = map(float, update.vector)
        if not (rows >= 0.0 and rows.is_integer() and update.weight == max(1.0, rows)):
            return f"its weight {update.weight:g} is not that of the rows that it measures"
        if not (0.0 <= ordered <= pairs <= 0.5 * rows * rows):
            return f"{ordered:g} of {pairs:g} pairs are not those of {counted(rows, 'row')}"
        return weight_fault(plan.stated, update)

    def describe(self, plan: RunPlan, update: Update) -> Mapping[str, Any] | None:
        """Return the figures of one node, where rows of it are held out."""
        del plan
        figures = _figures(update.vector)
        return {"figures": figures if figures["rows"] else None}

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Return the figures over all nodes."""
        del plan
        assert isinstance(gathered, Total)
        return Taken(state, report=_figures(gathered.vector))

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        demand_no_settings(task.work)
        self._check(task, [PARAMETERS], _SIZE)
        check_coefficients(task)

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the counts."""
        del memory, draws
        check_survivors(table)
        rows = table.validation()
        vector = np.array([float(rows.rows), 0.0, 0.0])
        if _are_enough(rows):
            inputs = scale_inputs(rows.features, scaling_of(task))[:, :-1]
            with np.errstate(over="ignore", invalid="ignore"):
                scores = np.nan_to_num(inputs @ task.state[PARAMETERS])
            found = count_pairs(rows.target, rows.roles["event"], scores)
            vector[1:] = found.ordered, found.comparable
        return Contribution(vector, max(1.0, float(rows.rows)), Plain())


def _are_enough(rows: Table) -> bool:
    had = rows.roles["event"] > 0.0
    events, others = (np.unique(rows.subjects[chosen]).size for chosen in (had, ~had))
    return events >= rows.min_cell and (others == 0 or others >= rows.min_cell)


def _figures(vector: Vector) -> dict[str, Any]:
    rows, ordered, pairs = map(float, vector)
    return {"rows": round(rows), "c_index": ordered / pairs if pairs else None}
