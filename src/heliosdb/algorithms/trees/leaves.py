"""What the rows of a tree node add up to, and what a leaf says of such sums: of a forest, and of boosting.

What always holds: a row's sums depend on that row, the seed and the trees alone; they are whole numbers, cut
to public bounds, so that a sum over as many rows as the nodes stated is below 2^53.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.trees.grown import LARGEST_VALUE
from heliosdb.algorithms.trees.sums import PARTS, ROWS, WEIGHT
from heliosdb.domain.vector import Matrix, Vector

Array = NDArray[np.float64]

MOST_DRAWS = 16
"""How much a row counts for a tree of a forest, at most: larger weights, one in 150, are cut to this."""

FARTHEST = 1024.0
"""A residual, or a forest's target, counts up to this, in the target's standard deviations."""

_BITS = 52
_FINEST = 30

_LEAST_HESSIAN = 1e-3
"""Of a leaf of boosting: where all rows are nearly certain, a step would be a quotient of roundings."""


def resolution(rows: float, classes: int, *, boosts: bool) -> int:
    """Return k such that sums over so many rows, in units of 2^-k, are below 2^53."""
    if classes and not boosts:
        return 0
    largest = 1.0 if classes else FARTHEST * (1 if boosts else MOST_DRAWS)
    return max(0, min(_FINEST, _BITS - int(np.ceil(np.log2(max(1.0, rows) * largest)))))


class Learner(Protocol):
    """How a forest's, or boosting's, rows and leaves are reckoned. outputs: numbers that a leaf says."""

    classes: int
    bits: int

    @property
    def channels(self) -> int:
        """Sums of a bin."""
        ...

    @property
    def outputs(self) -> int:
        """Numbers that a leaf says."""
        ...

    @property
    def least_weight(self) -> float:
        """Of either side of a split."""
        ...

    def row_sums(self, target: Vector, draws: Vector, scores: Matrix, tree: int) -> Array:
        """Return what each row adds: (n,), (n,), (n, scores) → (channels, n). draws: how often it was drawn.

        scores: of the trees before.
        """
        ...

    def numerators(self, sums: Array) -> Array:
        """See `splits.Leaves`."""
        ...

    def values(self, sums: Array) -> Array:
        """See `splits.Leaves`."""
        ...

    def cover(self, sums: Array) -> Array:
        """See `splits.Leaves`."""
        ...

    def fault(self, sums: Array) -> bool:
        """Whether no rows have such sums of a bin: (channels, n)."""
        ...


def _units(values: Vector, most: float, bits: int) -> Vector:
    units: Vector = np.rint(np.clip(values, -most, most) * 2.0**bits)
    return units


@dataclass(frozen=True, slots=True)
class ForestLearner:
    """The mean of its leaves' shares of classes, or of their means of a scaled number."""

    classes: int
    bits: int

    @property
    def channels(self) -> int:
        """Rows, draws, and the draws of each class but the first; or of the number."""
        return PARTS + max(1, self.classes - 1)

    @property
    def outputs(self) -> int:
        """A share of each class but the first; or the number."""
        return max(1, self.classes - 1)

    @property
    def least_weight(self) -> float:
        """One draw."""
        return 1.0

    def row_sums(self, target: Vector, draws: Vector, scores: Matrix, tree: int) -> Array:
        """Return what each row adds; trees before have no part in it."""
        del scores, tree
        sums = np.zeros((self.channels, target.size))
        sums[ROWS], sums[WEIGHT] = draws > 0, draws
        if self.classes:
            for number in range(1, self.classes):
                sums[PARTS + number - 1] = np.where(target == number, draws, 0.0)
        else:
            sums[PARTS] = draws * _units(target, FARTHEST, self.bits)
        return sums

    def numerators(self, sums: Array) -> Array:
        """Return the draws of every class, or the number's sum."""
        parts = sums[PARTS:]
        if not self.classes:
            return parts
        first = sums[WEIGHT] - parts.sum(axis=0)
        numerators: Array = np.concatenate([first[None], parts])
        return numerators

    def values(self, sums: Array) -> Array:
        """Return shares of classes, drawn to equal ones by the weight of one row (so that none is 0 or 1:
        Provost and Domingos 2003), or the mean."""
        weight = np.maximum(sums[WEIGHT], self.least_weight)
        if self.classes:
            shares: Array = ((sums[PARTS:] + 1.0 / self.classes) / (weight + 1.0)).T
            return shares
        means: Array = (sums[PARTS:] / weight).T * 2.0**-self.bits
        return means

    def cover(self, sums: Array) -> Array:
        """Return the draws: a row counts for a tree as often as it was drawn."""
        draws: Array = sums[WEIGHT]
        return draws

    def fault(self, sums: Array) -> bool:
        """Draws are at least rows and at most `MOST_DRAWS` of them; parts are of draws."""
        rows, draws, parts = sums[ROWS], sums[WEIGHT], sums[PARTS:]
        if np.any((draws < rows) | (draws > MOST_DRAWS * rows)):
            return True
        if self.classes:
            return bool(np.any(parts < 0.0) or np.any(parts.sum(axis=0) > draws))
        return bool(np.any(np.abs(parts) > draws * FARTHEST * 2.0**self.bits))


