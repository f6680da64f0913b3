"""What noised counts of scores by class say: shares, the area under the ROC curve, the curve, calibration.

What always holds: an error is that of the noise, by the figure's derivatives (exact for what is linear in the
counts), and of the held-out subjects as a sample; a figure whose denominator noise has drowned has the error
infinity; what a curve is made of rises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliosdb.algorithms.private_layout import EDGES
from heliosdb.domain.vector import Matrix, Vector

TENTHS = 10

_DROWNED = 2.0
"""Standard deviations of its noise: what is smaller divides nothing."""

_ENDS = 4.0
"""Log-odds for which the cells at the ends count as wide."""

_PROBABILITIES = np.concatenate([[0.0], 0.5 * (1.0 + np.tanh(0.5 * EDGES)), [1.0]])
_WIDTHS = np.concatenate([[_ENDS], np.diff(EDGES), [_ENDS]])

LARGEST_OBSERVED_ERROR = 0.25
"""Of the share of positives in a tenth of probability: beyond it the tenth says nothing."""


@dataclass(frozen=True, slots=True)
class Noised:
    """Noised counts of subjects' shares of rows in cells. deviation: of the noise in each."""

    counts: Matrix
    deviation: float

    @property
    def middles(self) -> Vector:
        """The probability that a cell of scores stands for: its middle."""
        middles: Vector = 0.5 * (_PROBABILITIES[1:] + _PROBABILITIES[:-1])
        return middles

    def mean(self, values: Matrix, of: Matrix) -> tuple[float, float]:
        """Return the mean of the cells' values, each cell counting as `of` says, and the noise's error."""
        count = float((self.counts * of).sum())
        if count <= _DROWNED * self.deviation * math.sqrt(float(np.square(of).sum())) or count <= 0.0:
            return math.nan, math.inf
        mean = float((self.counts * values).sum()) / count
        slopes = (values - mean * of) / count
        return mean, self.deviation * math.sqrt(float(np.square(slopes).sum()))

    def share(self, chosen: Matrix, of: Matrix) -> tuple[float, float]:
        """Return which share of some cells others of them are, and its standard error."""
        return self.mean_share([(chosen, of)])

    def mean_share(self, shares: Sequence[tuple[Matrix, Matrix]]) -> tuple[float, float]:
        """Return the mean of shares, each of what is chosen in what it is of, and its standard error.

        The error is by the derivatives of the whole mean by the cells: a cell may be in several shares (a row
        of a class taken for another is in both classes' F1), and count twice in one. Beside what the sample
        says of itself each share has two rows on either side, as with Agresti and Coull 1998: not 0 where all
        or none are chosen.
        """
        found, slopes, unseen = [], np.zeros(self.counts.shape), 0.0
        for chosen, of in shares:
            mean, noise = self.mean(chosen, of)
            if not math.isfinite(noise):
                return mean, noise
            share, count = min(1.0, max(0.0, mean)), float((self.counts * of).sum())
            found.append(share)
            slopes += (chosen - share * of) / (count * len(shares))
            unseen += 2.0 * ((1.0 - share) ** 2 + share**2) / (count * len(shares)) ** 2
        # Of homogeneous figures the mean of the slopes over rows is 0: the mean square is the variance.
        squares = np.square(slopes)
        sampled = max(0.0, float((self.counts * squares).sum())) + unseen
        return float(np.mean(found)), math.sqrt(self.deviation**2 * float(squares.sum()) + sampled)


def auc(cells: Noised) -> tuple[float, float]:
    """Return the area under the ROC curve, and its standard error.

    Pairs in one cell count half; the sum over pairs is linear in either class's counts, whose noises are
    independent, so that noise alone leaves it unbiased. The error adds up the noise's (by derivatives), the
    sample's (Hanley and McNeil 1982) and what is lost in the cells: by as much as a calibrated model's order
    within a cell of that width is better than chance, a twelfth of the width in log-odds.
    """
    negatives, positives = cells.counts
    counts = [float(negatives.sum()), float(positives.sum())]
    if min(counts) <= max(1.0, _DROWNED * cells.deviation * math.sqrt(negatives.size)):
        return math.nan, math.inf
    below = np.cumsum(negatives) - 0.5 * negatives
    above = float(positives.sum()) - np.cumsum(positives) + 0.5 * positives
    pairs = counts[0] * counts[1]
    area = float(below @ positives) / pairs
    slopes = np.concatenate([above / pairs - area / counts[0], below / pairs - area / counts[1]])
    noise = cells.deviation * math.sqrt(float(np.square(slopes).sum()))
    together = np.maximum(0.0, negatives) * np.maximum(0.0, positives)
    lost = float((together * _WIDTHS).sum()) / (12.0 * pairs)
    area = min(1.0, max(0.0, area))
    return area, math.hypot(noise, _sampled(area, *counts), lost)


