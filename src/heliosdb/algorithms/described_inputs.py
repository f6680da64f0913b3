"""Which inputs round 0 describes, and with what: the same at a node, by its task, as at the coordinator.

What always holds: under a budget no indicator of a level is described, so that none costs anything; its mean
and scale follow from how many levels there are, and say nothing of any row. The numbers of a text are never
described, for the same reason: a row's squares sum to 1 (scoring/words.py).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.space import keep_columns
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import Range, StatisticsWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.task import Task


def measured(task: Task) -> tuple[bool, ...]:
    """Which inputs are described: all, but no number of a text, and under a budget no indicator of a level
    (see `prior_scaling`)."""
    if task.encoding is None:
        return (True,) * task.n_inputs
    return _told(task.encoding, private=task.work.privacy is not None)


def measured_part(table: Table, task: Task) -> Table:
    """Return the table with the inputs that are described."""
    chosen = np.array(measured(task))
    return (
        table if chosen.all() else replace(table, features=keep_columns(table.features, chosen, table.space))
    )


def measured_inputs(plan: RunPlan) -> tuple[str, ...]:
    """The names of the inputs that are described; see `measured`."""
    encoding = plan.findings.encoding
    if encoding is None:
        return plan.inputs
    return tuple(name for name, told in zip(encoding.inputs, told_of(plan, encoding), strict=True) if told)


def told_of(plan: RunPlan, encoding: Encoding) -> tuple[bool, ...]:
    """Of each input whether it is described; see `measured`."""
    return _told(encoding, private=plan.run.policy.budget is not None)


def _told(encoding: Encoding, *, private: bool) -> tuple[bool, ...]:
    return encoding.measured if private else encoding.described


def prior_scaling(column: ColumnEncoding) -> tuple[float, float]:
    """Mean and scale of an input that is not described: of an indicator by how many levels there are, as if
    each had as many rows; of a text's number by how many of them there are, as if all were as large.

    It says nothing of any row and costs nothing. An indicator so scaled is at most sqrt(levels) large, as one
    that is scaled by its own spread where its level is as frequent as the others. The squares of a text's
    numbers, each divided by its scale, sum to how many there are, as those of so many scaled inputs do.
    """
    if column.kind is ColumnKind.TEXT:
        return 0.0, 1.0 / math.sqrt(column.elements)
    share = 1.0 / len(column.level_names)
    return share, math.sqrt(share * (1.0 - share))


def scaled_columns(plan: RunPlan) -> list[str]:
    """The described inputs, and a target that is a number: of these round 0 finds the scaling."""
    return [*measured_inputs(plan), *scaled_target(plan)]


def scaled_target(plan: RunPlan) -> list[str]:
    """The target where it is a number, else nothing."""
    return [] if classes_of(plan) else [plan.run.options.target]


def statistics_work(plan: RunPlan) -> StatisticsWork:
    """Return the work of round 0; declared ranges replace the grid where there is a budget.

    FederatedError INVALID_VALUE where they are not of every column.
    """
    made = plan.findings.plan
    noise = made.statistics_noise if made is not None else None
    ranges = None if noise is None else _ranges(plan)
    algorithm, kind = plan.run.options.algorithm, plan.run.policy.noise
    return StatisticsWork(algorithm, noise, ranges, classes=len(classes_of(plan)), noise=kind)


def _ranges(plan: RunPlan) -> tuple[Range, ...] | None:
    declared = {name: (low, high) for name, low, high in plan.run.options.feature_ranges}
    if not declared:
        return None
    columns = scaled_columns(plan)
    missing = [column for column in columns if column not in declared]
    if missing:
        raise invalid_value(
            f"feature_ranges does not name {', '.join(missing)}",
            hint="Under a privacy budget give the range of every column, or of none.",
        )
    return tuple(declared[column] for column in columns)
