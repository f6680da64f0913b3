"""More than two classes: log loss, accuracy, and precision, recall and F1 averaged over the classes.

What always holds: an average is over the classes that occur among the held-out rows or their predictions,
each counting the same (macro); a class of them that is never predicted has the precision 0, one that never
occurs the recall 0, as scikit-learn has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
from heliosdb.privacy.plan import CLASSIFICATION_NOISE, AccuracyNoise

_HEAD = 5


@dataclass(frozen=True, slots=True)
class MultiClassification:
    """Of `classes` > 2 classes, which are 0, 1, …

    plain: [rows, loss, loss², classified right, rows whose classes are told, then of these for each class the
    rows classified right, those predicted, those of it].
    """

    classes: int

    @property
    def boxes(self) -> Boxes:
        """Loss, and 1 for right; the cap is as many times the loss of guessing as that of two classes."""
        return Boxes((Box(0.0, LOSS_CAP * math.log(self.classes) / math.log(2.0)), Box(0.0, 1.0)))

    @property
    def plain_size(self) -> int:
        """How many values a plain answer has."""
        return _HEAD + 3 * self.classes

    @property
    def noise(self) -> AccuracyNoise:
        """Return that of two classes: what is right is counted alike."""
        return CLASSIFICATION_NOISE

    def row_values(self, losses: Vector, scores: Matrix, targets: Vector) -> Matrix:
        """Return the loss, and 1 for a row that is classified right."""
        return np.stack([losses, np.argmax(scores, axis=1) == np.rint(targets)])

    def plain_sums(self, losses: Vector, scores: Matrix, targets: Vector) -> Vector:
        """Return the sums; see the class."""
        predicted, actual = np.argmax(scores, axis=1), np.rint(targets).astype(np.int64)
        counted = (predicted[predicted == actual], predicted, actual)
        counts = [np.bincount(one, minlength=self.classes)[: self.classes] for one in counted]
        head = [losses.size, losses.sum(), losses @ losses, counted[0].size, losses.size]
        return np.concatenate([head, *counts]).astype(np.float64)

    def cells(self, scores: Matrix, targets: Vector, counted: Flags) -> Vector:
        """Return of each class the subjects classified right, as it wrongly, and wrongly as another."""
        predicted, actual = np.argmax(scores, axis=1)[counted], np.rint(targets[counted]).astype(np.int64)
        wrong = predicted != actual
        groups = (predicted[~wrong], predicted[wrong], actual[wrong])
        found = np.concatenate([np.bincount(one, minlength=self.classes)[: self.classes] for one in groups])
        return found.astype(np.float64)

    def tell(self, sums: Vector, subjects: Vector, least: int) -> Vector:
        """Return the sums: counts by class are told whole or not."""
        right, predicted, actual = self._counts(sums)
        counts = np.concatenate([right, predicted - right, actual - right])
        if bool(((counts > 0.0) & (subjects < least)).any()):
            return np.concatenate([sums[: _HEAD - 1], np.zeros(1 + counts.size)])
        return sums

    def plain_fault(self, sums: Vector) -> str | None:
        """Say where the counts are not of these rows, or the losses' squares not theirs."""
        rows, loss, squares, all_right, known = map(float, sums[:_HEAD])
        right, predicted, actual = self._counts(sums)
        counts = np.array([right, predicted - right, actual - right])
        untold = known == 0.0 and not np.any(counts) and all_right.is_integer() and 0.0 <= all_right <= rows
        # Classified as another class than theirs are as many rows of one class as there are rows of others.
        possible = predicted + actual - right <= rows
        whole = predicted.sum() == actual.sum() == rows == known and right.sum() == all_right
        if not untold and not (
            whole and np.all(counts >= 0.0) and np.all(counts == np.rint(counts)) and np.all(possible)
        ):
            return f"its counts of classes are not those of {counted(rows, 'row')}"
        return moments_fault(rows, loss, squares, "losses")

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read them; the base rates are those of the held-out rows whose classes are told, and none is quite
        1."""
        del scale
        rows, loss, squares, all_right, known = map(float, sums[:_HEAD])
        if rows < 1.0:
            return NOBODY
        right, predicted, actual = self._counts(sums)
        occurs = predicted + actual > 0.0
        hits, guessed, there = right[occurs], predicted[occurs], actual[occurs]
        figures = Figures(
            loss / rows,
            all_right / rows,
            standard_error(squares / rows - (loss / rows) ** 2, rows),
            share_error(all_right, rows),
            base_loss=_entropy(actual, known) if known else None,
            start_loss=math.log(self.classes),
            precision=_mean_share(hits, guessed) if known else None,
            recall=_mean_share(hits, there) if known else None,
            f1_score=_mean_share(2.0 * hits, guessed + there) if known else None,
        )
        return Evaluation(figures, rows)

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read them: nothing is spent on base rates, so losses are beside that of guessing."""
        del scale
        boxes = self.boxes
        means = boxes.read(total, noise)
        if means is None:
            return nobody_left()
        loss, accuracy = means.values
        spread = math.sqrt(loss * (boxes.boxes[0].upper - loss) / means.count)
        return kept(
            Figures(
                loss,
                accuracy,
                math.hypot(means.error(1.0, 0.0), spread),
                math.hypot(means.error(0.0, 1.0), share_error(accuracy * means.count, means.count)),
                base_loss=math.log(self.classes),
            ),
            means.count,
            self.noise.largest,
        )

    def _counts(self, sums: Vector) -> tuple[Vector, Vector, Vector]:
        right, predicted, actual = sums[_HEAD:].reshape(3, self.classes)
        return right, predicted, actual


def _mean_share(chosen: Vector, of: Vector) -> float:
    """Return the mean of shares, of which one of nothing is 0."""
    return float(np.mean(np.divide(chosen, of, out=np.zeros_like(chosen), where=of > 0.0)))


def _entropy(counts: Vector, rows: float) -> float:
    """Return the log loss of the base rates; where one class has all rows, half a row counts as another's."""
    shares = counts[counts > 0.0] / rows
    if shares.size < 2:
        shares = np.array([rows - 0.5, 0.5]) / rows
    return float(-(shares * np.log(shares)).sum())
