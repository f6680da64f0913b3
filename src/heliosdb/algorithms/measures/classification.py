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
from heliosdb.domain.events import Figures
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.domain.wording import counted
from heliosdb.privacy.plan import CLASSIFICATION_NOISE


class Classification:
    """Of two classes: accuracy, precision, recall and F1.

    plain: [rows, loss, loss², true positives, predicted positives, positives].
    """

    boxes = Boxes((Box(0.0, LOSS_CAP), Box(0.0, 1.0)))
    plain_size = 6
    noise = CLASSIFICATION_NOISE

    def row_values(self, losses: Vector, scores: Vector, targets: Vector) -> Matrix:
        """Return the loss, and 1 for a row that is classified right."""
        return np.stack([losses, (scores > 0) == (targets > 0.5)])

    def plain_sums(self, losses: Vector, scores: Vector, targets: Vector) -> Vector:
        """Return the sums; see the class."""
        predicted, positive = scores > 0, targets > 0.5
        counts = [np.count_nonzero(one) for one in (predicted & positive, predicted, positive)]
        return np.array([losses.size, losses.sum(), losses @ losses, *counts], dtype=np.float64)

    def plain_fault(self, sums: Vector) -> str | None:
        """Say where the counts are not of these rows, or the losses' squares not theirs."""
        rows, loss, squares, right, predicted, positives = map(float, sums)
        counts = (right, predicted - right, positives - right, rows - predicted - positives + right)
        if not all(count >= 0.0 and count.is_integer() for count in counts):
            return f"its counts of classes are not those of {counted(rows, 'row')}"
        return moments_fault(rows, loss, squares, "losses")

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read them: the base rate is that of the held-out rows, and never quite 0 or 1."""
        rows, loss, squares, hits, predicted, positives = map(float, sums)
        if rows < 1.0:
            return NOBODY
        right = rows - predicted - positives + 2.0 * hits
        rate = min(max(positives, 0.5), rows - 0.5) / rows
        figures = Figures(
            loss / rows,
            right / rows,
            standard_error(squares / rows - (loss / rows) ** 2, rows),
            share_error(right, rows),
            base_loss=-rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate),
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


CLASSIFICATION = Classification()
