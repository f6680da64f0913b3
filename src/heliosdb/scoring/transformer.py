"""What the blocks of a transformer make of series (Vaswani et al. 2017; normalised before each part, as
Xiong et al. 2020 have it).

What always holds: normalisation is over the numbers of one step of one row, so nothing of a row depends on
another. Steps of padding are looked at by none, and count nothing in the mean that is made in the end; of a
series without a step that mean is 0. Sums are in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.parts.series import FEED_FORWARD
from heliosdb.scoring.fronts import Shapes, Steps, There
from heliosdb.scoring.network import HIDDEN, activate

Matrix = NDArray[np.float64]

EPSILON = 1e-5
"""Added to the variance of a step, as PyTorch does."""

UNSEEN = -1e9
"""The score of a step that is not to be looked at."""

OF_BLOCK = 12
"""Arrays of parameters that a block has."""

_LONGEST_WAVE = 10_000.0


@dataclass(frozen=True, slots=True)
class Transformer:
    """Blocks without their numbers. width: numbers of a step, which come in as they go out. activation: of
    the hidden layers."""

    width: int
    depth: int
    heads: int
    activation: str

    NAMES: ClassVar[tuple[str, ...]] = ("transformer",)

    @property
    def kind(self) -> str:
        """Its name in a prediction."""
        return self.NAMES[0]

    @property
    def before(self) -> int:
        """How many numbers a step has to be."""
        return self.width

    @property
    def made(self) -> int:
        """How many numbers come of a row."""
        return self.width

    @property
    def shapes(self) -> Shapes:
        """Of each block: gains and shifts; weights and biases of queries, keys and values, one after the
        other, and of what comes out; gains and shifts; both layers. In the end gains and shifts."""
        own, hidden = self.width, FEED_FORWARD * self.width
        block: list[tuple[int, ...]] = [
            (own,), (own,), (3 * own, own), (3 * own,), (own, own), (own,),
            (own,), (own,), (hidden, own), (hidden,), (own, hidden), (own,),
        ]  # fmt: skip
        return [*block * self.depth, (own,), (own,)]

    def widest(self, length: int) -> int:
        """How many numbers of a row are held at once, about."""
        return length * max(3 * self.heads * length, 2 * FEED_FORWARD * self.width + self.width)

    def pass_rows(self, leaves: Sequence[Matrix], steps: Steps, there: There) -> Matrix:
        """Return the mean over a row's steps; (n, length, width) → (n, width)."""
        values = steps + positions(steps.shape[1], self.width)
        for block in range(self.depth):
            own = leaves[block * OF_BLOCK : (block + 1) * OF_BLOCK]
            values = values + self._attend(own[:6], values, there)
            hidden = _normalise(values, own[6], own[7]) @ own[8].T + own[9]
            values = values + np.asarray(activate(self.activation, hidden)) @ own[10].T + own[11]
        values = _normalise(values, leaves[-2], leaves[-1]) * there[:, :, None]
        found: Matrix = values.sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None]
        return found

    def _attend(self, leaves: Sequence[Matrix], values: Steps, there: There) -> Steps:
        gains, shifts, into, into_biases, out, out_biases = leaves
        rows, length, _ = values.shape
        each = self.width // self.heads
        seen = _normalise(values, gains, shifts) @ into.T + into_biases
        parts = seen.reshape(rows, length, 3, self.heads, each).transpose(2, 0, 3, 1, 4)
        queries, keys, told = parts
        scores = queries @ keys.transpose(0, 1, 3, 2) / np.sqrt(each)
        scores = np.where(there[:, None, None, :], scores, UNSEEN)
        scores = np.exp(scores - scores.max(axis=3, keepdims=True))
        scores /= scores.sum(axis=3, keepdims=True)
        mixed = (scores @ told).transpose(0, 2, 1, 3).reshape(rows, length, self.width)
        attended: Steps = mixed @ out.T + out_biases
        return attended

    def to_content(self) -> dict[str, Any]:
        """Return what a prediction says of it."""
        return {
            "kind": self.kind,
            "width": self.width,
            "depth": self.depth,
            "heads": self.heads,
            "activation": self.activation,
        }

    @classmethod
    def of_content(cls, content: Mapping[str, Any], before: int) -> Self:
        """Read that; FederatedError INVALID_VALUE for what is none."""
        width, depth, heads = (content.get(one) for one in ("width", "depth", "heads"))
        activation = content.get("activation")
        is_whole = all(type(one) is int for one in (width, depth, heads)) and activation in HIDDEN
        if content.get("kind") not in cls.NAMES or not is_whole or len(content) != 5:
            raise invalid_value("the blocks of its network are none")
        assert isinstance(width, int) and isinstance(depth, int) and isinstance(heads, int)
        fits = bounds.WIDTH.hold(width) and bounds.STACK.hold(depth) and bounds.HEADS.hold(heads)
        if not fits or width % heads or width != before:
            raise invalid_value("the blocks of its network are none")
        return cls(width, depth, heads, str(activation))


def positions(length: int, width: int) -> Matrix:
    """Return what says at which place a step is: sines and cosines in turn, of ever longer waves.

    (length, width).
    """
    waves = np.arange(0, width, 2) / width
    angles = np.arange(length)[:, None] / _LONGEST_WAVE**waves
    found = np.empty((length, width))
    found[:, 0::2] = np.sin(angles)
    found[:, 1::2] = np.cos(angles[:, : width // 2])
    return found


def _normalise(values: Steps, gains: Matrix, shifts: Matrix) -> Steps:
    centred = values - values.mean(axis=2, keepdims=True)
    centred /= np.sqrt(np.square(centred).mean(axis=2, keepdims=True) + EPSILON)
    scaled: Steps = centred * gains + shifts
    return scaled
