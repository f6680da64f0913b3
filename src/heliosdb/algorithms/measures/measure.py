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

from heliosdb.algorithms.measures.boxes import Boxes
from heliosdb.algorithms.measures.evaluation import Evaluation
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.plan import AccuracyNoise


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

    def plain_fault(self, sums: Vector) -> str | None:
        """Say what no rows can have led to in a plain answer; None for nothing."""
        ...

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read the sum of plain answers. scale: of the target, in its own units."""
        ...

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read the sum of private answers. noise: the standard deviation in each coordinate of it."""
        ...
