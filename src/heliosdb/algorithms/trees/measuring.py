"""Loss and quality of trees over the held-out rows.

What always holds: as of `EvaluateStep` and `ReportStep`; no model is learned from their answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.evaluation import EvaluateStep, evaluate_work
from heliosdb.algorithms.measures import Evaluation, measure, told_sums
from heliosdb.algorithms.report import ReportStep
from heliosdb.algorithms.reported import loss_of
from heliosdb.algorithms.steps import Draws, Taken
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.trees.grown import COVER, LEAF, NAMES
from heliosdb.algorithms.trees.private_answer import private_target
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
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import State
from heliosdb.domain.task import Task
from heliosdb.domain.update import Moved, Total
from heliosdb.domain.vector import ClippedSum, Contribution, Matrix, Plain
from heliosdb.privacy.mechanisms import Integers, Lattice
from heliosdb.scoring.trees import Prepared, add_up

ROW_CAP = 1024.0
"""A row's loss counts up to this in the mean of its subject, under a budget."""

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
        found = _read(work, gathered)
        return Taken(state, figures=found.figures, notes=found.notes)

    def check(self, task: Task) -> None:
        """Refuse what no table could answer."""
        work = EvaluateWork.of(task)
        check_scored(task, boosts=self.boosts, covers=False)
        check_shape(task.work, work.size)
        if work.noise_multiplier is not None:
            Lattice.of(work.measure.boxes.sensitivity, work.noise_multiplier, work.size)

    def parameters(self, task: Task) -> int:
        """Return 0: nothing is learned from it but its figures."""
        del task
        return 0

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """Return the sums of the measure."""
        del memory, draws
        work, rows = EvaluateWork.of(task), table.validation()
        if work.noise_multiplier is not None:
            return self._privately(rows, task, work, work.noise_multiplier)
        classes = work.classes
        target = scaled_target(rows, task, classes)
        scores = scores_of(rows.features, task, boosts=self.boosts)
        sums = told_sums(measure(classes), loss_of(classes, scores, target), scores, target, rows)
        return Contribution(sums, max(1.0, float(rows.rows)), Plain())

    def _privately(
        self, rows: Table, task: Task, work: EvaluateWork, noise_multiplier: float
    ) -> Contribution:
        boxes, classes = work.measure.boxes, work.classes
        lattice = Lattice.of(boxes.sensitivity, noise_multiplier, boxes.size)

        def values_of(part: Table) -> Matrix:
            target = private_target(part, classes, work.scaling)
            scores = scores_of(part.features, task, boosts=self.boosts)
            return work.measure.row_values(loss_of(classes, scores, target), scores, target)

        def steps_of(part: Table) -> Integers:
            # A row's scores take as much memory as a task says that there are classes.
            values = np.concatenate(part.by_rows(values_of, classes), axis=1)
            means = group_by_subject(part.subjects).means(values, ROW_CAP)
            return lattice.sum_steps(boxes.coordinates(means))

        guard = ClippedSum(boxes.sensitivity, Mechanism(noise_multiplier))
        return Contribution(lattice.total(sum_parts(rows.subject_blocks(), steps_of, np.add)), 1.0, guard)


def _read(work: EvaluateWork, gathered: Total) -> Evaluation:
    scale = work.scaling.target_scale
    if work.noise_multiplier is None:
        return work.measure.read_plain(gathered.vector, scale)
    boxes = work.measure.boxes
    lattice = Lattice.of(boxes.sensitivity, work.noise_multiplier, boxes.size)
    noise = lattice.std * math.sqrt(gathered.noise_count)
    return work.measure.read_private(gathered.vector, noise, scale)


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
