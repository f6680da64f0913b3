"""The report: once, at the end of a run, how the version that it publishes does on the held-out rows of all
nodes, in detail.

What always holds: a run stands without its report. Without a budget what it counts is told in parts of
several subjects (reported.py), and what a node's own answer says is kept beside the sum; under one it is a
single noised sum (private_report.py), which is asked for where the run's plan has found that its figures mean
something.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from heliosdb.algorithms.explained import find_explainer
from heliosdb.algorithms.own_model import count_staying, with_head
from heliosdb.algorithms.private_figures import (
    private_deviation,
    private_report_fault,
    read_private_report,
)
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.private_measuring import ScoresRows
from heliosdb.algorithms.private_report import check_private_report, private_sensitivity, report_privately
from heliosdb.algorithms.private_wish import foresee_scores
from heliosdb.algorithms.registry import Supervised, algorithm, classes_of
from heliosdb.algorithms.report_figures import read_figures, read_report, report_fault
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.algorithms.reported import report
from heliosdb.algorithms.stated import weight_fault
from heliosdb.algorithms.steps import REPORT, Asked, Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PrivateReportWork, ReportWork
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import State, told_of
from heliosdb.domain.task import Task, Work
from heliosdb.domain.update import Moved, Total, Update
from heliosdb.domain.vector import Contribution, Dtype, Matrix, Plain, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.personal import local_layers
from heliosdb.privacy.plan import AccuracyNoise


class Scoring(ScoresRows, Supervised, Protocol):
    """An algorithm whose model gives each row scores, under a budget each row by itself."""

    def check_scored(self, task: Task) -> None:
        """Node: FederatedError where the task's state is none of such a model, or outside its bounds."""
        ...

    def score(self, features: Matrix, task: Task, offset: Vector | None = None) -> Matrix:
        """Node: the scores of rows under the task's state, as measures/measure.py has them; (rows, inputs) →
        (rows,), of more than two classes (rows, classes). offset: what a column adds to each row's, (rows,).
        """
        ...


