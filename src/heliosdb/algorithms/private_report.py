"""What a node answers to a report under a budget, on the held-out subjects.

What always holds: what a subject adds is a function of its own rows, to the last bit, and no longer than
`PrivateLayout.sensitivity`, but for one rounding to the lattice a coordinate; a row's scores and losses are
functions of that row, whichever others there are; whatever the rows are, it is computed. So an algorithm has
this report where it scores rows one by one (`ScoresRows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add

import numpy as np

from heliosdb.algorithms.blockwise import sum_parts
from heliosdb.algorithms.columns import private_targets
from heliosdb.algorithms.private_layout import (
    CELLS,
    EDGES,
    LARGEST_NORM,
    MOST_CLASSES,
    PrivateLayout,
    largest_loss,
)
from heliosdb.algorithms.private_measuring import RowScores, ScoresRows, row_losses
from heliosdb.algorithms.reference_points import Points, reference_points
from heliosdb.algorithms.space import rows_at_once, slices
from heliosdb.algorithms.table import Codes, Grouping, Table, group_by_subject, starts_of_runs
from heliosdb.algorithms.works import PrivateReportWork
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.task import Task
from heliosdb.domain.vector import ClippedSum, Contribution, Dtype, Matrix, Vector
from heliosdb.domain.wording import counted
from heliosdb.privacy.clipping import clip_steps
from heliosdb.privacy.mechanisms import Integers, Lattice

_ROW_CAP = 16.0
"""A row's growth of loss, or error, counts up to this in the mean of its subject: a power of two beyond every
cap."""

_CELL_BITS = 11
"""Cells of a histogram: fewer than 2^11, of 32 classes 1,024."""


def check_private_report(task: Task) -> None:
    """Raise FederatedError where no table could answer: 22023, 0A000, or 54000 for more noise than the
    lattice takes. The task's state was checked."""
    work = PrivateReportWork.of(task)
    if work.classes > MOST_CLASSES:
        raise not_supported(
            f"under a privacy_budget there is no report of more than {MOST_CLASSES} classes yet"
        )
    layout = _layout_at_node(task)
    if task.work.dtype is not Dtype.FLOAT64 or task.work.size != layout.size:
        size = counted(layout.size, "value")
        raise invalid_value(f"a report of this model under a privacy_budget has {size} of float64")
    Lattice.of(layout.sensitivity, work.noise_multiplier, layout.size)


def private_sensitivity(task: Task) -> float:
    """Return how far a data subject moves the answer."""
    return _layout_at_node(task).sensitivity


def _layout_at_node(task: Task) -> PrivateLayout:
    return PrivateLayout(PrivateReportWork.of(task).classes, len(task.reading.features))


def report_privately(method: ScoresRows, table: Table, task: Task) -> Contribution:
    """Return the sum over the held-out subjects, in whole steps of the lattice of its noise."""
    work, layout = PrivateReportWork.of(task), _layout_at_node(task)
    lattice = Lattice.of(layout.sensitivity, work.noise_multiplier, layout.size)
    scores_of = method.private_scores(task)

    def steps_of(rows: Table) -> Integers:
        return report_steps(scores_of, rows, task, layout, lattice)

    steps = sum_parts(table.validation().subject_blocks(), steps_of, add)
    guard = ClippedSum(layout.sensitivity, Mechanism(work.noise_multiplier))
    return Contribution(lattice.total(steps), 1.0, guard)