def _sampled(area: float, negatives: float, positives: float) -> float:
    positive_term = (positives - 1.0) * (area / (2.0 - area) - area * area)
    negative_term = (negatives - 1.0) * (2.0 * area * area / (1.0 + area) - area * area)
    # At an area of 1 a sample says nothing of its own error: as if one pair of four were wrong by half.
    pairs = negatives * positives
    least = 0.25 / (negatives + positives) ** 2
    variance = (area * (1.0 - area) + positive_term + negative_term) / pairs
    return math.sqrt(max(least, variance))


def roc(cells: Noised) -> list[list[float | None]]:
    """Return [threshold, false positive rate, true positive rate, their standard errors], the threshold
    falling from none; both rates rise from 0 to 1."""
    edges: list[float | None] = [None, *(float(one) for one in _PROBABILITIES[-2:0:-1]), 0.0]
    columns = []
    for place, counts in enumerate(cells.counts):
        of = np.zeros(cells.counts.shape)
        of[place] = 1.0
        shares = [(0.0, 0.0)]
        for first in range(counts.size - 1, 0, -1):
            shares.append(cells.share(of * (np.arange(counts.size) >= first), of))
        shares.append((1.0, 0.0))
        rates, errors = np.array(shares).T
        risen = np.clip(rising(rates), 0.0, 1.0)
        # Where it begins and ends is no sum, and has no rounding.
        risen[0], risen[-1] = 0.0, 1.0
        columns.append((risen, errors))
    (false, false_errors), (true, true_errors) = columns
    lines = zip(
        edges, false.tolist(), true.tolist(), false_errors.tolist(), true_errors.tolist(), strict=True
    )
    return [list(line) for line in lines]


def rising(values: Vector) -> Vector:
    """Return the rising sequence that is nearest in squares (isotonic regression, by its min-max formula)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first, last = np.arange(values.size)[:, None], np.arange(values.size)[None, :]
    means = np.where(first <= last, (sums[last + 1] - sums[first]) / np.maximum(1, last - first + 1), np.inf)
    # Of each start the least mean from each end on; of each place the largest of all starts before it.
    least = np.minimum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
    best: Vector = np.maximum.accumulate(least, axis=0).diagonal().copy()
    return best


def calibration(cells: Noised) -> list[list[Any]]:
    """Return [tenth, mean probability, share of positives, subjects, errors of the last two] of the tenths of
    probability; null where noise has left no share. The mean is of the cells' middles."""
    found: list[list[Any]] = []
    for number, inside in enumerate(_tenths(cells), 1):
        count = float((cells.counts * inside).sum())
        error = cells.deviation * math.sqrt(float(inside.sum()))
        observed = _observed(cells, inside)
        if observed is None:
            found.append([number, None, None, max(0, round(count)), None, error])
        else:
            predicted, share, its = observed
            found.append([number, predicted, share, max(0, round(count)), its, error])
    return found


def calibration_error(cells: Noised) -> dict[str, float]:
    """Return the root of the mean square by which shares of positives are off their mean probability, over
    the tenths that are told, less what noise and sample alone make of it; {} where there is none."""
    weights, squares, variances = [], [], []
    for inside in _tenths(cells):
        observed = _observed(cells, inside)
        if observed is not None:
            predicted, share, error = observed
            weights.append(float((cells.counts * inside).sum()))
            squares.append((share - predicted) ** 2)
            variances.append(error * error)
    if not weights:
        return {}
    parts, off, spread = np.array(weights) / sum(weights), np.array(squares), np.array(variances)
    square = float(parts @ (off - spread))
    error = math.sqrt(float(np.square(parts) @ (2.0 * np.square(spread) + 4.0 * off * spread)))
    root = math.sqrt(max(0.0, square))
    return {
        "calibration_error": root,
        "calibration_error_std_error": error / (2.0 * root) if square > error else math.sqrt(error),
    }


def _tenths(cells: Noised) -> list[Matrix]:
    """Which cells lie in each tenth of probability, both classes'."""
    tenth = np.minimum((cells.middles * TENTHS).astype(int), TENTHS - 1)
    return [np.ones(cells.counts.shape) * (tenth == number) for number in range(TENTHS)]


def _observed(cells: Noised, inside: Matrix) -> tuple[float, float, float] | None:
    """Return mean probability, share of positives and its standard error in some cells."""
    share, error = cells.share(inside * np.array([[0.0], [1.0]]), inside)
    if error > LARGEST_OBSERVED_ERROR:
        return None
    each = np.maximum(0.0, (cells.counts * inside).sum(axis=0))
    if not each.sum() > 0.0:
        return None
    return float(each @ cells.middles / each.sum()), share, error
