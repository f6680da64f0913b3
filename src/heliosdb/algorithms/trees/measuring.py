"""Loss and quality of trees over the held-out rows.

What always holds: as of `EvaluateStep`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.evaluation import EvaluateStep, evaluate_work
from heliosdb.algorithms.measures import LARGEST_LOSS, measure
from heliosdb.algorithms.steps import Draws, Taken
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.grown import LEAF
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
from heliosdb.domain.vector import Contribution, Matrix, Plain, Vector
from heliosdb.scoring.trees import Prepared, add_up


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
        check_scaling(task)
        model, _ = self._model(task, work)
        if set(task.state) != model.names() or np.any(model.trees.feature < LEAF) or not model.trees.count:
            raise invalid_value("the task's trees are not whole")
        check_shape(task.work, work.size)

    def parameters(self, task: Task) -> int:
        """Return 0: nothing is learned from it but its figures."""
        del task
        return 0

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums of the measure."""
        del memory, draws
        work = EvaluateWork.of(task)
        rows = table.validation()
        target = scaled_target(rows, task, work.classes)
        model, learner = self._model(task, work)
        scores = link_scores(rows.features, model, learner)
        losses = np.minimum(_losses(scores, target, work.classes), LARGEST_LOSS)
        sums = measure(work.classes).plain_sums(losses, scores, target)
        return Contribution(sums, max(1.0, float(rows.rows)), Plain())

    def _model(self, task: Task, work: EvaluateWork) -> tuple[Model, AnyLearner]:
        learner = make_learner(work.classes, 0, boosts=self.boosts)
        return Model.of(task.state, levels_of(task.encoding, task.n_inputs), learner), learner


def link_scores(features: Matrix, model: Model, learner: AnyLearner) -> Vector:
    """Return the log odds of class 1, or the scaled number: one score a row."""
    boosts = model.base.size > 0
    levels = np.array(model.levels, dtype=np.int64)
    found = Prepared({**model.to_state(), "levels": levels})
    outputs: Vector = add_up(found, features, boosts=boosts)[:, 0]
    if learner.classes and not boosts:
        log_odds: Vector = np.log(outputs) - np.log1p(-outputs)
        return log_odds
    return outputs


def _losses(scores: Vector, target: Vector, classes: int) -> Vector:
    with np.errstate(over="ignore"):
        losses: Vector = (
            np.logaddexp(0.0, scores) - target * scores if classes else 0.5 * np.square(scores - target)
        )
    return losses
