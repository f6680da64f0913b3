"""A number: mean squared error in its own units, its root, and R² about the held-out rows' mean.

What always holds: R² is None where the held-out targets are all the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from heliosdb.algorithms.measures.boxes import LOSS_CAP, Box, Boxes
from heliosdb.algorithms.measures.evaluation import (
    LARGEST_SUM,
    NOBODY,
    TOLERANCE,
    Evaluation,
    kept,
    moments_fault,
    nobody_left,
    standard_error,
)
from heliosdb.algorithms.measures.measure import Flags
from heliosdb.domain.events import Figures
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.plan import REGRESSION_NOISE


class Regression:
    """Of a number: mean squared error in the target's own units, and R² about the held-out rows' mean.

    plain: [rows, then sums of loss, half square, target; then of the products loss², loss x half square,
    loss x target, half square², half square x target]. The loss is half the squared error, the half square
    that of the target, all in units of the scaling.
    """

    boxes = Boxes((Box(0.0, LOSS_CAP), Box(0.0, LOSS_CAP), Box(-(8.0**0.5), 8.0**0.5, 0.5)))
    plain_size = 9
    noise = REGRESSION_NOISE

    def row_values(self, losses: Vector, scores: Vector, targets: Vector) -> Matrix:
        """Return loss, half square and target."""
        return np.stack([losses, 0.5 * np.square(targets), targets])

    def plain_sums(self, losses: Vector, scores: Vector, targets: Vector) -> Vector:
        """Return the sums; see the class."""
        halves = 0.5 * np.square(targets)
        values = (losses, halves, targets)
        products = (losses @ losses, losses @ halves, losses @ targets, halves @ halves, halves @ targets)
        return np.array([losses.size, *(one.sum() for one in values), *products], dtype=np.float64)

    def cells(self, scores: Vector, targets: Vector, counted: Flags) -> Vector:
        """Return nothing: there are no classes."""
        del scores, targets, counted
        return np.empty(0)

    def tell(self, sums: Vector, subjects: Vector, least: int) -> Vector:
        """Return the sums: all are over all held-out rows."""
        del subjects, least
        return sums

    def plain_fault(self, sums: Vector) -> str | None:
        """Say where sums of squares are not those of numbers with such sums."""
        rows, loss, half, target, losses, _, _, halves, _ = map(float, sums)
        if not np.all(np.abs(sums) <= LARGEST_SUM):
            return f"a sum is larger than {LARGEST_SUM:g}"
        fault = moments_fault(rows, loss, losses, "losses") or moments_fault(rows, half, halves, "squares")
        return fault or moments_fault(rows, abs(target), 2.0 * half, "targets")

    def read_plain(self, sums: Vector, scale: float) -> Evaluation:
        """Read them; R² is not defined where the held-out targets are all the same."""
        rows = float(sums[0])
        if rows < 1.0:
            return NOBODY
        loss, half, target, *products = (float(one) / rows for one in sums[1:])
        base = half - 0.5 * target * target
        if base <= TOLERANCE * half:
            base = 0.0
        spread = standard_error(products[0] - loss * loss, rows)
        accuracy = error = None
        # Targets so much closer to each other than to what is predicted have no ratio that is a number.
        if base > 0.0 and math.isfinite(ratio := loss / base):
            accuracy = 1.0 - ratio
            # The mean square of loss ÷ its mean - half square about the mean ÷ its mean, whose own mean is 0:
            # both of about 1, where products of the sums as they are would leave what a double holds.
            slopes = np.array(
                [1.0 / loss if loss else 0.0, -1.0 / base, target / base, -0.5 * target * target / base]
            )
            error = standard_error(float(slopes @ _squares(loss, half, target, products) @ slopes), rows)
            error = None if error is None else error * ratio
        return Evaluation(_in_units(Figures(loss, accuracy, spread, error, base), scale), rows)

    def read_private(self, total: Vector, noise: float, scale: float) -> Evaluation:
        """Read them; the base loss is what the released scale of the target says, without new noise."""
        means = self.boxes.read(total, noise)
        if means is None:
            return nobody_left()
        loss, half, target = means.values
        # Noise adds to the square of a mean.
        base = half - 0.5 * max(0.0, target * target - means.error(0.0, 0.0, 1.0) ** 2)
        spread = math.hypot(means.error(1.0, 0.0, 0.0), math.sqrt(loss * (LOSS_CAP - loss) / means.count))
        accuracy, error = None, math.inf
        if base > 0.0:
            ratio = loss / base
            accuracy = min(1.0, 1.0 - ratio)
            noisy = means.error(-1.0 / base, ratio / base, -ratio * target / base)
            error = math.hypot(noisy, 2.0 * ratio * math.sqrt(abs(1.0 - ratio) / means.count))
        figures = kept(Figures(loss, accuracy, spread, error, 0.5), means.count, self.noise.largest)
        return replace(figures, figures=_in_units(figures.figures, scale))


REGRESSION = Regression()


def _squares(loss: float, half: float, target: float, products: Sequence[float]) -> Matrix:
    """Return the means of all products of (loss, half square, target, 1)."""
    losses, loss_half, loss_target, halves, half_target = products
    return np.array(
        [
            [losses, loss_half, loss_target, loss],
            [loss_half, halves, half_target, half],
            [loss_target, half_target, 2.0 * half, target],
            [loss, half, target, 1.0],
        ]
    )


def _in_units(found: Figures, scale: float) -> Figures:
    """Turn halves of squares of scaled targets into mean squares in the target's own units."""

    def squared(value: float | None) -> float | None:
        # What would soon be no number any more counts as the largest sum.
        return None if value is None else min(2.0 * value * scale * scale, LARGEST_SUM)

    loss = squared(found.loss)
    return replace(
        found,
        loss=loss,
        rmse=None if loss is None else math.sqrt(loss),
        loss_error=squared(found.loss_error),
        base_loss=squared(found.base_loss) or None,
    )
