"""How an answer about tree nodes is laid out, and which sums it has.

What always holds: every sum is of whole numbers and below 2^53, so that it is exact in whatever order, and
over whatever nodes, it is taken.

For each of `channels`, for each asked tree node, for each of its candidates (the inputs by which it may be
split), for each of that input's bins: a sum over the rows there, of

    rows       1
    weight     how much the row counts for the denominator of a leaf's value
    parts      how much it counts for its numerators

A forest's weight is how often the row was drawn. Its part is, with K classes, that weight for each class but
the first; of a number, weight x target. Boosting has weight = second derivative of the loss, part = first
one. What is not whole is in units of 2^-resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.vector import Vector

ROWS, WEIGHT, PARTS = 0, 1, 2

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """candidates: inputs of each asked tree node, (asked, m). widths: bins of each input. channels: sums of a
    bin."""

    candidates: Numbers
    widths: Numbers
    channels: int

    @property
    def cells(self) -> Numbers:
        """How many bins each candidate has, (asked, m)."""
        taken: Numbers = self.widths[self.candidates]
        return taken

    @property
    def bins(self) -> int:
        """How many bins there are in all."""
        return int(self.cells.sum())

    @property
    def size(self) -> int:
        """How many values an answer has."""
        return self.bins * self.channels

    @property
    def padded_size(self) -> int:
        """How many values it has as `padded` makes it."""
        return self.channels * self.candidates.size * self.widest

    def padded(self, vector: Vector) -> NDArray[np.float64]:
        """Return an answer as (channels, asked, m, widest); bins of missing values come last, after empty
        ones."""
        there = self._there()
        out = np.zeros((self.channels, *there.shape))
        out[:, there] = vector.reshape(self.channels, -1)
        return out

    def flat(self, padded: NDArray[np.float64]) -> Vector:
        """Return the vector of which `padded` makes this; (channels, asked, m, widest)."""
        vector: Vector = padded[:, self._there()].ravel()
        return vector

    @property
    def widest(self) -> int:
        """How many bins the widest candidate has."""
        return int(self.cells.max(initial=2))

    def _there(self) -> NDArray[np.bool_]:
        """Which of the padded bins there are, in their order: values first, then what is missing."""
        there = np.arange(self.widest) < (self.cells - 1)[..., None]
        there[..., -1] = True
        return there
