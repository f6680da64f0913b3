"""What recurrent cells make of series: long short-term memories and gated recurrent units, one upon the
other.

What always holds: a step of padding leaves what a cell remembers as it was, so that it ends with the last
step that is there, and of a series without one with 0. Sums are in float64; every number that a cell
remembers lies within ±1, or is the sum of as many such as there are steps.

The gates of an lstm follow one another as input, forget, cell, output (Hochreiter and Schmidhuber 1997, Gers
et al. 2000), those of a gru as reset, update, new (Cho et al. 2014, in the form in which the reset gate acts
upon the sums); as in PyTorch, but for the second bias, which adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.parts.series import GATES
from heliosdb.scoring.fronts import Shapes, Steps, There
from heliosdb.scoring.network import sigmoid

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recurrent:
    """Cells without their numbers. kind: lstm or gru. before: numbers of a step. width: that a cell
    remembers. depth: cells one upon the other. both_ways: whether each has a twin that goes backwards."""

    kind: str
    before: int
    width: int
    depth: int
    both_ways: bool

    NAMES: ClassVar[tuple[str, ...]] = ("lstm", "gru")

    @property
    def made(self) -> int:
        """How many numbers come of a row."""
        return self.width * self.ways

    @property
    def ways(self) -> int:
        """How many cells lie side by side."""
        return 2 if self.both_ways else 1

    @property
    def of_cell(self) -> int:
        """How many arrays of parameters a cell has."""
        return 3 if self.kind == "lstm" else 4

    @property
    def shapes(self) -> Shapes:
        """Of each cell: weights of a step, weights of what is remembered, biases, and of a gru the bias of
        the new gate's remembered part."""
        found: list[tuple[int, ...]] = []
        for level in range(self.depth):
            before = self.before if level == 0 else self.made
            rows = GATES[self.kind] * self.width
            cell: list[tuple[int, ...]] = [(rows, before), (rows, self.width), (rows,)]
            found += (cell if self.kind == "lstm" else [*cell, (self.width,)]) * self.ways
        return found

    def widest(self, length: int) -> int:
        """How many numbers of a row are held at once, about."""
        return length * (GATES[self.kind] * self.width + 2 * self.made + self.before)

    def pass_rows(self, leaves: Sequence[Matrix], steps: Steps, there: There) -> Matrix:
        """Return what the topmost cells remember in the end; (n, length, before) → (n, made)."""
        for level in range(self.depth):
            outs = []
            for way in range(self.ways):
                first = (level * self.ways + way) * self.of_cell
                outs.append(
                    self._pass_cell(leaves[first : first + self.of_cell], steps, there, is_backward=way == 1)
                )
            steps = np.concatenate([one for one, _ in outs], axis=2)
            ends = [end for _, end in outs]
        return np.concatenate(ends, axis=1)

    def _pass_cell(
        self, leaves: Sequence[Matrix], steps: Steps, there: There, *, is_backward: bool
    ) -> tuple[Steps, Matrix]:
        """Return what a cell remembers after each step, and in the end."""
        rows, length, _ = steps.shape
        sums = steps @ leaves[0].T + leaves[2]
        held, cell = np.zeros((rows, self.width)), np.zeros((rows, self.width))
        out = np.empty((rows, length, self.width))
        for place in reversed(range(length)) if is_backward else range(length):
            if self.kind == "lstm":
                next_held, next_cell = _lstm(sums[:, place] + held @ leaves[1].T, cell)
            else:
                next_held, next_cell = _gru(sums[:, place], held @ leaves[1].T, leaves[3], held), cell
            now = there[:, place, None]
            held, cell = np.where(now, next_held, held), np.where(now, next_cell, cell)
            out[:, place] = held
        return out, held

    def to_content(self) -> dict[str, Any]:
        """Return what a prediction says of it."""
        return {
            "kind": self.kind,
            "width": self.width,
            "depth": self.depth,
            "bidirectional": self.both_ways,
        }

    @classmethod
    def of_content(cls, content: Mapping[str, Any], before: int) -> Self:
        """Read that; FederatedError INVALID_VALUE for what is none."""
        kind, width, depth, both = (content.get(one) for one in ("kind", "width", "depth", "bidirectional"))
        is_whole = type(width) is int and type(depth) is int and type(both) is bool
        if kind not in cls.NAMES or not is_whole or len(content) != 4:
            raise invalid_value("the cells of its network are none")
        assert isinstance(width, int) and isinstance(depth, int) and isinstance(both, bool)
        if not (bounds.WIDTH.hold(width) and bounds.STACK.hold(depth)):
            raise invalid_value("the cells of its network are none")
        return cls(str(kind), before, width, depth, both)


def _lstm(sums: Matrix, cell: Matrix) -> tuple[Matrix, Matrix]:
    into, forget, new, out = np.split(sums, 4, axis=1)
    cell = np.asarray(sigmoid(forget) * cell + sigmoid(into) * np.tanh(new))
    return np.asarray(sigmoid(out) * np.tanh(cell)), cell


def _gru(sums: Matrix, remembered: Matrix, bias: Matrix, held: Matrix) -> Matrix:
    reset, update, new = np.split(sums, 3, axis=1)
    reset_held, update_held, new_held = np.split(remembered, 3, axis=1)
    kept = sigmoid(update + update_held)
    fresh = np.tanh(new + sigmoid(reset + reset_held) * (new_held + bias))
    return np.asarray((1.0 - kept) * fresh + kept * held)
