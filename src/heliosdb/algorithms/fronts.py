"""Training of the fronts of networks on series: how they begin, and what PyTorch makes of the same rows.

What always holds: what scoring/fronts.py says of a front, here in PyTorch too. A kind of front has one line
in `FRONTS`, and every network on series may begin with any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.perceptron import draw_weights
from heliosdb.scoring.fronts import Front, Numbers


class FrontTraining(Protocol):
    """What there is to one kind of front at a node that trains."""

    def draw(self, front: Any, rng: np.random.Generator) -> Sequence[NDArray[Any]]:
        """Return its parameters to begin with, in their shapes."""
        ...

    def take(self, torch: Any, front: Any, leaves: Sequence[Any], rows: Any) -> tuple[Any, Any]:
        """As `Front.take`, by PyTorch; rows: those inputs that are its own."""
        ...


class NumbersTraining:
    """Of series of numbers."""

    def draw(self, front: Numbers, rng: np.random.Generator) -> Sequence[NDArray[Any]]:
        """See `FrontTraining`: weights as Glorot and Bengio 2010 have them; biases of 0, as are weights on
        what says that a value is missing."""
        if not front.projected:
            return []
        weights, biases = front.shapes
        drawn = draw_weights(rng, weights[0] * weights[1], weights[1], weights[0], "linear")
        drawn = drawn.reshape(weights)
        drawn[:, front.channels :] = 0.0
        return [drawn, np.zeros(biases)]

    def take(self, torch: Any, front: Numbers, leaves: Sequence[Any], rows: Any) -> tuple[Any, Any]:
        """See `FrontTraining`."""
        values = rows.reshape(len(rows), front.channels, front.length).transpose(1, 2)
        missing = torch.isnan(values)
        known = ~missing.all(dim=2)
        there = known.flip(1).to(torch.int64).cumsum(1).flip(1) > 0
        filled = torch.where(missing, torch.zeros_like(values), values)
        steps = torch.cat([filled, missing.to(values.dtype)], dim=2)
        return (torch.nn.functional.linear(steps, leaves[0], leaves[1]) if leaves else steps), there


_FRONTS: Mapping[str, FrontTraining] = {Numbers.kind: NumbersTraining()}


def training_of(front: Front) -> FrontTraining:
    """Return what trains a front."""
    return _FRONTS[front.kind]
