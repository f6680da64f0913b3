"""What a row adds to a leaf under a privacy budget, and what a leaf says of sums with noise in them.

What always holds: what a row adds is a function of that row, the task's trees and its public numbers, to the
last bit, and of L2 norm at most 1 whatever the row holds; what a leaf says is bounded whatever the noise was.

What a row adds to the one leaf of a tree in which it ends:

    a forest, of classes      1 for its class                                          K numbers
    a forest, of a number     1/2, and sqrt(3/4) t/4                                   t: the scaled target
    boosting, of two classes  3 h, and g      g = p - y, h = |g| (1 - |g|)             norm at most 1
    boosting, of a number     1/2, and sqrt(3/4) r/4                                   r: score less target

t and r count up to 4 deviations. Of boosting's two classes g² + 9 h² is at most 1 (at |g| = 1), so that the
second derivatives, which are at most 1/4, have a third of the noise for nothing.

What leaves say. With W the rows' weight, S its part, s the noise's deviation, a step S / W is shrunk to
S W / (W² + W + s² / τ²): the posterior mean of a step that is normal with deviation τ, and one row's weight
against leaves that hold next to nobody.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.trees.grown import LARGEST_VALUE
from heliosdb.domain.vector import Matrix, Vector

Array = NDArray[np.float64]

FARTHEST = 4.0
"""A scaled target, or its residual, counts up to this."""

_HESSIAN = 3.0
_COUNT, _NUMBER = 0.5, math.sqrt(0.75) / FARTHEST

_STEP_VARIANCE = 1.0
"""τ² of boosting's steps: in log odds, or in deviations of the target."""

_SHARE_VARIANCE = 0.2
"""τ² of a forest's leaves about the whole: of shares, or of scaled numbers."""

STRETCH = 3.0
"""How much farther from the whole a forest's leaf lies than its own rows say: a mean over trees whose splits
are drawn keeps a part of the distance alone. Of 1, 3, 6, 10, 20 and 50 the best on adult: decision 0072."""

_LEAST_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class LeafSums:
    """Sums of leaves in units of rows, with what noise they have. weight: (leaves,). parts: (parts, leaves).
    weight_noise, part_noise: standard deviations, (leaves,)."""

    weight: Vector
    parts: Array
    weight_noise: Vector
    part_noise: Vector


@dataclass(frozen=True, slots=True)
class PrivateLearner:
    """classes: of the target; 0: a number. boosts: whether trees are steps of boosting, or of a forest."""

    classes: int
    boosts: bool

    @property
    def counts(self) -> bool:
        """Whether rows are counted by their class."""
        return self.classes > 0 and not self.boosts

    @property
    def channels(self) -> int:
        """Sums of a leaf."""
        return self.classes if self.counts else 2

    def rows(self, target: Vector, scores: Matrix) -> Matrix:
        """Return what rows add; (n,), (n, 1) or (n, 0) → (channels, n), where they are counted (1, n).

        target: a class, or scaled.
        """
        if self.counts:
            return np.ones((1, target.size))
        if self.classes:
            slopes = 0.5 * (1.0 + np.tanh(0.5 * scores[:, 0])) - target
            sizes = np.abs(slopes)
            return np.stack([_HESSIAN * sizes * (1.0 - sizes), slopes])
        values = scores[:, 0] - target if self.boosts else target
        values = np.minimum(np.maximum(values, -FARTHEST), FARTHEST)
        return np.stack([np.full(target.size, _COUNT), _NUMBER * values])

    def read(self, sums: Array, noise: Vector) -> LeafSums:
        """Read sums of the layout; (channels, leaves). noise: the deviation of each, (leaves,)."""
        if self.counts:
            return LeafSums(sums.sum(axis=0), sums, math.sqrt(self.classes) * noise, noise)
        weight, part = (_HESSIAN, 1.0) if self.classes else (_COUNT, _NUMBER)
        return LeafSums(sums[0] / weight, sums[1:] / part, noise / weight, noise / part)

    @property
    def rows_of_weight(self) -> float:
        """How many rows there are at least for a weight of 1."""
        return 4.0 if self.boosts and self.classes else 1.0

    def steps(self, sums: LeafSums, rate: float) -> Matrix:
        """Return what leaves of boosting say; (leaves, 1)."""
        steps = _shrunk(-sums.parts, sums, _STEP_VARIANCE)
        return np.clip(rate * steps, -LARGEST_VALUE, LARGEST_VALUE).T

    def shares(self, sums: LeafSums, whole: LeafSums) -> Matrix:
        """Return what leaves of a forest say; (leaves, outputs). whole: all rows, as one leaf."""
        middle = whole.parts / np.maximum(whole.weight, 1.0)
        if self.classes:
            middle = np.clip(middle, 0.0, 1.0)
            total = float(middle.sum())
            middle = middle / total if total > 0.0 else np.full_like(middle, 1.0 / self.classes)
        moved = _shrunk(sums.parts - middle * sums.weight, sums, _SHARE_VARIANCE)
        if not self.classes:
            return np.clip(middle + moved, -FARTHEST, FARTHEST).T
        shares = np.clip(middle + STRETCH * moved, _LEAST_SHARE, 1.0)
        shares /= shares.sum(axis=0)
        said: Matrix = shares[1:].T
        return said


def _shrunk(parts: Array, sums: LeafSums, variance: float) -> Array:
    weight = np.maximum(sums.weight, 0.0)
    below = weight * weight + weight + np.square(sums.part_noise) / variance
    return parts * weight / np.maximum(below, np.finfo(np.float64).tiny)
