"""How probabilities would have to be corrected to be those of the rows: Cox's recalibration.

What always holds: the corrected log-odds of the second class are intercept + slope * log-odds (Cox 1958), by
maximum likelihood: 0 and 1 where nothing is to be corrected. What has no finite estimate is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_MOST_STEPS = 50
_CLOSE = 1e-10
"""Steps end where they move neither number by more."""

_FLAT = 1e-12
"""A curvature that is this part of what it could be has no maximum that can be told from a line's."""


class Recalibration:
    """The estimate over all rows, and by a step of Newton's from there over the same rows weighed otherwise.

    One step is as good an estimate as many where rows are drawn from those of the first (Moulton and Zeger
    1991, Computational Statistics & Data Analysis 11), and is of five sums over rows.
    """

    def __init__(self, log_odds: Vector, is_positive: NDArray[np.bool_]) -> None:
        """(n,) each, the log-odds finite."""
        self._log_odds = log_odds
        self._target = is_positive.astype(np.float64)
        self.estimate = np.full(2, np.nan)
        self.values = np.zeros((log_odds.size, 5))

    def prepare(self, weights: Vector) -> Iterator[None]:
        """Find the estimate, a step at a time; `values` are then what its next step sums over rows."""
        rate = float(weights @ self._target / weights.sum())
        if not 0.0 < rate < 1.0:
            return
        estimate, likelihood = np.array([math.log(rate) - math.log1p(-rate), 0.0]), -math.inf
        step = np.zeros(2)
        for _ in range(_MOST_STEPS):
            found = self._likelihood(estimate + step, weights)
            if found < likelihood - _CLOSE * abs(likelihood):
                step *= 0.5
            else:
                estimate, likelihood = estimate + step, found
                self._evaluate(estimate)
                step = _step(weights @ self.values)
                if not np.isfinite(step).all():
                    return
                if np.abs(step).max() <= _CLOSE:
                    self.estimate = estimate
                    return
            yield

    def again(self, sums: Vector) -> Vector:
        """Return intercept and slope of rows that weigh otherwise; sums: `values` by their weights, (5,)."""
        return self.estimate + _step(sums)

    def _likelihood(self, estimate: Vector, weights: Vector) -> float:
        scores = estimate[0] + estimate[1] * self._log_odds
        return -float(weights @ (np.logaddexp(0.0, scores) - self._target * scores))

    def _evaluate(self, estimate: Vector) -> None:
        """Fill in what the next step is made of: residual and weight, alone and by the log-odds; (n, 5)."""
        odds = self._log_odds
        halves = np.tanh(0.5 * (estimate[0] + estimate[1] * odds))
        residual, weight = self._target - 0.5 - 0.5 * halves, 0.25 * (1.0 - halves * halves)
        for place, one in enumerate((residual, residual * odds, weight, weight * odds, weight * odds * odds)):
            self.values[:, place] = one


def _step(sums: Vector) -> Vector:
    """Return Newton's step; NaN where the curvature is none."""
    g1, g2, a, b, c = map(float, sums)
    determinant = a * c - b * b
    if not determinant > _FLAT * a * c:
        return np.full(2, np.nan)
    return np.array([c * g1 - b * g2, a * g2 - b * g1]) / determinant
