"""Round 0 of supervised learning: feature statistics are asked, and become the run's scaling and, by
budget_plan.py, its privacy plan.

What always holds: everything at the coordinator is a pure function of the run, of its committed findings and
of what was released; a scaling's numbers lie within the bounds that a task must keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from heliosdb.algorithms.answers import statistics_fault
from heliosdb.algorithms.budget_plan import describe_stricter, plan_rounds
from heliosdb.algorithms.checks import check_statistics
from heliosdb.algorithms.described import describe_statistics
from heliosdb.algorithms.described_inputs import (
    measured,
    measured_inputs,
    measured_part,
    prior_scaling,
    scaled_columns,
    scaled_target,
    statistics_work,
    told_of,
)
from heliosdb.algorithms.features import private_noise, sensitivity_of, statistics
from heliosdb.algorithms.located import Located, look_closer, take_counts
from heliosdb.algorithms.registry import classes_of
from heliosdb.algorithms.steps import Asked, Draws, Taken
from heliosdb.algorithms.sum_noise import noise_variance
from heliosdb.algorithms.summary import Summary, summarise, summarise_located
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Noise
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Scaling, Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution

Rescale = Callable[[RunPlan, Scaling], Scaling]
"""See `StatisticsStep.rescale`."""

STATISTICS, REFINE = StepName("statistics"), StepName("refine")


@dataclass(frozen=True, slots=True)
class StatisticsStep:
    """The exchange of round 0 in which scaling is found; where counts are private others refine them."""

    noises: ClassVar[tuple[Noise, ...]] = ("gaussian", "laplacian")

    algorithm: str
    name: StepName = STATISTICS
    required: bool = True
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    streams: bool = False
    streams_privately: bool = False
    adds_blocks: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the sums, or noisy counts, of every column."""
        del state
        return Asked(statistics_work(plan).to_work(len(measured_inputs(plan))))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to."""
        columns = (*measured_inputs(plan), plan.run.options.target)
        return statistics_fault(update.vector, update.weight, StatisticsWork.of(work), columns)

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return the node's rows (subjects where private, noised) as its answer states them."""
        count = update.weight if plan.findings.plan is None else float(update.vector[-1])
        return max(0, round(count))

    def describe(self, plan: RunPlan, update: Update) -> Mapping[str, Any] | None:
        """Return what a plain answer says of the node's columns."""
        return describe_statistics(update.vector, measured_inputs(plan))

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Turn the sums into scaling and plan.

        FederatedError 22023 names a feature that cannot be scaled; UF001 where the budget leaves nothing to
        train on.
        """
        assert isinstance(gathered, Total)
        work = statistics_work(plan)
        if work.noise_multiplier is not None and work.ranges is None:
            located = take_counts(None, gathered, work, len(scaled_columns(plan)))
            return taken_counts(plan, located, gathered.nodes, self.rescale)
        summary = summarise(
            gathered.vector, work, measured_inputs(plan), gathered.nodes, variance=gathered.noise_variance
        )
        return _taken(plan, summary, gathered.nodes, self.rescale)

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """Return by what inputs are scaled, of what was found; a scale of 0 is that of one that never
        changes."""
        del plan
        return scaling

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        if task.state != NO_STATE or task.scaling is not None:
            raise invalid_value("statistics depend on no state and no scaling")
        check_statistics(sum(measured(task)), task.work)
        if StatisticsWork.of(task.work).windows is not None:
            raise invalid_value("statistics begin without windows")

    def sensitivity(self, task: Task) -> float:
        """Return the norm of what a subject adds."""
        return statistics_sensitivity(task)

    def least_rows(self, task: Task) -> int | None:
        """Return None: every sum is over all rows."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the node's sums or counts."""
        del memory, draws
        return statistics(measured_part(table, task), StatisticsWork.of(task.work))


def statistics_sensitivity(task: Task) -> float:
    """Return the norm of what a subject adds to the counts of the inputs that are described."""
    work = StatisticsWork.of(task.work)
    return sensitivity_of(sum(measured(task)), work)


def taken_counts(plan: RunPlan, located: Located, nodes: int, rescale: Rescale) -> Taken:
    """Look closer where an exchange is left, else turn what was located into scaling and plan."""
    made, columns = plan.findings.plan, scaled_columns(plan)
    assert made is not None
    if located.exchanges <= len(made.refinement_noise):
        noise = made.refinement_noise[located.exchanges - 1]
        algorithm, kind = plan.run.options.algorithm, plan.run.policy.noise
        work = StatisticsWork(algorithm, noise, classes=len(classes_of(plan)), noise=kind)
        deviation = private_noise(len(columns), work, noise_variance(plan.run, nodes)) / nodes
        return Taken(look_closer(located, deviation).to_state(), following=REFINE)
    summary = summarise_located(located, measured_inputs(plan), scaled_target(plan), nodes)
    return _taken(plan, summary, nodes, rescale)


