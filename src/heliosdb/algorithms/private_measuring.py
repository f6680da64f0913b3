"""Held-out rows measured under a privacy budget: one way for every algorithm that scores rows one by one.

What always holds: what a subject adds is a function of its own rows, to the last bit, and no longer than the
measure's boxes say; a row's loss is a function of its score and its target; whatever the rows are, it is
computed.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import Protocol, runtime_checkable

import numpy as np

from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.columns import private_targets
from heliosdb.algorithms.measures import Evaluation
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.works import EvaluateWork
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.task import Task
from heliosdb.domain.vector import ClippedSum, Contribution, Matrix, Vector
from heliosdb.privacy.clipping import fold
from heliosdb.privacy.mechanisms import Integers

ROW_CAP = 1024.0
"""A row's loss counts up to this in the mean of its subject."""

RowScores = Callable[[Matrix], Matrix]
"""(rows, inputs) → the scores of rows, as measures/measure.py has them: (rows,), of more than two classes
(rows, classes). Each row's is a function of that row, to the last bit, whichever other rows there are, and
nothing is raised, whatever is in one."""


@runtime_checkable
class ScoresRows(Protocol):
    """An algorithm whose model scores each row by itself, as a computation under a budget has to."""

    def private_scores(self, task: Task) -> RowScores:
        """Node: what scores rows by the task's state."""
        ...


def measure_privately(scores_of: RowScores, rows: Table, work: EvaluateWork) -> Contribution:
    """Return the sum over the subjects of some rows of their means of the measure's values, in whole steps of
    the lattice of its noise, which the release door adds."""
    assert work.noise_multiplier is not None
    measure, classes, lattice = work.measure, work.classes, work.lattice()

    def values_of(some: Table) -> Matrix:
        targets, scores = private_targets(some.target, work.scaling, classes), scores_of(some.features)
        return measure.row_values(row_losses(classes, scores, targets, ROW_CAP), scores, targets)

    def steps_of(some: Table) -> Integers:
        # A row's scores take as much memory as a task says that there are classes.
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.concatenate(some.by_rows(values_of, classes), axis=1)
        means = group_by_subject(some.subjects).means(values, ROW_CAP)
        return lattice.sum_steps(measure.boxes.coordinates(means))

    mechanism = Mechanism(work.noise_multiplier, noise=work.noise)
    total = lattice.total(sum_parts(rows.subject_blocks(), steps_of, add))
    return Contribution(total, 1.0, ClippedSum(measure.boxes.norm(work.noise), mechanism))


def row_losses(classes: int, scores: Matrix, targets: Vector, most: float) -> Vector:
    """Return each row's loss between 0 and `most`, by additions in an order that only the number of classes
    decides; (rows,) or (rows, classes), (rows,) → (rows,)."""
    if classes == 0:
        losses = 0.5 * np.square(scores - targets)
    elif classes == 2:
        losses = np.logaddexp(0.0, scores) - targets * scores
    else:
        columns = np.ascontiguousarray(scores.T)
        highest = np.maximum.reduce(columns, axis=0)
        own = columns[targets.astype(np.int64), np.arange(targets.size)]
        losses = np.log(fold(np.exp(columns - highest))) + (highest - own)
    # fmin, fmax: what is no number counts as the largest.
    found: Vector = np.fmax(np.fmin(losses, most), 0.0)
    return found


def read_evaluation(total: Vector, work: EvaluateWork, noise_variance: float) -> Evaluation:
    """Read the sum of nodes' evaluations. noise_variance: of its noise, one node's whole noise having 1."""
    scale = work.scaling.target_scale
    if work.noise_multiplier is None:
        return work.measure.read_plain(total, scale)
    return work.measure.read_private(total, work.lattice().std_of_sum(noise_variance), scale)