def report_steps(
    scores_of: RowScores, rows: Table, task: Task, layout: PrivateLayout, lattice: Lattice
) -> Integers:
    """Return what some subjects, each with all of its rows, add in lattice steps; (layout.size,)."""
    grouping, targets = group_by_subject(rows.subjects), _targets(rows, task, layout)
    with np.errstate(over="ignore", invalid="ignore"):
        scored = rows.by_rows(lambda some: scores_of(some.features), layout.classes)
        figures = _figures(layout, np.concatenate(scored), targets, grouping, lattice)
        (shown,) = layout.shapes["growths"]
        steps = np.empty((shown, grouping.subjects), dtype=np.int64)
        points = list(reference_points(task)) if shown else []
        # One subject may have all rows: so many features at a time that theirs take no more than a block.
        for some in slices(shown, rows_at_once(rows.rows)):
            growths = _growths(scores_of, rows, task, layout, points[some])
            steps[some] = np.rint(grouping.means(growths, _ROW_CAP) / lattice.step).astype(np.int64)
    clipped = clip_steps(steps, LARGEST_NORM / lattice.step) if len(steps) else steps
    return np.concatenate([figures, clipped.astype(np.int64).sum(axis=1)])


def _targets(rows: Table, task: Task, layout: PrivateLayout) -> Vector:
    assert task.scaling is not None
    return private_targets(rows.target, task.scaling, layout.classes)


def _figures(
    layout: PrivateLayout, scores: Matrix, targets: Vector, grouping: Grouping, lattice: Lattice
) -> Integers:
    if layout.classes == 2:
        # An edge belongs to the cell below it: above even odds the second class is predicted. NaN is last.
        cells = np.searchsorted(EDGES, scores).astype(np.int64)
        return share_steps(cells + CELLS * targets.astype(np.int64), 2 * CELLS, grouping, lattice)
    if layout.classes:
        confused = np.argmax(scores, axis=1) * layout.classes + targets.astype(np.int64)
        return share_steps(confused, layout.classes**2, grouping, lattice)
    sizes = np.abs(scores - targets)
    halves = 0.5 * np.square(targets)
    values = np.stack([sizes, 0.5 * np.square(sizes), halves, targets])
    coordinates = layout.boxes.coordinates(grouping.means(np.nan_to_num(values, nan=_ROW_CAP), 1024.0))
    return lattice.sum_steps(coordinates)


def _growths(
    scores_of: RowScores, rows: Table, task: Task, layout: PrivateLayout, points: Sequence[Points]
) -> Matrix:
    """Return by how much each row's loss grows where a feature is replaced; (features, rows). points: what
    each of these features is replaced by."""
    classes, most = layout.classes, largest_loss(layout.classes)

    def growths_of(some: Table) -> Matrix:
        growths, features = np.zeros((len(points), some.rows)), np.array(some.features)
        targets = _targets(some, task, layout)

        def losses() -> Vector:
            return row_losses(classes, scores_of(features), targets, most)

        before = losses()
        for place, one in enumerate(points):
            for values, weight in zip(one.values, one.weights.tolist(), strict=True):
                features[:, one.inputs] = values
                growths[place] += weight * losses()
            features[:, one.inputs] = some.features[:, one.inputs]
            growths[place] -= before
        return growths

    return np.concatenate(rows.by_rows(growths_of, classes), axis=1)


def share_steps(cells: Codes, count: int, grouping: Grouping, lattice: Lattice) -> Integers:
    """Return the sum of the subjects' shares in each of `count` cells, a subject's rows having a total share
    of 1; cells: of each row.

    A subject's rows in a cell are counted, and their share rounded once.
    """
    if grouping.order is None:
        return np.bincount(cells, minlength=count) * lattice.sum_steps(np.ones((1, 1)))
    places = np.repeat(np.arange(grouping.subjects) << _CELL_BITS, grouping.sizes)
    places |= cells[grouping.order]
    places.sort(kind="stable")
    starts = starts_of_runs(places)
    counts = np.diff(starts, append=places.size)
    subject, cell = places[starts] >> _CELL_BITS, places[starts] & ((1 << _CELL_BITS) - 1)
    shares = np.rint(counts / grouping.sizes[subject] / lattice.step).astype(np.int64)
    total = np.zeros(count, dtype=np.int64)
    np.add.at(total, cell, shares)
    return total
