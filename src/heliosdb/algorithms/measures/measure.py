"""How predictions are measured on held-out rows: which sums nodes add up, and which figures these lead to.

What always holds: a plain answer is sums over rows; a private one is sums over subjects (see boxes.py); every
figure has the standard error that the held-out rows (as a sample) and the noise give it, or is None, with a
note where noise is why.

Scores. Of two classes: the log-odds of the second, (rows,). Of more: (rows, classes), the logarithms of the
classes' probabilities up to a number of the row; the class with the largest is predicted, of equals the
first. Of a number: the prediction, in units of the scaled target. Losses: the log loss, or half the squared
error.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.measures.boxes import Boxes
from heliosdb.algorithms.measures.evaluation import Evaluation
from heliosdb.algorithms.table import Table
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.plan import AccuracyNoise

Flags = NDArray[np.bool_]


def first_rows(rows: Table, *, are_all: bool = True) -> Flags:
    """Say which rows are the first of their data subject, (n,). are_all: whether there are no further rows of
    the table before these; else the first of them counts as none: its subject may be counted already."""
    subjects = rows.subjects
    found = np.zeros(rows.rows, dtype=np.bool_)
    if bool(np.all(subjects[1:] >= subjects[:-1])):
        found[1:] = subjects[1:] != subjects[:-1]
        found[:1] = are_all
        return found
    found[np.unique(subjects, return_index=True)[1]] = True
    return found


class Measure(Protocol):
    """What is summed over held-out rows beside their loss, and what is read from it."""

    @property
    def boxes(self) -> Boxes:
        """The coordinates of a private answer."""
        ...

    @property
    def plain_size(self) -> int:
        """How many values a plain answer has."""
        ...

    @property
    def noise(self) -> AccuracyNoise:
        """What a plan has to know of the accuracy's error."""
        ...

    def row_values(self, losses: Vector, scores: Vector, targets: Vector) -> Matrix:
        """Return what a private answer averages over each subject's rows; (rows,) → (values, rows)."""
        ...

    def plain_sums(self, losses: Vector, scores: Vector, targets: Vector) -> Vector:
        """Return the sums of a plain answer, the count first."""
        ...

    def cells(self, scores: Vector, targets: Vector, counted: Flags) -> Vector:
        """Return how many of the counted rows are in each cell of the confusion of classes, (cells,); of a
        number there are none. counted: the first row of each data subject, see `first_rows`."""
        ...

    def tell(self, sums: Vector, subjects: Vector, least: int) -> Vector:
        """Return the sums as they may leave: without counts of classes where one, or what is left of the
        totals, is of fewer than `least` data subjects. subjects: those of `cells`, of all rows."""
        ...

    def plain_fault(self, sums: Vector) -> str | None:
        """Say what no rows can have led to in a plain answer; None for nothing."""
        ...

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read the sum of plain answers. scale: of the target, in its own units."""
        ...

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read the sum of private answers. noise: the standard deviation in each coordinate of it."""
        ...


def told_sums(how: Measure, losses: Vector, scores: Vector, targets: Vector, rows: Table) -> Vector:
    """Return the sums of a plain answer about all held-out rows, as they may leave under the table's
    min_cell."""
    subjects = how.cells(scores, targets, first_rows(rows))
    return how.tell(how.plain_sums(losses, scores, targets), subjects, rows.min_cell)
