"""Updates rounded to one lattice, which are added up in a small ring: what a hidden sum sends in fewer bits.

Each node cuts its update u to the norm C, takes the part p of it that it weighs (its weight ÷ W, where all
nodes together weigh no more than W), turns it by signs and Hadamard transforms that are the same at every
node (Suresh, Yu, Kumar, McMahan 2017, "Distributed mean estimation with limited communication", section 4),
and rounds each value up or down by chance, so that it is right on average. Whoever has the sum of the whole
numbers turns it back.

Why turned: after it no value of the sum, which is no longer than C, is far above C / √K, K being the largest
power of two that is no more than the number of values, whatever the update: each is a sum of ± its values
with independent signs, and beyond t C / √K with a probability of at most 2 exp(-t² / 2) (Hoeffding 1963). The
ring ends at t = 8: 2^-45 for each value, before chance has rounded; room for that is kept. Only the sum has
to be within the ring, so that a node of many rows has more of it than one of few.

What always holds: turning and turning back are one another's inverse, of any number of values, without a
value more; the whole numbers of all nodes' sums do not wrap around but with that probability, where nodes
weigh what they say; the error of a sum of n nodes is no longer than √n / 2 steps a value, on average of its
square.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.update import norm
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.privacy.ring import Whole

_DEVIATIONS = 8.0
"""Where the ring ends, in units of C / √K."""

_ROOM = 1_000
"""Whole numbers at the ring's end: rounding moves a value of a sum by less than one for each node."""

_LENGTHS = 1.5
"""How many times C a sum may be long: rounding adds to it, and masks that are left make it far longer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A rotation of `size` values, which follows from a seed that everybody knows."""

    size: int
    seed: bytes

    @property
    def block(self) -> int:
        """How many values one transform turns: a power of two."""
        return 1 << (max(self.size, 1).bit_length() - 1)

    def turned(self, vector: Vector) -> Vector:
        """The vector turned: its first values, then its last ones, so that each is turned at least once."""
        found = vector.copy()
        for part, signs in self._parts(found):
            np.multiply(part, signs, out=part)
            _transform(part)
        return found

    def turned_back(self, vector: Vector) -> Vector:
        """The inverse of `turned`."""
        found = vector.copy()
        for part, signs in reversed(list(self._parts(found))):
            _transform(part)
            np.multiply(part, signs, out=part)
        return found

    def _parts(self, vector: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Views of the values that are turned together, and the signs by which they are."""
        starts = (0,) if self.block == self.size else (0, self.size - self.block)
        for number, start in enumerate(starts):
            yield vector[start : start + self.block], self._signs(number)

    def _signs(self, number: int) -> Vector:
        raw = hashlib.shake_256(bytes([number]) + self.seed).digest(-(-self.block // 8))
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8))[: self.block]
        return np.where(bits == 1, 1.0, -1.0)


@dataclass(frozen=True, slots=True)
class Rounded:
    """A lattice of updates. turn: of them. ring: of the sum. norm: C; weight: W."""

    turn: Turn
    ring: Whole
    norm: float
    weight: float

    @property
    def levels(self) -> int:
        """The largest whole number that a value of the sum is before it is rounded."""
        return int(self.ring.largest(1)) - _ROOM

    @property
    def step(self) -> float:
        """What a whole number stands for."""
        return _DEVIATIONS * self.norm / (math.sqrt(self.turn.block) * self.levels)

    def encode(self, update: AnyVector, weight: float, rng: np.random.Generator) -> Vector:
        """The whole numbers of an update and, last, of its weight. rng: rounds."""
        share = min(weight / self.weight, 1.0)
        vector = update.astype(np.float64)
        length = norm(vector)
        # Of a longer one what is left points where it did.
        vector *= share if length <= self.norm else share * (self.norm / length)
        exact = np.append(self.turn.turned(vector) / self.step, share * self.levels)
        whole = np.floor(exact + rng.random(exact.size))
        largest = self.ring.largest(1)
        return np.clip(whole, -largest, largest)

    def decode(self, total: Vector) -> tuple[Vector, float] | None:
        """What the whole numbers of a sum stand for: of updates, each times its weight, and the weights' sum.

        None for a sum to which no updates of norm C and no weights add up.
        """
        share = float(total[-1]) / self.levels
        mean = self.turn.turned_back(total[:-1] * self.step)
        # Each of many nodes rounds its weight as well.
        if not 0 < share <= 1.0 + _ROOM / self.levels or norm(mean) > _LENGTHS * self.norm:
            return None
        return mean * self.weight, share * self.weight


def _transform(values: NDArray[np.float64]) -> None:
    """Walsh and Hadamard's transform of a power of two of values, in place: its own inverse."""
    size, width = values.size, 1
    while width < size:
        pairs = values.reshape(-1, 2, width)
        low = pairs[:, 0] + pairs[:, 1]
        np.subtract(pairs[:, 0], pairs[:, 1], out=pairs[:, 1])
        pairs[:, 0] = low
        width *= 2
    values *= 1.0 / math.sqrt(size)
