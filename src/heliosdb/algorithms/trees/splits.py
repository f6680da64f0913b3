"""The best split of a tree node, from sums over its rows.

What always holds: everything follows from the sums by the same operations for each tree node, so equal sums
give equal trees to the bit; of equal gains the first is taken: the first candidate, the lowest bin, missing
values to the right.

A set of rows with weight W and parts S is worth sum of S² / W: so the gain of a split is the decrease of
Gini's impurity (Breiman et al. 1984), of the squared error, or twice that of the loss to second order
(Friedman 2001, Chen and Guestrin 2016), as the sums are. Levels of a category are put in the order of S / W
first: of two classes and of numbers the best subset is then among the splits of that order (Fisher 1958); of
more classes the order is by the share of the most frequent one, as a heuristic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.trees.grown import Splits
from heliosdb.algorithms.trees.sums import ROWS, WEIGHT, Layout
from heliosdb.domain.vector import Vector

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]

LEAST_GAIN = 1e-10
"""As a part of what both sides are worth: less is rounding."""


class Leaves(Protocol):
    """What leaves say. channels: of the sums."""

    def numerators(self, sums: Array) -> Array:
        """Return the parts of every class, or of the number: (channels, …) → (parts, …)."""
        ...

    def values(self, sums: Array) -> Array:
        """Return what leaves of such sums say: (channels, n) → (n, outputs)."""
        ...

    def cover(self, sums: Array) -> Array:
        """Return how many rows count towards such sums: (channels, n) → (n,)."""
        ...

    @property
    def least_weight(self) -> float:
        """Of either side of a split, in the units of the sums."""
        ...


@dataclass(frozen=True, slots=True)
class Ends:
    """Where trees end. min_rows: of a leaf. depths: of the asked tree nodes, (asked,)."""

    min_rows: int
    max_depth: int
    depths: Numbers


@dataclass(frozen=True, slots=True)
class Found:
    """The best splits of some tree nodes. splits_at: which of the asked ones have one, (asked,). totals: of
    the asked ones, (channels, asked)."""

    splits_at: Flags
    splits: Splits
    totals: Array


def best_splits(vector: Vector, layout: Layout, categories: Flags, leaves: Leaves, ends: Ends) -> Found:
    """Find them. vector: the sum of all answers. categories: which inputs are some."""
    return _Search(vector, layout, categories, leaves, ends).found()


class _Search:
    """sums: (channels, asked, m, bins), and of missing values (channels, asked, m, 1). order: in which bins
    are added up, (asked, m, bins). below: sums up to each of them, in that order."""

    def __init__(self, vector: Vector, layout: Layout, categories: Flags, leaves: Leaves, ends: Ends) -> None:
        self._layout, self._categories, self._leaves, self._ends = layout, categories, leaves, ends
        sums = layout.padded(vector)
        self._sums, self._missing = sums[..., :-1], sums[..., -1:]
        self._order = self._put_in_order()
        self._below = np.cumsum(np.take_along_axis(self._sums, self._order[None], axis=-1), axis=-1)
        self._total = self._below[..., -1:] + self._missing

    def found(self) -> Found:
        """Return the best split of each asked tree node that has one."""
        asked = self._layout.candidates.shape[0]
        # Candidates first, then bins, then the side of missing values: the order in which ties are decided.
        gains = np.moveaxis(self._gains(), 0, -1)
        flat = gains.reshape(asked, -1)
        best = np.argmax(flat, axis=1)
        splits_at = flat[np.arange(asked), best] > -np.inf
        at = np.flatnonzero(splits_at)
        candidate, place, side = np.unravel_index(best[at], gains.shape[1:])
        return Found(splits_at, self._splits(at, candidate, place, side > 0), self._total[:, :, 0, 0])

    def _put_in_order(self) -> Numbers:
        """Return numbers as they are; levels by their rate, and those without a row behind them."""
        levels, is_category = self._sums, self._categories[self._layout.candidates]
        place = np.broadcast_to(np.arange(levels.shape[-1]), levels.shape[1:])
        if not is_category.any():
            return place.astype(np.int64)
        parts = self._leaves.numerators(levels)
        totals = parts.sum(axis=-1, keepdims=True)
        # Of one part its own rate; of more that of the class that is the most frequent in the tree node.
        ranked = np.take_along_axis(parts, np.argmax(totals, axis=0)[None], axis=0)[0]
        rate = ranked / np.maximum(levels[WEIGHT], np.finfo(np.float64).tiny)
        rate = np.where(levels[ROWS] > 0, rate, np.inf)
        by_rate = np.argsort(rate, axis=-1, kind="stable")
        return np.where(is_category[..., None], by_rate, place).astype(np.int64)

    def _gains(self) -> Array:
        """Return them with missing values right, then left: (2, asked, m, bins); minus infinity for no
        split."""
        gains = np.stack([self._gains_of(left) for left in (self._below, self._below + self._missing)])
        # What lies beyond an input's last bin splits nothing.
        place = np.arange(self._sums.shape[-1])
        gains[:, place >= self._layout.cells[..., None] - 2] = -np.inf
        return gains

    def _gains_of(self, left: Array) -> Array:
        right, leaves = self._total - left, self._leaves
        allowed = np.ones(left.shape[1:], dtype=np.bool_)
        for side in (left, right):
            allowed &= (side[ROWS] >= self._ends.min_rows) & (side[WEIGHT] >= leaves.least_weight)
        both = _worth(left, leaves) + _worth(right, leaves)
        gains = both - _worth(self._total, leaves)
        return np.where(allowed & (gains > LEAST_GAIN * both), gains, -np.inf)

    def _splits(self, at: Numbers, candidate: Numbers, place: Numbers, side: Flags) -> Splits:
        """at: the asked tree nodes that are split. side: whether missing values go left."""
        missing = self._missing[:, at, candidate, 0]
        left = self._below[:, at, candidate, place] + side * missing
        right = self._total[:, at, candidate, 0] - left
        # Where nothing is missing here, what is missing elsewhere goes with the more rows.
        missing_left = np.where(missing[ROWS] == 0, left[ROWS] >= right[ROWS], side)
        feature = self._layout.candidates[at, candidate]
        goes_on = self._ends.depths[at] + 1 < self._ends.max_depth
        opens = [(one[ROWS] >= 2 * self._ends.min_rows) & goes_on for one in (left, right)]
        chosen = self._categories[feature]
        return Splits(
            feature=feature,
            split=np.where(chosen, 0, place),
            missing_left=missing_left,
            is_category=chosen,
            subsets=self._subsets(at, candidate, place, missing_left),
            values=np.stack([self._leaves.values(left), self._leaves.values(right)], axis=1),
            opens=np.stack(opens, axis=1),
            cover=np.stack([self._leaves.cover(left), self._leaves.cover(right)], axis=1),
        )

    def _subsets(
        self, at: Numbers, candidate: Numbers, place: Numbers, missing_left: Flags
    ) -> NDArray[np.uint8]:
        """Return the bits of the bins that go left; a level without a row goes as what is missing."""
        layout, categories = self._layout, self._categories
        left = np.zeros((at.size, int(layout.widths[categories].max(initial=0))), dtype=np.bool_)
        for number in np.flatnonzero(categories[layout.candidates[at, candidate]]):
            node, choice = at[number], candidate[number]
            left[number, self._order[node, choice, : place[number] + 1]] = True
            levels = int(layout.cells[node, choice]) - 1
            unmet = np.flatnonzero(self._sums[ROWS, node, choice, :levels] == 0)
            left[number, unmet] = missing_left[number]
        return np.packbits(left, axis=1)


def _worth(sums: Array, leaves: Leaves) -> Array:
    parts = leaves.numerators(sums)
    worth: Array = np.square(parts).sum(axis=0) / np.maximum(sums[WEIGHT], leaves.least_weight)
    return worth
