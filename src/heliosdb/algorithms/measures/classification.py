"""Two classes: log loss, accuracy, precision, recall and F1.

What always holds: figures of classes are of the second one, which is called positive.
"""

from __future__ import annotations

import math

import numpy as np

from heliosdb.algorithms.measures.boxes import LOSS_CAP, Box, Boxes
from heliosdb.algorithms.measures.evaluation import (
    NOBODY,
    Evaluation,
    kept,
    moments_fault,
    nobody_left,
    share_error,
    standard_error,
)
from heliosdb.algorithms.measures.measure import Flags
from heliosdb.domain.events import Figures
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.domain.wording import counted
from heliosdb.privacy.plan import CLASSIFICATION_NOISE


class Classification:
    """Of two classes: accuracy, precision, recall and F1.

    plain: [rows, loss, loss², classified right, rows whose classes are told, then of these true positives,
    predicted positives, positives].
    """

    boxes = Boxes((Box(0.0, LOSS_CAP), Box(0.0, 1.0)))
    plain_size = 8
    noise = CLASSIFICATION_NOISE

    def row_values(self, losses: Vector, scores: Vector, targets: Vector) -> Matrix:
        """Return the loss, and 1 for a row that is classified right."""
        return np.stack([losses, (scores > 0) == (targets > 0.5)])

    def plain_sums(self, losses: Vector, scores: Vector, targets: Vector) -> Vector:
        """Return the sums; see the class."""
        predicted, positive = scores > 0, targets > 0.5
        right = np.count_nonzero(predicted == positive)
        counts = [np.count_nonzero(one) for one in (predicted & positive, predicted, positive)]
        head = [losses.size, losses.sum(), losses @ losses, right, losses.size]
        return np.array([*head, *counts], dtype=np.float64)

    def cells(self, scores: Vector, targets: Vector, counted: Flags) -> Vector:
        """Return the subjects of the four cells."""
        predicted, positive = scores > 0, targets > 0.5
        cells = (predicted & positive, predicted & ~positive, ~predicted & positive, ~predicted & ~positive)
        return np.array([np.count_nonzero(cell & counted) for cell in cells], dtype=np.float64)

    def tell(self, sums: Vector, subjects: Vector, least: int) -> Vector:
        """Return the sums: of four cells all are told or none, since three and the totals tell the fourth."""
        counts = _cells_of(sums)
        if bool(((counts > 0.0) & (subjects < least)).any()):
            return np.concatenate([sums[:4], np.zeros(4)])
        return sums

    def plain_fault(self, sums: Vector) -> str | None:
        """Say where the counts are not of these rows, or the losses' squares not theirs."""
        rows, loss, squares, right, known = map(float, sums[:5])
        counts = _cells_of(sums)
        whole = bool(np.all(counts >= 0.0)) and bool(np.all(counts == np.rint(counts)))
        told = known == rows and right == float(counts[0] + counts[3])
        untold = known == 0.0 and not np.any(counts) and right.is_integer() and 0.0 <= right <= rows
        if not (whole and (told or untold)):
            return f"its counts of classes are not those of {counted(rows, 'row')}"
        return moments_fault(rows, loss, squares, "losses")

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read them: the base rate is that of the held-out rows whose classes are told, and never quite 0 or
        1."""
        rows, loss, squares, right, known, hits, predicted, positives = map(float, sums)
        if rows < 1.0:
            return NOBODY
        rate = min(max(positives, 0.5), known - 0.5) / known if known else 0.5
        figures = Figures(
            loss / rows,
            right / rows,
            standard_error(squares / rows - (loss / rows) ** 2, rows),
            share_error(right, rows),
            base_loss=-rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate) if known else None,
            start_loss=math.log(2.0),
            precision=hits / predicted if predicted else None,
            recall=hits / positives if positives else None,
            f1_score=2.0 * hits / (predicted + positives) if predicted + positives else None,
        )
        return Evaluation(figures, rows)

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read them: nothing is spent on a base rate, so losses are beside that of tossing a coin."""
        means = self.boxes.read(total, noise)
        if means is None:
            return nobody_left()
        loss, accuracy = means.values
        # No variance of losses is released: the largest that values between 0 and the cap can have.
        spread = math.sqrt(loss * (LOSS_CAP - loss) / means.count)
        return kept(
            Figures(
                loss,
                accuracy,
                math.hypot(means.error(1.0, 0.0), spread),
                math.hypot(means.error(0.0, 1.0), share_error(accuracy * means.count, means.count)),
                base_loss=math.log(2.0),
            ),
            means.count,
            self.noise.largest,
        )


def _cells_of(sums: Vector) -> Vector:
    """Return true and false positives, false and true negatives."""
    known, hits, predicted, positives = map(float, sums[4:])
    return np.array([hits, predicted - hits, positives - hits, known - predicted - positives + hits])


CLASSIFICATION = Classification()