def _taken(plan: RunPlan, summary: Summary, nodes: int, rescale: Rescale) -> Taken:
    """What round 0 ends with: no state, since the model begins when it is closed."""
    run, made = plan.run, plan.findings.plan
    described = _with_priors(_without_constants(_within_bounds(summary.scaling), summary.constant), plan)
    scaling = _with_ones(_unscaled(rescale(plan, described), plan))
    told = zip(measured_inputs(plan), summary.missing, strict=False)
    missing = tuple((name, count, error) for name, (count, error) in told)
    # By which hidden updates are put into fewer bits: never so under a budget.
    keeps_rows = run.options.hides_updates and run.policy.budget is None
    rows = summary.count if keeps_rows else plan.findings.rows
    found = replace(
        plan.findings, scaling=scaling, missing=missing, rows=rows, outliers=_outliers(plan, summary)
    )
    notes = list(summary.notes)
    if made is not None and run.policy.budget is not None:
        split = run.options.validation_split
        about = {"training_per_node": summary.training_per_node(split), "held_out": summary.held_out(split)}
        made = plan_rounds(plan, made, nodes, **about)
        found = replace(found, plan=made)
        notes += [why for why in (made.reason, made.report_reason) if why is not None]
        notes += describe_stricter(run.policy.noise_multiplier, made.training_noise)
    return Taken(NO_STATE, found, notes=tuple(notes))


def _outliers(plan: RunPlan, summary: Summary) -> tuple[tuple[str, float, float], ...]:
    """Of numbers and times alone: a flag or a level that is rare is not far out."""
    encoding = plan.findings.encoding
    if encoding is None:
        spread = tuple(not one for one in plan.findings.booleans) or (True,) * len(plan.inputs)
    else:
        told_of_each = zip(encoding.spread, told_of(plan, encoding), strict=True)
        spread = tuple(one for one, is_told in told_of_each if is_told)
    told = zip(measured_inputs(plan), spread, summary.outliers, strict=False)
    return tuple((name, count, error) for name, is_spread, (count, error) in told if is_spread)


def _within_bounds(scaling: Scaling) -> Scaling:
    """What rounding, or a spread next to nothing, would put outside of what a task may say."""
    return Scaling(
        tuple(map(bounds.LOCATION.clamp, scaling.means)),
        tuple(map(bounds.SCALE.clamp, scaling.scales)),
        bounds.LOCATION.clamp(scaling.target_mean),
        bounds.SCALE.clamp(scaling.target_scale),
    )


def _without_constants(scaling: Scaling, constant: frozenset[int]) -> Scaling:
    """Say of inputs that never change that they have no spread."""
    scales = (0.0 if place in constant else scale for place, scale in enumerate(scaling.scales))
    return replace(scaling, scales=tuple(scales))


def _with_ones(scaling: Scaling) -> Scaling:
    """Take for the scale of what has no spread 1."""
    return replace(scaling, scales=tuple(bounds.SCALE.clamp(scale or 1.0) for scale in scaling.scales))


def _with_priors(scaling: Scaling, plan: RunPlan) -> Scaling:
    """Put in the inputs that were not described."""
    encoding = plan.findings.encoding
    if encoding is None or all(told_of(plan, encoding)):
        return scaling
    columns = [column for column in encoding.columns for _ in column.inputs]
    described = iter(zip(scaling.means, scaling.scales, strict=True))
    pairs = [
        next(described) if told else prior_scaling(column)
        for column, told in zip(columns, told_of(plan, encoding), strict=True)
    ]
    return replace(scaling, means=tuple(m for m, _ in pairs), scales=tuple(s for _, s in pairs))


def _unscaled(scaling: Scaling, plan: RunPlan) -> Scaling:
    """Leave the inputs of columns that are not to be scaled in their own units, about their means."""
    encoding = plan.findings.encoding
    if encoding is None or all(column.scaled for column in encoding.columns):
        return scaling
    scaled = [column.scaled for column in encoding.columns for _ in column.inputs]
    scales = zip(scaling.scales, scaled, strict=True)
    return replace(scaling, scales=tuple(scale if is_scaled else 1.0 for scale, is_scaled in scales))
