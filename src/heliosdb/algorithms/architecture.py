"""How a neural network is laid out in a model's state: its layers, and where each one's numbers lie.

What always holds: a state that `read_architecture` takes is whole: one vector of parameters of exactly the
size that its layers ask for, every number within its bounds. The parameters of a layer are its weights,
(units, inputs) in C order, and then its biases; layers follow one another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain import bounds
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.settings import outside
from heliosdb.domain.state import State, freeze
from heliosdb.domain.vector import AnyVector
from heliosdb.parts.networks import count_parameters
from heliosdb.scoring.network import HIDDEN, OUTPUT, Layer

LAYERS, ACTIVATIONS = "layers", "activations"
"""The arrays that say what the parameters are of: units of each layer, and what follows its sums."""

_NAMES = (*OUTPUT, *HIDDEN)
"""An activation by its number in a state."""

_HIDDEN = {_NAMES.index(name, len(OUTPUT)) for name in HIDDEN}
_RECTIFIERS = ("relu", "gelu")


@dataclass(frozen=True, slots=True)
class Architecture:
    """inputs: how many. layers: the units of each. activation: of the hidden ones; output: of the last."""

    inputs: int
    layers: tuple[int, ...]
    activation: str
    output: str

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return count_parameters(self.inputs, self.layers)

    def begin(self, seed: int) -> State:
        """Return the state with which training begins, the same for the same seed.

        Weights of hidden layers are uniform in ±sqrt(6 / inputs) before rectifiers (He et al. 2015), else in
        ±sqrt(6 / (inputs + units)) (Glorot and Bengio 2010). Those of the last are 0, as are biases: it
        begins by telling all rows the mean, or that every class is as likely.
        """
        digest = hashlib.sha256(f"heliosdb network|{seed}".encode()).digest()
        rng = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
        parameters = np.zeros(self.size, dtype=np.float32)
        for place, before, units in self._places():
            if place[1] < self.size:
                ends = before if self.activation in _RECTIFIERS else before + units
                drawn = rng.random(units * before) * 2.0 - 1.0
                parameters[place[0] : place[0] + units * before] = drawn * math.sqrt(6.0 / ends)
        return self.to_state(parameters)

    def to_state(self, parameters: AnyVector) -> State:
        """Return the state of these parameters."""
        last = len(self.layers) - 1
        numbers = [self._number(self.activation if index < last else self.output, index < last)
                   for index in range(last + 1)]  # fmt: skip
        arrays: dict[str, NDArray[Any]] = {
            PARAMETERS: np.asarray(parameters, dtype=np.float32),
            LAYERS: np.array(self.layers, dtype=np.int64),
            ACTIVATIONS: np.array(numbers, dtype=np.uint8),
        }
        return freeze(arrays)

    def split(self, parameters: Any) -> list[tuple[Any, Any]]:
        """Return the weights and biases of each layer, as views of the parameters, an array or a tensor."""
        return [
            (
                parameters[start : start + units * before].reshape(units, before),
                parameters[start + units * before : stop],
            )
            for (start, stop), before, units in self._places()
        ]

    def network(self, parameters: NDArray[Any]) -> list[Layer]:
        """Return the layers as rows are scored by them.

        Of two classes that softmax tells apart the last layer is one unit, whose sum is the second's lead.
        """
        pairs = self.split(np.asarray(parameters, dtype=np.float64))
        names = [self.activation] * (len(pairs) - 1) + [self.output]
        layers = [Layer(weights, biases, name) for (weights, biases), name in zip(pairs, names, strict=True)]
        if self.output == "softmax" and self.layers[-1] == 2:
            weights, biases = pairs[-1]
            layers[-1] = Layer(weights[1:] - weights[:1], biases[1:] - biases[:1], "sigmoid")
        return layers

    def fits(self, classes: int) -> bool:
        """Whether its output is of so many classes, of a number where that is 0."""
        last = self.layers[-1]
        return {"linear": classes == 0 and last == 1, "sigmoid": classes == 2 and last == 1}.get(
            self.output, classes == last and last > 1
        )

    def _places(self) -> Iterator[tuple[tuple[int, int], int, int]]:
        """Give for each layer where its parameters begin and end, how many inputs it has, how many units."""
        start, before = 0, self.inputs
        for units in self.layers:
            stop = start + units * (before + 1)
            yield (start, stop), before, units
            start, before = stop, units

    @staticmethod
    def _number(name: str, hidden: bool) -> int:
        return _NAMES.index(name, len(OUTPUT) if hidden else 0)


def read_architecture(state: State, inputs: int) -> Architecture:
    """Read what a state says of itself; FederatedError INVALID_VALUE where it is not that of a network."""
    layers, activations, parameters = (state.get(name) for name in (LAYERS, ACTIVATIONS, PARAMETERS))
    if len(state) != 3 or layers is None or activations is None or parameters is None:
        raise _strange()
    if not (layers.dtype == np.int64 and activations.dtype == np.uint8 and parameters.dtype == np.float32):
        raise _strange()
    if layers.ndim != 1 or activations.shape != layers.shape or not bounds.LAYERS.hold(layers.size):
        raise _strange()
    units, numbers = [int(one) for one in layers], [int(one) for one in activations]
    if not all(map(bounds.UNITS.hold, units)):
        raise _strange()
    if numbers[-1] >= len(OUTPUT) or not _HIDDEN.issuperset(numbers[:-1]) or len(set(numbers[:-1])) > 1:
        raise _strange()
    hidden = _NAMES[numbers[0]] if len(numbers) > 1 else HIDDEN[0]
    found = Architecture(inputs, tuple(units), hidden, _NAMES[numbers[-1]])
    if parameters.shape != (found.size,) or not bounds.NETWORK_PARAMETERS.hold(found.size):
        raise _strange()
    within = bounds.PARAMETER
    inside = (parameters >= within.least) & (parameters <= within.most)
    if not np.all(inside):
        raise outside("a parameter", float(parameters[~inside][0]), within)
    return found


def _strange() -> FederatedError:
    return invalid_value("The task's parameters do not fit its algorithm and features.")
