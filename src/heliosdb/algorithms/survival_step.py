"""What the steps of a Cox regression have in common: plain sums, and what is checked of tasks and rows.

What always holds: a privacy budget is refused; an error reveals no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from heliosdb.algorithms.checks import check_shape
from heliosdb.algorithms.steps import Asked
from heliosdb.algorithms.survival_grid import LEAVES, Leaves
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, scaling_of
from heliosdb.domain.bounds import COEFFICIENT, Bounds
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.settings import outside, settings_of, within
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Update

NAME = "cox_regression"


@dataclass(frozen=True, slots=True)
class GridSettings:
    """starts: the leaves at which cells start. They are no parameters, of which a node counts its rows."""

    starts: tuple[int, ...] | None = within(Bounds(0, LEAVES - 1), default=None)


@dataclass(frozen=True, slots=True)
class SurvivalStep:
    """What the exchanges after the statistics have in common: plain sums over rows."""

    name: StepName
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: the statistics tell them."""
        del plan, update
        return None

    def least_rows(self, task: Task) -> int | None:
        """Return None: of how many rows a number is depends on them, and the node looks itself."""
        del task
        return None

    def _ask(self, plan: RunPlan, size: int, starts: Leaves | None, told: State = NO_STATE) -> Asked:
        listed = None if starts is None else tuple(map(int, starts))
        work = Work(NAME, size, settings=settings_of(GridSettings(listed)))
        return Asked(work, plan.findings.scaling, told)

    def _check(self, task: Task, names: Sequence[str], size: int) -> None:
        if task.work.privacy is not None or task.budget is not None:
            raise not_supported(f"step {self.name} of {NAME} is not asked for under a privacy budget")
        scaling_of(task)
        if sorted(task.state) != sorted(names):
            raise invalid_value("The task's state does not fit its algorithm and step.")
        check_shape(task.work, size)


def check_coefficients(task: Task) -> None:
    """Raise FederatedError (22023) for parameters that are not one of each input, or beyond their bounds."""
    parameters = task.state.get(PARAMETERS)
    if parameters is None or parameters.dtype != np.float64 or parameters.shape != (task.n_inputs,):
        raise invalid_value("The task's parameters do not fit its algorithm and features.")
    inside = (parameters >= COEFFICIENT.least) & (parameters <= COEFFICIENT.most)
    if not np.all(inside):
        raise outside("a parameter", float(parameters[~inside][0]), COEFFICIENT)


def check_survivors(table: Table) -> None:
    """Raise FederatedError (22023), revealing no value, for a time below 0, and an event that is no 0 or
    1."""
    events = table.roles.get("event")
    if events is None:
        raise invalid_value(f"{NAME} reads a column with the role event")
    if not bool(np.isin(events, (0.0, 1.0)).all()):
        raise invalid_value("the event column must be true or false, or 0 or 1, in every row")
    if not bool((table.target >= 0.0).all()):
        raise invalid_value("the target, a survival time, must be 0 or more in every row")
