"""Fully connected layers on the inputs: how they are laid out in a model's state, and what they compute.

What always holds: a state that `read_perceptron` takes is whole: one vector of parameters of exactly the
size that its layers ask for, every number within its bounds. The parameters of a layer are its weights,
(units, inputs) in C order, and then its biases; layers follow one another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.private_layered import clamped_layers, join_layers, output_slopes
from heliosdb.algorithms.private_layers import Layers, Passing, Shape
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS
from heliosdb.domain import bounds
from heliosdb.domain.errors import FederatedError, invalid_value
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.settings import outside
from heliosdb.domain.state import State, freeze
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AnyVector, Matrix, Vector
from heliosdb.parts.algorithms import NetworkSettings
from heliosdb.parts.networks import check_layers, check_size, count_parameters
from heliosdb.scoring.network import HIDDEN, OUTPUT, Layer, forward, scale

LAYERS, ACTIVATIONS = "layers", "activations"
"""The arrays that say what the parameters are of: units of each layer, and what follows its sums."""

_NAMES = (*OUTPUT, *HIDDEN)
"""An activation by its number in a state."""

_HIDDEN = {_NAMES.index(name, len(OUTPUT)) for name in HIDDEN}
_RECTIFIERS = ("relu", "gelu")
_LINKS = {"linear": "identity", "sigmoid": "logistic", "softmax": "softmax"}


@dataclass(frozen=True, slots=True)
class Perceptron:
    """inputs: how many. layers: the units of each. activation: of the hidden ones; output: of the last."""

    inputs: int
    layers: tuple[int, ...]
    activation: str
    output: str

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return count_parameters(self.inputs, self.layers)

    def scale(self, features: Matrix, scaling: Scaling) -> Matrix:
        """See `Architecture`."""
        return scale(features, scaling.means, scaling.scales)

    def hide_few(self, rows: Table, scaling: Scaling) -> Matrix:
        """See `Architecture`: a missing value is the mean already."""
        del scaling
        return rows.features

    def begin(self, seed: int) -> State:
        """Return the state with which training begins, the same for the same seed.

        See `draw`.
        """
        return self.to_state(self.draw(generator(seed)))

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the parameters with which training begins.

        Weights of hidden layers are uniform in ±sqrt(6 / inputs) before rectifiers (He et al. 2015), else in
        ±sqrt(6 / (inputs + units)) (Glorot and Bengio 2010). Those of the last are 0, as are biases: it
        begins by telling all rows the mean, or that every class is as likely.
        """
        parameters = np.zeros(self.size, dtype=np.float32)
        for place, before, units in self._places():
            if place[1] < self.size:
                drawn = draw_weights(rng, units * before, before, units, self.activation)
                parameters[place[0] : place[0] + units * before] = drawn
        return parameters

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

    def leaves(self, parameters: Any) -> list[Any]:
        """See `Architecture`."""
        return [one for pair in self.split(parameters) for one in pair]

    def pass_through(self, torch: Any, leaves: Sequence[Any], rows: Any) -> Any:
        """See `Architecture`."""
        values = rows
        for place in range(0, len(leaves), 2):
            values = torch.nn.functional.linear(values, leaves[place], leaves[place + 1])
            if place + 2 < len(leaves):
                values = activate_by_torch(torch, self.activation, values)
        return values

    def sums(self, parameters: Vector, inputs: Matrix) -> Matrix:
        """See `Architecture`."""
        return forward(self.network(parameters), inputs)

    def shape(self) -> Shape:
        """See `Architecture`."""
        return Shape(
            output_slopes(self.output),
            lambda parameters: Layers(self.joined(parameters), self.activation),
            join_layers,
        )

    def joined(self, parameters: Vector) -> list[Matrix]:
        """Return the weights of each layer with its biases as the last column, as `Layers` takes them."""
        return [np.column_stack(pair) for pair in self.split(parameters)]

    def scorer(self, parameters: Vector) -> Passing:
        """See `Architecture`."""
        layers = self.network(parameters)
        return clamped_layers([np.column_stack((one.weights, one.biases)) for one in layers], self.activation)

    def predict(self, parameters: Vector, scaling: Scaling) -> Prediction:
        """Return the layers and the scaling, as scoring/network.py reads them."""
        layers = self.network(parameters)
        content, arrays = scaled_prediction(layers[-1].activation, scaling)
        content["activations"] = [layer.activation for layer in layers]
        return Prediction("network", content, arrays | layer_arrays(layers))

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


