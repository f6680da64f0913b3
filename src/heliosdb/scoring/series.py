"""What a network on series makes of rows: at nodes that evaluate it, in the database, and in tests.

What always holds: no value overflows where the inputs were scaled by `scale`; sums are in float64, and agree
with PyTorch's in float32 to 1e-5, relative to the largest that they are made of. What is computed of rows at
a time takes some tens of megabytes, however many rows and whatever the network.

A row's first inputs are its series, of which the front makes steps (fronts.py); the body makes numbers of the
steps (recurrent.py, transformer.py), which the inputs beside them join; then come layers as of any network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heliosdb.domain import bounds
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.state import State
from heliosdb.scoring import network
from heliosdb.scoring.fronts import FRONTS, Front, Shapes, Steps, There, count, views
from heliosdb.scoring.network import Layer, forward, linked
from heliosdb.scoring.recurrent import Recurrent
from heliosdb.scoring.transformer import Transformer

Matrix = NDArray[np.float64]

_NUMBERS_AT_ONCE = 1 << 20

MOST_AT_ONCE = 4 * int(bounds.WINDOWS.most)
"""Of `Body.widest`: more than any network whose options pass `check_series`."""


class Body(Protocol):
    """What makes numbers of steps, without its parameters. kind: its name in a prediction."""

    @property
    def kind(self) -> str: ...

    @property
    def before(self) -> int:
        """How many numbers a step has to be."""
        ...

    @property
    def made(self) -> int:
        """How many numbers come of a row."""
        ...

    @property
    def shapes(self) -> Shapes:
        """Of its parameters, which follow one another."""
        ...

    def widest(self, length: int) -> int:
        """How many numbers of a row of so many steps are held at once, about."""
        ...

    def pass_rows(self, leaves: Sequence[Matrix], steps: Steps, there: There) -> Matrix:
        """Return what it makes of rows; (n, length, before) → (n, made)."""
        ...

    def to_content(self) -> dict[str, Any]:
        """Return what a prediction says of it."""
        ...


_BODIES: Mapping[str, type[Recurrent] | type[Transformer]] = {
    name: one for one in (Recurrent, Transformer) for name in one.NAMES
}


@dataclass(frozen=True, slots=True)
class Series:
    """A whole network. of_front, of_body: their parameters, in their shapes. layers: behind them."""

    front: Front
    body: Body
    of_front: Sequence[Matrix]
    of_body: Sequence[Matrix]
    layers: Sequence[Layer]

    def sums(self, inputs: Matrix) -> Matrix:
        """Return the last sums, before their activation; (n, inputs) → (n, units), inputs as `scale` left
        them."""
        out = np.empty((len(inputs), self.layers[-1].biases.size))
        at_once = max(1, _NUMBERS_AT_ONCE // self.body.widest(self.front.length))
        for start in range(0, len(out), at_once):
            rows = inputs[start : start + at_once]
            steps, there = self.front.take(self.of_front, rows[:, : self.front.inputs])
            made = self.body.pass_rows(self.of_body, steps, there)
            joined = np.concatenate([made, rows[:, self.front.inputs :]], axis=1)
            out[start : start + at_once] = forward(self.layers, joined)
        return out


def scale(front: Front, features: Matrix, means: ArrayLike, scales: ArrayLike) -> Matrix:
    """Scale the inputs of rows, those of the series as its front takes them; (n, d) → (n, d)."""
    means, scales, own = np.asarray(means), np.asarray(scales), front.inputs
    beside = network.scale(features[:, own:], means[own:], scales[own:])
    return np.concatenate([front.scale(features[:, :own], means[:own], scales[:own]), beside], axis=1)


def read_front(content: object) -> Front:
    """Read what a prediction says of its front; FederatedError INVALID_VALUE for what is none."""
    if (
        not isinstance(content, Mapping)
        or set(content) != {"kind", "numbers"}
        or content["kind"] not in FRONTS
    ):
        raise invalid_value("the front of its network is none")
    numbers = content["numbers"]
    if not isinstance(numbers, list) or not all(type(one) is int for one in numbers):
        raise invalid_value("the front of its network is none")
    found: Front = FRONTS[content["kind"]].of_numbers(numbers)
    return found


def read_body(content: object, before: int) -> Body:
    """Read what a prediction says of its body; FederatedError INVALID_VALUE for what is none."""
    if not isinstance(content, Mapping) or content.get("kind") not in _BODIES:
        raise invalid_value("the body of its network is none")
    return _BODIES[content["kind"]].of_content(content, before)


def read_series(content: Mapping[str, Any], arrays: State) -> Series:
    """Read a prediction: content has `front`, `body` and, of the layers, `activations`; arrays front and
    body, the parameters of each in one row, and weight_0 and bias_0 of each layer."""
    front = read_front(content["front"])
    body = read_body(content["body"], front.width)
    parts = []
    for name, one in (("front", front), ("body", body)):
        numbers = np.asarray(arrays[name], dtype=np.float64)
        if numbers.shape != (count(one.shapes),):
            raise invalid_value("its numbers are not those of its network")
        parts.append(views(numbers, one.shapes))
    layers = [
        Layer.of(arrays[f"weight_{place}"], arrays[f"bias_{place}"], name)
        for place, name in enumerate(content["activations"])
    ]
    return Series(front, body, parts[0], parts[1], layers)


def score(content: Mapping[str, Any], arrays: State, inputs: Matrix) -> Matrix:
    """Score rows, see scoring/kinds.py and `read_series`."""
    return prepare(content, arrays)(inputs)


def prepare(content: Mapping[str, Any], arrays: State) -> Callable[[Matrix], Matrix]:
    """Return what scores rows as `score` does, with the network in place."""
    found = read_series(content, arrays)

    def scored(inputs: Matrix) -> Matrix:
        return linked(content, found.sums(scale(found.front, inputs, arrays["means"], arrays["scales"])))

    return scored