@dataclass(frozen=True, slots=True)
class ReportStep:
    """One look at the model that is about to be published. told: as of an evaluation."""

    algorithm: str
    name: StepName = REPORT
    required: bool = False
    gathers: Literal["sum"] = "sum"
    reads: Sequence[str] = ()
    moving: Sequence[str] = ()
    told: Sequence[str] | None = None
    streams: bool = False
    streams_privately: bool = False

    def ask(self, plan: RunPlan, state: State) -> Asked:
        """Ask for the counts and sums of a report."""
        scaling, noise = plan.findings.scaling, report_noise_of(plan)
        assert scaling is not None
        if noise is not None:
            size, classes = private_layout_of(plan).size, len(classes_of(plan))
            private = PrivateReportWork(plan.run.options.algorithm, scaling, noise, classes=classes)
            return Asked(private.to_work(size), scaling, told_of(state, self.told))
        layout = _layout_of(plan)
        options = plan.run.options
        work = ReportWork(
            options.algorithm, scaling, classes=layout.classes, local_layers=local_layers(options)
        )
        return Asked(work.to_work(layout), scaling, told_of(state, self.told))

    def fault(self, plan: RunPlan, work: Work, update: Update) -> str | None:
        """Say what no rows can have led to, or were not stated in round 0."""
        if work.privacy is not None:
            noise = work.privacy.mechanism.noise_multiplier
            return private_report_fault(private_layout_of(plan), update.vector, noise)
        layout = _layout_of(plan)
        blocks = layout.split(update.vector)
        if update.weight != max(1.0, float(blocks["head"][0])):
            return f"its weight {update.weight:g} is not that of the rows that it measures"
        if blocks["outliers"].max(initial=0.0) > plan.stated.get(update.node, 0.0):
            return "it has more outliers than it stated rows in round 0"
        return weight_fault(plan.stated, update) or report_fault(layout, update.vector)

    def foresee(self, plan: RunPlan) -> AccuracyNoise | str:
        """Return how noise bears on it under a budget, or why there is none; see private_wish.py."""
        return foresee_scores(len(classes_of(plan)), len(plan.run.options.features))

    def rows(self, plan: RunPlan, update: Update) -> int | None:
        """Return None: these are the held-out ones only."""
        del plan, update
        return None

    def describe(self, plan: RunPlan, update: Update) -> Mapping[str, Any] | None:
        """Return the figures of one node, where rows of it are held out, and its outliers of numbers."""
        layout, scaling = _layout_of(plan), plan.findings.scaling
        assert scaling is not None
        counts = layout.split(update.vector)["outliers"]
        encoding = plan.findings.encoding
        spread = (True,) * len(plan.inputs) if encoding is None else encoding.spread
        counted = zip(plan.inputs, counts, spread, strict=True)
        outliers = {name: int(count) for name, count, is_number in counted if is_number}
        figures = read_figures(layout, update.vector, scaling.target_scale)
        return {"figures": figures if figures["rows"] else None, "outliers": outliers}

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Return the report over all nodes."""
        assert isinstance(gathered, Total)
        scaling, noise = plan.findings.scaling, report_noise_of(plan)
        assert scaling is not None
        if noise is not None:
            labels, features = classes_of(plan), plan.run.options.features
            layout = private_layout_of(plan)
            deviation = private_deviation(layout, noise, gathered.noise_variance)
            private = read_private_report(
                layout, gathered.vector, deviation, labels, features, scaling.target_scale
            )
            return Taken(state, report=private.figures, notes=private.notes)
        found = read_report(
            _layout_of(plan),
            gathered.vector,
            classes_of(plan),
            plan.run.options.features,
            scaling.target_scale,
        )
        return Taken(state, report=found)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work = ReportWork.of(task)
        method = cast(Scoring, algorithm(self.algorithm))
        if not method.allows(work.classes):
            raise invalid_value(
                f"{self.algorithm} learns no target of {counted(work.classes, 'class', 'classes')}"
            )
        method.check_scored(task)
        if work.local_layers is not None:
            count_staying(self.algorithm, task, work.local_layers)
        if task.work.privacy is not None:
            check_private_report(task)
            return
        size = _layout_at_node(task, work).size
        if task.work.dtype is not Dtype.FLOAT64 or task.work.size != size:
            raise invalid_value(f"a report of this model has {counted(size, 'value')} of float64")

    def sensitivity(self, task: Task) -> float:
        """Return the norm of what a subject adds."""
        return private_sensitivity(task)

    def least_rows(self, task: Task) -> int | None:
        """Return None: what is about a part of the rows is cut for it, see cells.py."""
        del task
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the counts and sums."""
        if task.work.privacy is not None:
            return report_privately(cast(ScoresRows, algorithm(self.algorithm)), table, task)
        work, method = ReportWork.of(task), cast(Scoring, algorithm(self.algorithm))
        task = with_head(self.algorithm, task, memory, work.local_layers)
        method.check_target(table, work.classes)

        def scores(columns: Matrix) -> Matrix:
            features = columns[:, : task.n_inputs]
            # Behind the inputs is the offset, where there is one.
            offset = columns[:, -1] if columns.shape[1] > task.n_inputs else None
            return method.score(features, task, offset)

        layout = _layout_at_node(task, work)
        # Folds are elsewhere in the order in which groups of explained rows stand, and publish nothing.
        explain = None if task.reading.fold is not None else find_explainer(method, task, work.classes)
        vector = report(table, task, layout, scores, draws.rng(), explain=explain)
        return Contribution(vector, max(1.0, float(layout.split(vector)["head"][0])), Plain())


def report_noise_of(plan: RunPlan) -> float | None:
    """Return the noise multiplier of the run's report; None without a budget."""
    made = plan.findings.plan
    return None if made is None else made.report_noise


def private_layout_of(plan: RunPlan) -> PrivateLayout:
    """Return how a report under a budget is laid out."""
    return PrivateLayout(len(classes_of(plan)), len(plan.run.options.features))


def _layout_of(plan: RunPlan) -> ReportLayout:
    return ReportLayout(len(classes_of(plan)), len(plan.run.options.features), len(plan.inputs))


def _layout_at_node(task: Task, work: ReportWork) -> ReportLayout:
    return ReportLayout(work.classes, len(task.reading.features), task.n_inputs)
