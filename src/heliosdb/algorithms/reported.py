"""What a node answers to a report: counts and sums over its held-out rows, coarse enough to leave.

What always holds: every number is about all held-out rows, about a part of them of at least min_cell subjects
(cells.py), or about all rows of the table; a count of fewer than these is not
told, nor does it follow from those that are and all totals (suppression.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from heliosdb.algorithms import cells
from heliosdb.algorithms.counted_outliers import FAR_OUT
from heliosdb.algorithms.explained import add_contributions
from heliosdb.algorithms.importance import groups_of, growths
from heliosdb.algorithms.measures import LARGEST_LOSS, first_rows, told_sums
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.algorithms.space import slices
from heliosdb.algorithms.suppression import withheld
from heliosdb.algorithms.table import Table
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.scoring.shapley import Explainer

LARGEST_ERROR = 1e150
"""Of one row, in units of the scaled target."""

Scores = Callable[[Matrix], Matrix]
"""(rows, inputs, behind which is an offset where rows have one) → scores, see measures/measure.py."""


def loss_of(classes: int, scores: Matrix, targets: Vector) -> Vector:
    """Return each row's loss: the log loss, or half the squared error; at most `LARGEST_LOSS`."""
    with np.errstate(over="ignore", invalid="ignore"):
        if classes == 0:
            losses = 0.5 * np.square(scores - targets)
        elif classes == 2:
            losses = np.logaddexp(0.0, scores) - targets * scores
        else:
            chosen = scores[np.arange(targets.size), targets.astype(np.int64)]
            losses = np.logaddexp.reduce(scores, axis=1, initial=-np.inf) - chosen
    return np.fmin(losses, LARGEST_LOSS)


def report(
    table: Table,
    task: Task,
    layout: ReportLayout,
    scores_of: Scores,
    rng: np.random.Generator,
    *,
    explain: Explainer | None = None,
) -> Vector:
    """Return the answer; layout.size values. rng: of the shuffles. explain: None where nothing does."""
    scaling = task.scaling
    assert scaling is not None
    rows, vector = table.validation(), np.zeros(layout.size)
    blocks = layout.split(vector)
    targets = (rows.target - scaling.target_mean) / scaling.target_scale
    features = rows.features
    if "offset" in rows.roles:
        # Of each row, whichever of its features are shuffled.
        features = np.column_stack([features, rows.roles["offset"]])
    scores = scores_of(features)
    losses = loss_of(layout.classes, scores, targets)
    with np.errstate(over="ignore", invalid="ignore"):
        blocks["head"][:] = told_sums(layout.measure, losses, scores, targets, rows)
        blocks["quality"][:] = _quality(layout.classes, scores, targets)
    if layout.classes == 2:
        _count_in_cells(blocks, rows, scores)
    elif blocks["confusion"].size:
        _count_confused(blocks["confusion"], rows, scores)
    blocks["shuffled"][:], blocks["importance"][:] = growths(
        features,
        lambda shuffled, known: loss_of(layout.classes, scores_of(shuffled), known),
        targets,
        groups_of(layout.features, task.encoding),
        rng,
    )
    blocks["outliers"][:] = _far_out(table, scaling)
    if explain is not None and layout.contributions != (0, 0):
        blocks["explained"][:], blocks["contributions"][:] = add_contributions(
            rows, explain, *layout.contributions, rng
        )
    return vector


def _quality(classes: int, scores: Matrix, targets: Vector) -> float:
    if classes == 0:
        return float(np.fmin(np.abs(scores - targets), LARGEST_ERROR).sum())
    if classes == 2:
        return float(np.square(_probabilities(scores) - targets).sum())
    shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True, initial=-np.inf))
    shares[np.arange(targets.size), targets.astype(np.int64)] -= 1.0
    return float(np.square(shares).sum())


def _probabilities(scores: Vector) -> Vector:
    found: Vector = 0.5 * (1.0 + np.tanh(0.5 * scores))
    return found


def _count_in_cells(blocks: dict[str, Vector], rows: Table, scores: Vector) -> None:
    where, positive = cells.place(scores), rows.target > 0.5
    weights = (~positive, positive, _probabilities(scores))
    counted = np.stack([np.bincount(where, one, minlength=cells.CELLS).astype(np.float64) for one in weights])
    # Of a subject that has several rows one place counts, so that a part holds no fewer subjects than places.
    firsts = first_rows(rows)
    starts = cells.cut(where[firsts], rows.min_cell)
    subjects = [np.bincount(where, firsts & one, minlength=cells.CELLS) for one in (~positive, positive)]
    by_part = [np.add.reduceat(one, starts, axis=1) for one in (counted[:2], np.stack(subjects))]
    groups = cells.join(by_part[0], by_part[1], rows.min_cell)
    if groups is None:
        return
    told = cells.tell(counted, starts, groups)
    blocks["cells"][:] = told
    exact = cells.ordered_pairs_of_rows(scores, positive)
    positives = float(np.count_nonzero(positive))
    own = positives * (rows.rows - positives)
    blocks["correction"][:] = exact - cells.ordered_pairs(told[0], told[1]), own


def _count_confused(confusion: Matrix, rows: Table, scores: Matrix) -> None:
    """Count rows by predicted and actual class, but for cells that are not told; of none where all totals
    together would tell one."""
    predicted, actual = np.argmax(scores, axis=1), rows.target.astype(np.int64)
    counts, subjects = np.zeros(confusion.shape), np.zeros(confusion.shape)
    np.add.at(counts, (predicted, actual), 1.0)
    np.add.at(subjects, (predicted, actual), first_rows(rows).astype(np.float64))
    confusion[:] = np.where(withheld(counts, subjects, rows.min_cell), 0.0, counts)


def _far_out(table: Table, scaling: Scaling) -> Vector:
    """Return how many rows of each input lie far out: none where it is fewer than min_cell subjects' or all
    but so few."""
    counts = np.zeros(table.features.shape[1])
    for place, (mean, scale) in enumerate(zip(scaling.means, scaling.scales, strict=True)):
        column, far = table.features[:, place], np.empty(table.rows, dtype=np.bool_)
        for block in slices(table.rows):
            with np.errstate(over="ignore", invalid="ignore"):
                far[block] = np.abs((column[block] - mean) / scale) > FAR_OUT
            table.space.rest(far[block].size * table.features.shape[1] * 8)
        if all(_are_several(table.subjects[one], table.min_cell) for one in (far, ~far)):
            counts[place] = np.count_nonzero(far)
    return counts


def _are_several(subjects: cells.Places, least: int) -> bool:
    """Whether rows are of as many subjects as may be told of; of many rows a few say so."""
    return np.unique(subjects[: 100 * least]).size >= least or np.unique(subjects).size >= least
