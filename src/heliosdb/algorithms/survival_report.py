"""The report of a Cox regression: how well its hazards order the held-out survivors.

What always holds: as of report.py; pairs are of rows of one node, and added up over nodes: Harrell's C,
stratified by node. A node counts pairs where at least min_cell of its held-out data subjects had the
event, and none or as many had not; else it says how many rows there are, and no more. Under a budget the
answer is one noised histogram, over the pairs of all nodes; see private_concordance.py.

A plain vector is [rows, pairs in order, pairs]; see concordance.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from operator import add
from typing import Any

import numpy as np

from heliosdb.algorithms.answers import noised_fault
from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.checks import check_shape
from heliosdb.algorithms.concordance import count_pairs
from heliosdb.algorithms.hazards import ENDS, check_intervals, intervals_of
from heliosdb.algorithms.linear import scale_inputs
from heliosdb.algorithms.private_concordance import (
    LARGEST_ERROR,
    QUANTILES,
    SENSITIVITY,
    concordance_steps,
    count_cells,
    foreseen,
    read_concordance,
)
from heliosdb.algorithms.private_figures import Told
from heliosdb.algorithms.report import report_noise_of
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import REPORT, Asked, Draws, Taken
from heliosdb.algorithms.survival_step import NAME, SurvivalStep, check_coefficients, check_survivors
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, demand_no_settings, one_noise, privacy_of_sum, scaling_of
from heliosdb.domain import bounds
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.settings import read_settings, settings_of, within
from heliosdb.domain.state import State, told_of
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import ClippedSum, Contribution, Plain, Vector
from heliosdb.domain.wording import counted
from heliosdb.privacy.mechanisms import Integers, Lattice
from heliosdb.privacy.plan import AccuracyNoise

_SIZE = 3


@dataclass(frozen=True, slots=True)
class ConcordanceSettings:
    """Of a histogram under a budget. ends: of the intervals, in units of `unit`; the first begins at 0."""

    ends: tuple[float, ...] = within(ENDS)
    unit: float = within(bounds.SCALE)


@dataclass(frozen=True, slots=True)
class SurvivalReportStep(SurvivalStep):
    """One look at the model that is about to be published."""

    name: StepName = REPORT
    required: bool = False
    streams_privately: bool = True

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for pairs at the parameters, under a budget for the histogram."""
        scaling, noise = plan.findings.scaling, report_noise_of(plan)
        if noise is not None:
            assert scaling is not None
            unit, ends = intervals_of(scaling, QUANTILES)
            privacy, settings = privacy_of_sum(noise), settings_of(ConcordanceSettings(ends, unit))
            private = Work(NAME, count_cells(len(ends)), privacy=privacy, settings=settings)
            return Asked(private, scaling, told_of(state, (PARAMETERS,)))
        return Asked(Work(NAME, _SIZE), plan.findings.scaling, told_of(state, (PARAMETERS,)))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to, or were not stated in round 0."""
        if (noise := one_noise(work)) is not None:
            lattice = Lattice.of(SENSITIVITY, noise, work.size)
            return noised_fault(update.vector, ROWS.most, lattice.std)
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
        assert isinstance(gathered, Total)
        noise = report_noise_of(plan)
        if noise is not None:
            return _read_private(state, gathered, noise)
        return Taken(state, report=_figures(gathered.vector))

    def foresee(self, plan: RunPlan) -> AccuracyNoise | str:
        """Return how noise bears on the concordance; see private_wish.py."""
        del plan
        return foreseen()

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        if task.work.privacy is not None:
            _check_private(task)
            return
        demand_no_settings(task.work)
        self._check(task, [PARAMETERS], _SIZE)
        check_coefficients(task)

    def sensitivity(self, task: Task) -> float:
        """Return the norm of what a subject adds."""
        del task
        return SENSITIVITY

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the counts."""
        del memory, draws
        if task.work.privacy is not None:
            return _count_privately(table.validation(), task)
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


def _check_private(task: Task) -> None:
    given, noise = _settings(task.work), one_noise(task.work)
    assert noise is not None
    check_intervals(task, given.ends)
    scaling_of(task)
    if sorted(task.state) != [PARAMETERS]:
        raise invalid_value("The task's state does not fit its algorithm and step.")
    check_coefficients(task)
    size = count_cells(len(given.ends))
    check_shape(task.work, size)
    Lattice.of(SENSITIVITY, noise, size)


def _count_privately(rows: Table, task: Task) -> Contribution:
    """Return the histogram over the held-out subjects, in whole steps of the lattice of its noise."""
    given, noise, scaling = _settings(task.work), one_noise(task.work), scaling_of(task)
    assert noise is not None
    lattice, ends = Lattice.of(SENSITIVITY, noise, task.work.size), np.array(given.ends)

    def steps_of(some: Table) -> Integers:
        return concordance_steps(some, task.state[PARAMETERS], scaling, ends, given.unit, lattice)

    total = lattice.total(sum_parts(rows.subject_blocks(), steps_of, add))
    return Contribution(total, 1.0, ClippedSum(SENSITIVITY, Mechanism(noise)))


def _read_private(state: State, gathered: Total, noise: float) -> Taken:
    total = gathered.vector
    deviation = Lattice.of(SENSITIVITY, noise, total.size).std_of_sum(gathered.noise_variance)
    told = Told({"noised": True, "subjects": max(0, round(float(total.sum())))})
    told.figures["subjects_std_error"] = deviation * math.sqrt(total.size)
    told.put("c_index", *read_concordance(total, state[PARAMETERS], deviation), LARGEST_ERROR)
    return Taken(state, report=told.figures, notes=told.notes)


def _settings(work: Work) -> ConcordanceSettings:
    return read_settings(ConcordanceSettings, work.settings, exact=True)


def _are_enough(rows: Table) -> bool:
    had = rows.roles["event"] > 0.0
    events, others = (np.unique(rows.subjects[chosen]).size for chosen in (had, ~had))
    return events >= rows.min_cell and (others == 0 or others >= rows.min_cell)


def _figures(vector: Vector) -> dict[str, Any]:
    rows, ordered, pairs = map(float, vector)
    return {"rows": round(rows), "c_index": ordered / pairs if pairs else None}
