"""Loss and quality of trees over the held-out rows.

What always holds: as of `EvaluateStep` and `ReportStep`; no model is learned from their answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.evaluation import EvaluateStep, evaluate_work
from heliosdb.algorithms.measures import measure, told_sums
from heliosdb.algorithms.report import ReportStep
from heliosdb.algorithms.reported import loss_of
from heliosdb.algorithms.steps import Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.grown import COVER, LEAF, NAMES
from heliosdb.algorithms.trees.work import (
    AnyLearner,
    Model,
    check_scaling,
    check_shape,
    levels_of,
    make_learner,
    refuse_budget,
    scaled_target,
)
from heliosdb.algorithms.works import EvaluateWork
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.state import State
from heliosdb.domain.task import Task
from heliosdb.domain.update import Moved, Total
from heliosdb.domain.vector import Contribution, Matrix, Plain
from heliosdb.scoring.trees import Prepared, add_up

_LEAST_SHARE = 1e-15
"""Of a class: what subtraction has left of less is rounding."""


@dataclass(frozen=True, slots=True)
class TreeEvaluateStep(EvaluateStep):
    """One measurement of the trees that a round has led to. boosts: see `GrowStep`."""

    boosts: bool = False

    def read(self, plan: RunPlan, state: State, gathered: Total | Moved) -> Taken:
        """Return loss and accuracy over all nodes."""
        assert isinstance(gathered, Total)
        if gathered.nodes == 0:
            return Taken(state)
        work = evaluate_work(plan)
        found = work.measure.read_plain(gathered.vector, work.scaling.target_scale)
        return Taken(state, figures=found.figures, notes=found.notes)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        refuse_budget(task)
        work = EvaluateWork.of(task)
        check_scored(task, boosts=self.boosts, covers=False)
        check_shape(task.work, work.size)

    def parameters(self, task: Task) -> int:
        """Return 0: nothing is learned from it but its figures."""
        del task
        return 0

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums of the measure."""
        del memory, draws
        classes, rows = EvaluateWork.of(task).classes, table.validation()
        target = scaled_target(rows, task, classes)
        scores = scores_of(rows.features, task, boosts=self.boosts)
        sums = told_sums(measure(classes), loss_of(classes, scores, target), scores, target, rows)
        return Contribution(sums, max(1.0, float(rows.rows)), Plain())


class TreeReportStep(ReportStep):
    """The report of trees."""

    def parameters(self, task: Task) -> int:
        """Return 0: nothing is learned from it but its figures."""
        del task
        return 0


def told_arrays(*, boosts: bool) -> tuple[str, ...]:
    """Return the arrays of a state by which rows are scored: covers are told where rows are explained."""
    return ("edges", "n_edges", *(("base",) if boosts else ()), *NAMES)


def check_scored(task: Task, *, boosts: bool, covers: bool) -> None:
    """Raise FederatedError INVALID_VALUE where a task's state is no whole trees, or its scaling does not
    fit. covers: whether it tells them."""
    check_scaling(task)
    model, _ = _model(task, boosts=boosts)
    named = model.names() | ({COVER} if covers else set())
    if set(task.state) != named or np.any(model.trees.feature < LEAF) or not model.trees.count:
        raise invalid_value("the task's trees are not whole")


def scores_of(features: Matrix, task: Task, *, boosts: bool) -> Matrix:
    """Return the log odds of class 1, or the scaled number, (n,); of more classes the logarithms of their
    shares, up to a number of the row, (n, classes)."""
    model, learner = _model(task, boosts=boosts)
    levels = np.array(model.levels, dtype=np.int64)
    outputs = add_up(Prepared({**model.to_state(), "levels": levels}), features, boosts=boosts)
    if boosts or not learner.classes:
        return outputs if outputs.shape[1] > 1 else outputs[:, 0]
    shares = np.column_stack([1.0 - outputs.sum(axis=1), outputs])
    logarithms: Matrix = np.log(np.maximum(shares, _LEAST_SHARE))
    return logarithms if learner.classes > 2 else logarithms[:, 1] - logarithms[:, 0]


def _model(task: Task, *, boosts: bool) -> tuple[Model, AnyLearner]:
    classes = task.work.settings.get("classes")
    if type(classes) is not int:
        raise invalid_value("the task does not say how many classes its target has")
    learner = make_learner(classes, 0, boosts=boosts)
    return Model.of(task.state, levels_of(task.encoding, task.n_inputs), learner), learner
