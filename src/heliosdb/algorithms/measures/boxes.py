"""What a private evaluation adds up: each subject's means, cut to a box, and the errors of what is read.

What always holds: each subject adds a vector of a norm at most `norm` says, whatever its rows.

Of each of a subject's row values the mean over its rows is cut to [lower, upper] and mapped to a coordinate
in [-spread/2, spread/2]; a last coordinate is 1/2, the count. So no subject's vector is longer than
sqrt(sum of (spread/2)² + 1/4), at whichever corner of the box it lies:

    classification   loss, right                      spreads 1, 1        sqrt(3)/2  = 0.866
    regression       loss, half square, target        spreads 1, 1, 1/2   sqrt(13)/4 = 0.901

In L1 norm no vector is longer than the sum of spread/2, and 1/2: 3/2 and 7/4.

The third coordinate of a regression is there for R², which is about the mean of the held-out rows. At half
the spread it makes the noise of all coordinates larger by 4 % (at a full one by 15 %), and its own error
bears on R² only as far as the released mean of the scaling is off.

Noise. Every coordinate of the sum over nodes has the same standard deviation s, so the count n, twice the
last coordinate, has 2 s, and the mean of a value m has s w/n for itself, with w = (upper - lower) / spread,
and 2 s (m - middle) / n by the count. The error of a figure of such means follows by its derivatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from heliosdb.domain.privacy import Noise
from heliosdb.domain.vector import Matrix, Vector

LOSS_CAP = 4.0
"""A subject's mean loss of two classes, or of a number, counts up to this in a private evaluation, as does
half the square of its target."""


@dataclass(frozen=True, slots=True)
class Box:
    """Where the mean of one of a subject's row values is cut, and how wide its coordinate then is."""

    lower: float
    upper: float
    spread: float = 1.0

    @property
    def middle(self) -> float:
        """What the coordinate 0 stands for."""
        return 0.5 * (self.lower + self.upper)

    @property
    def width(self) -> float:
        """How much of the value one unit of the coordinate is."""
        return (self.upper - self.lower) / self.spread


@dataclass(frozen=True)
class Boxes:
    """The coordinates of a private answer but the last, the count."""

    boxes: tuple[Box, ...]

    @property
    def size(self) -> int:
        """How many values a private answer has."""
        return len(self.boxes) + 1

    @cached_property
    def sensitivity(self) -> float:
        """The L2 norm of the most that one subject adds."""
        return math.sqrt(sum((0.5 * box.spread) ** 2 for box in self.boxes) + 0.25)

    def norm(self, noise: Noise) -> float:
        """Return the sensitivity by which such noise is calibrated: L2, L1 under Laplace noise."""
        if noise == "laplacian":
            return sum(0.5 * box.spread for box in self.boxes) + 0.5
        return self.sensitivity

    def coordinates(self, means: Matrix) -> Matrix:
        """Return the subjects' vectors; (values, subjects) → (values + 1, subjects)."""
        out = np.full((self.size, means.shape[1]), 0.5)
        for place, box in enumerate(self.boxes):
            # fmax: what is not a number counts as the lower end.
            cut = np.minimum(np.fmax(means[place], box.lower), box.upper)
            out[place] = (cut - box.middle) / box.width
        return out

    def read(self, total: Vector, noise: float) -> Means | None:
        """Read the sum of all nodes; None where the noise has left no count. noise: standard deviation."""
        count = 2.0 * float(total[-1])
        if count < 1.0:
            return None
        means = [
            min(box.upper, max(box.lower, box.middle + box.width * float(total[place]) / count))
            for place, box in enumerate(self.boxes)
        ]
        return Means(self.boxes, tuple(means), count, noise / count)


@dataclass(frozen=True, slots=True)
class Means:
    """What a private sum says of the subjects' means. noise: of a coordinate, over the count."""

    boxes: tuple[Box, ...]
    values: tuple[float, ...]
    count: float
    noise: float

    def error(self, *slopes: float) -> float:
        """Return the noise's standard deviation in a figure with these derivatives by the values."""
        own = math.hypot(
            *(slope * box.width for slope, box in zip(slopes, self.boxes, strict=True)),
        )
        counted = 2.0 * sum(
            slope * (value - box.middle)
            for slope, value, box in zip(slopes, self.values, self.boxes, strict=True)
        )
        return self.noise * math.hypot(own, counted)