class Perceptrons:
    """Networks of fully connected layers, see architecture.py."""

    def plan(self, plan: RunPlan) -> Perceptron:
        """See `Family`."""
        settings = plan.run.options.settings(NetworkSettings)
        return Perceptron(len(plan.inputs), settings.layers, settings.activation, settings.output_activation)

    def check(self, plan: RunPlan, classes: int | None) -> None:
        """See `Family`; too many numbers are refused once the inputs are known."""
        settings = plan.run.options.settings(NetworkSettings)
        check_layers(settings, plan.run.options.target, classes)
        check_size(len(plan.inputs), settings.layers)

    def read(self, state: State, inputs: int) -> Perceptron:
        """See `Family`."""
        return read_perceptron(state, inputs)

    def rescale(self, plan: RunPlan, scaling: Scaling) -> Scaling:
        """See `Family`: every input by its own mean and spread."""
        del plan
        return scaling


PERCEPTRONS = Perceptrons()


def generator(seed: int) -> np.random.Generator:
    """Return what a network begins by."""
    digest = hashlib.sha256(f"heliosdb network|{seed}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def draw_weights(
    rng: np.random.Generator, count: int, before: int, units: int, activation: str
) -> NDArray[Any]:
    """Return so many weights of a hidden layer, see `Perceptron.draw`. before, units: that meet in one."""
    ends = before if activation in _RECTIFIERS else before + units
    drawn: NDArray[Any] = (rng.random(count) * 2.0 - 1.0) * math.sqrt(6.0 / ends)
    return drawn


def activate_by_torch(torch: Any, name: str, values: Any) -> Any:
    """As scoring/network.py does."""
    match name:
        case "relu":
            return torch.relu(values)
        case "tanh":
            return torch.tanh(values)
        case "sigmoid":
            return torch.sigmoid(values)
        case _:
            return torch.nn.functional.gelu(values, approximate="tanh")


def scaled_prediction(output: str, scaling: Scaling) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what every network's prediction has: of its content, and of its arrays."""
    content: dict[str, Any] = {
        "link": _LINKS[output],
        "target_mean": float(scaling.target_mean),
        "target_scale": float(scaling.target_scale),
    }
    return content, {"means": np.array(scaling.means), "scales": np.array(scaling.scales)}


def layer_arrays(layers: Sequence[Layer]) -> dict[str, NDArray[Any]]:
    """Return the arrays of layers in a prediction."""
    arrays: dict[str, NDArray[Any]] = {}
    for place, layer in enumerate(layers):
        arrays |= {f"weight_{place}": compact(layer.weights), f"bias_{place}": compact(layer.biases)}
    return arrays


def compact(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return them in float32 where that loses nothing, as it does not of parameters."""
    small = numbers.astype(np.float32)
    return small if np.array_equal(small, numbers) else numbers


def read_perceptron(state: State, inputs: int) -> Perceptron:
    """Read what a state says of itself; FederatedError INVALID_VALUE where it is not that of a network."""
    if set(state) != {PARAMETERS, LAYERS, ACTIVATIONS}:
        raise strange_state()
    found = read_layers(state, inputs)
    check_numbers(state[PARAMETERS], found.size)
    return found


def read_layers(state: State, inputs: int) -> Perceptron:
    """Read the layers of a state that has `LAYERS` and `ACTIVATIONS`; as `read_perceptron`."""
    layers, activations = state[LAYERS], state[ACTIVATIONS]
    if layers.dtype != np.int64 or activations.dtype != np.uint8:
        raise strange_state()
    if layers.ndim != 1 or activations.shape != layers.shape or not bounds.LAYERS.hold(layers.size):
        raise strange_state()
    units, numbers = [int(one) for one in layers], [int(one) for one in activations]
    if not all(map(bounds.UNITS.hold, units)):
        raise strange_state()
    if numbers[-1] >= len(OUTPUT) or not _HIDDEN.issuperset(numbers[:-1]) or len(set(numbers[:-1])) > 1:
        raise strange_state()
    hidden = _NAMES[numbers[0]] if len(numbers) > 1 else HIDDEN[0]
    return Perceptron(inputs, tuple(units), hidden, _NAMES[numbers[-1]])


def check_numbers(parameters: NDArray[Any], size: int) -> None:
    """Raise FederatedError INVALID_VALUE for what are not so many parameters within their bounds."""
    if parameters.dtype != np.float32 or parameters.shape != (size,):
        raise strange_state()
    if not bounds.NETWORK_PARAMETERS.hold(size):
        raise strange_state()
    within = bounds.PARAMETER
    inside = (parameters >= within.least) & (parameters <= within.most)
    if not np.all(inside):
        raise outside("a parameter", float(parameters[~inside][0]), within)


def strange_state() -> FederatedError:
    """Make the error for a state that is none of the task's."""
    return invalid_value("The task's parameters do not fit its algorithm and features.")