@dataclass(frozen=True, slots=True)
class BoostingLearner:
    """Steps of Newton's method on the loss: the logistic one, that of the softmax, or half the squared
    error."""

    classes: int
    bits: int
    learning_rate: float = 1.0

    @property
    def channels(self) -> int:
        """Rows, second and first derivatives."""
        return PARTS + 1

    @property
    def outputs(self) -> int:
        """One score: a tree is of one class."""
        return 1

    @property
    def scores(self) -> int:
        """How many scores a row has."""
        return self.classes if self.classes > 2 else 1

    @property
    def least_weight(self) -> float:
        """Of second derivatives."""
        return _LEAST_HESSIAN * 2.0**self.bits

    def row_sums(self, target: Vector, draws: Vector, scores: Matrix, tree: int) -> Array:
        """Return rows, second and first derivatives of the loss by the score of the tree's class."""
        first, second = self._derivatives(target, scores, tree % self.scores)
        most = 1.0 if self.classes else FARTHEST
        sums = np.stack(
            [np.ones(target.size), _units(second, 1.0, self.bits), _units(first, most, self.bits)]
        )
        sums[:, draws == 0] = 0.0
        return sums

    def _derivatives(self, target: Vector, scores: Matrix, output: int) -> tuple[Vector, Vector]:
        if not self.classes:
            return scores[:, 0] - target, np.ones(target.size)
        if self.classes == 2:
            shares = 0.5 * (1.0 + np.tanh(0.5 * scores[:, 0]))
            return shares - target, shares * (1.0 - shares)
        shares = softmax(scores)[:, output]
        return shares - (target == output), shares * (1.0 - shares)

    def numerators(self, sums: Array) -> Array:
        """Return the first derivatives."""
        return sums[PARTS:]

    def values(self, sums: Array) -> Array:
        """Return the part of Newton's step that is taken; what no task may carry, as only a node that makes
        its sums up leads to, is cut."""
        steps: Array = -(sums[PARTS:] / np.maximum(sums[WEIGHT], self.least_weight)).T
        return np.clip(self.learning_rate * steps, -LARGEST_VALUE, LARGEST_VALUE)

    def cover(self, sums: Array) -> Array:
        """Return the rows."""
        rows: Array = sums[ROWS]
        return rows

    def fault(self, sums: Array) -> bool:
        """Derivatives are within their bounds."""
        rows, second, first = sums[ROWS], sums[WEIGHT], np.abs(sums[PARTS])
        most = 1.0 if self.classes else FARTHEST
        largest_second = 0.25 if self.classes else 1.0
        unit = 2.0**self.bits
        beyond = (
            (second > rows * np.ceil(largest_second * unit)) | (second < 0.0) | (first > rows * most * unit)
        )
        return bool(np.any(beyond))


def softmax(scores: Matrix) -> Matrix:
    """Return the shares of classes, (n, K), without overflow."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    total = raised[:, 0].copy()
    # In a fixed order, so that a row's shares do not depend on how many rows there are.
    for column in raised.T[1:]:
        total += column
    shares: Matrix = raised / total[:, None]
    return shares
