"""How a local step follows from its gradient: plain, with momentum, or by Adam.

What always holds: what an optimizer remembers begins anew in each round at each node and never travels; a
step is a function of the gradients so far alone. So where these are private, the steps are too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from heliosdb.domain.descent import MOMENTUM, worth_of_step
from heliosdb.domain.vector import Vector
from heliosdb.parts.algorithms import LocalOptimizer

ADAM_DECAYS, ADAM_EPSILON = (0.9, 0.999), 1e-8
"""Those of Kingma and Ba 2015, algorithm 1."""

Step = Callable[[Vector, float], Vector]
"""(sum of gradients, by what it is divided) → what is subtracted from the parameters."""

REACH = {"sgd": 1.0, "momentum": 1.0 / (1.0 - MOMENTUM)}
"""How many times further than the sum of its gradients a descent may go; by Adam see `adam_reach`."""


def make_optimizer(name: LocalOptimizer, learning_rate: float, size: int | tuple[int, ...]) -> Step:
    """Return the steps of an optimizer that remembers nothing yet; size: of the parameters, or shape."""
    if name == "sgd":
        return lambda total, count: (learning_rate / count) * total
    return _Momentum(learning_rate, size) if name == "momentum" else _Adam(learning_rate, size)


def worth_of(name: LocalOptimizer, learning_rate: float, step: int) -> float:
    """Return by what a step, counted from 1, multiplies a gradient that was the same in all: with that a term
    of the objective has to be taken behind the step, to weigh beside the gradients what it says.

    Adam's steps have no such number of their own: behind them it is learning_rate, as AdamW has it
    (Loshchilov and Hutter 2019).
    """
    return learning_rate * worth_of_step(step, MOMENTUM if name == "momentum" else 0.0)


def adam_reach(learning_rate: float, steps: int, size: int) -> float:
    """Return an L2 norm that so many steps of Adam never exceed, whatever the gradients.

    With decays a and b and gradients g of one parameter, the mean is (1 - a) times the sum of a^i g, and
    the root of the mean square is sqrt(1 - b) times that of the sum of b^i g². By Cauchy and Schwarz their
    quotient is at most (1 - a) / sqrt((1 - b) (1 - a²/b)), which the corrections only make smaller. (What
    Kingma and Ba 2015 say in section 2.1 is of a single gradient.)
    """
    a, b = ADAM_DECAYS
    return learning_rate * steps * (1.0 - a) / math.sqrt((1.0 - b) * (1.0 - a * a / b)) * math.sqrt(size)


class _Momentum:
    """v = 0.9 v + gradient; the step is learning_rate x v."""

    def __init__(self, learning_rate: float, size: int | tuple[int, ...]) -> None:
        self._rate, self._velocity = learning_rate, np.zeros(size)

    def __call__(self, total: Vector, count: float) -> Vector:
        self._velocity *= MOMENTUM
        self._velocity += total / count
        return self._rate * self._velocity


class _Adam:
    """The step is learning_rate x mean of the gradients / root of that of their squares, both corrected."""

    def __init__(self, learning_rate: float, size: int | tuple[int, ...]) -> None:
        self._rate, self._steps = learning_rate, 0
        self._first, self._second = np.zeros(size), np.zeros(size)

    def __call__(self, total: Vector, count: float) -> Vector:
        self._steps += 1
        slopes = total / count
        decay, decay_square = ADAM_DECAYS
        self._first += (1.0 - decay) * (slopes - self._first)
        self._second *= decay_square
        self._second += (1.0 - decay_square) * np.square(slopes)
        root = np.sqrt(self._second / (1.0 - decay_square**self._steps)) + ADAM_EPSILON
        return (self._rate / (1.0 - decay**self._steps)) * self._first / root
