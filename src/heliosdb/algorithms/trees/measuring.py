"""Loss and quality of trees over the held-out rows.

What always holds: as of `EvaluateStep` and `ReportStep`; no model is learned from their answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.evaluation import EvaluateStep
from heliosdb.algorithms.measures import measure, told_sums
from heliosdb.algorithms.private_measuring import RowScores, measure_privately
from heliosdb.algorithms.report import ReportStep
from heliosdb.algorithms.reported import loss_of
from heliosdb.algorithms.steps import Draws
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.grown import COVER, LEAF, NAMES
from heliosdb.algorithms.trees.work import (
    AnyLearner,
    Model,
    check_scaling,
    check_shape,
    levels_of,
    make_learner,
    scaled_target,
)
from heliosdb.algorithms.works import EvaluateWork
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.state import State
from heliosdb.domain.task import Task
from heliosdb.domain.vector import Contribution, Matrix, Plain
from heliosdb.privacy.clipping import fold
from heliosdb.scoring.trees import Prepared, add_up

_LEAST_SHARE = 1e-15
"""Of a class: what subtraction has left of less is rounding."""


@dataclass(frozen=True, slots=True)
class TreeEvaluateStep(EvaluateStep):
    """One measurement of the trees that a round has led to. boosts: see `GrowStep`."""

    boosts: bool = False

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work = EvaluateWork.of(task)
        check_scored(task, boosts=self.boosts, covers=False)
        check_shape(task.work, work.size)
        if work.noise_multiplier is not None:
            work.lattice()

    def parameters(self, task: Task) -> int:
        """Return 0: nothing is learned from it but its figures."""
        del task
        return 0

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums of the measure."""
        del memory, draws
        work, rows = EvaluateWork.of(task), table.validation()
        if work.noise_multiplier is not None:
            return measure_privately(row_scores(task, boosts=self.boosts, privately=True), rows, work)
        classes = work.classes
        target = scaled_target(rows, task, classes)
        scores = row_scores(task, boosts=self.boosts)(rows.features)
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


def row_scores(task: Task, *, boosts: bool, privately: bool = False) -> RowScores:
    """Return what scores rows by a task's trees: the log odds of class 1, or the scaled number, (n,); of more
    classes the logarithms of their shares, up to a number of the row, (n, classes).

    privately: whether how many rows there are has no part in how they are scored.
    """
    model, learner = _model(task, boosts=boosts)
    arrays = {**model.to_state(), "levels": np.array(model.levels, dtype=np.int64)}
    found = Prepared(arrays, one_way=privately)

    def scores_of(features: Matrix) -> Matrix:
        outputs = add_up(found, features, boosts=boosts)
        if boosts or not learner.classes:
            return outputs if outputs.shape[1] > 1 else outputs[:, 0]
        shares = np.column_stack([1.0 - fold(outputs.T.copy()), outputs])
        logarithms: Matrix = np.log(np.maximum(shares, _LEAST_SHARE))
        return logarithms if learner.classes > 2 else logarithms[:, 1] - logarithms[:, 0]

    return scores_of


def _model(task: Task, *, boosts: bool) -> tuple[Model, AnyLearner]:
    classes = task.work.settings.get("classes")
    if type(classes) is not int:
        raise invalid_value("the task does not say how many classes its target has")
    learner = make_learner(classes, 0, boosts=boosts)
    return Model.of(task.state, levels_of(task.encoding, task.n_inputs), learner), learner
