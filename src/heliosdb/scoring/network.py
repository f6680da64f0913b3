"""What a neural network makes of rows: at nodes that evaluate it, in the database, and in tests.

What always holds: no value overflows where the inputs were scaled by `scale`. Nodes measure in float64
(`forward`). What predicts (`prepare`, `prepare_row`) sums in float32, in which networks are trained, unless
weights are so large that a sum might not be a float32: it agrees with float64 to 1e-5, relative to the
largest that the sums are made of; and one row by itself with the same row among others to 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heliosdb.domain.state import State
from heliosdb.scoring.linear import softmax

Matrix = NDArray[np.float64]
Sums = NDArray[np.floating[Any]]
"""float32 or float64."""

LARGEST_INPUT = 1e6
"""A scaled value beyond counts as this."""

HIDDEN = ("relu", "tanh", "sigmoid", "gelu")
"""What may follow the sums of a hidden layer."""

OUTPUT = ("linear", "sigmoid", "softmax")
"""What may follow those of the last: a number, the second of two classes, one of several classes."""

_BLOCK = 512
"""Rows at a time: their values stay in the processor's cache."""

_LARGEST_SUM = 1e30
"""Sums that may be larger are taken in float64."""

_PLAIN = 1e140
"""Below it, a value less a mean, divided by a scale, is a float: what is larger takes the dearer way."""

_GELU = math.sqrt(2.0 / math.pi)


@dataclass(frozen=True, slots=True)
class Layer:
    """Some units. weights: (units, inputs). biases: (units,). activation: what follows their sums."""

    weights: Matrix
    biases: Matrix
    activation: str

    @classmethod
    def of(cls, weights: ArrayLike, biases: ArrayLike, activation: str) -> Layer:
        """Make one of numbers of any type."""
        return cls(np.asarray(weights, dtype=np.float64), np.asarray(biases, dtype=np.float64), activation)


def scale(features: Matrix, means: ArrayLike, scales: ArrayLike) -> Matrix:
    """Scale inputs, fill what is missing with 0, the mean, and cut to ±`LARGEST_INPUT`; (n, d) → (n, d)."""
    # What overflows is cut, what is not a number is filled.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: Matrix = features - np.asarray(means)
        scaled /= np.asarray(scales)
        # Squares whose sum is small say at once that nothing is missing, and nothing to be cut.
        if not np.vdot(scaled, scaled) <= LARGEST_INPUT**2:
            scaled[~np.isfinite(features)] = 0.0
            np.minimum(scaled, LARGEST_INPUT, out=scaled)
            np.maximum(scaled, -LARGEST_INPUT, out=scaled)
    return scaled


def forward(layers: Sequence[Layer], inputs: Matrix) -> Matrix:
    """Return the sums of the last layer, before its activation; (n, d) → (n, units), inputs as `scale` left
    them.
    """
    out = np.empty((inputs.shape[0], layers[-1].biases.size))
    for start in range(0, out.shape[0], _BLOCK):
        values = inputs[start : start + _BLOCK]
        for layer in layers:
            sums = values @ layer.weights.T
            sums += layer.biases
            values = sums if layer is layers[-1] else np.asarray(activate(layer.activation, sums))
        out[start : start + _BLOCK] = values
    return out


def score(content: Mapping[str, Any], arrays: State, inputs: Matrix) -> Matrix:
    """Score rows, see scoring/kinds.py.

    content: `activations`, one for each layer; `link`; target_mean and target_scale. arrays: means and
    scales, (inputs,); weight_0, (units, inputs), bias_0, (units,), and so on for each layer.
    """
    return prepare(content, arrays)(inputs)


def prepare(content: Mapping[str, Any], arrays: State) -> Callable[[Matrix], Matrix]:
    """Return what scores rows as `score` does, with the layers in place."""
    activations, weights = content["activations"], _weights(content, arrays)

    def scored(inputs: Matrix) -> Matrix:
        out = np.empty((inputs.shape[0], weights[-1].shape[1]))
        # Made once for all blocks: fresh memory costs as much as what is computed in it.
        buffers = [np.empty((min(_BLOCK, len(out)), one.shape[1]), one.dtype) for one in weights]
        for start in range(0, len(out), _BLOCK):
            block = scale(inputs[start : start + _BLOCK], arrays["means"], arrays["scales"])
            values: Sums = block.astype(weights[0].dtype)
            for name, weight, buffer in zip(activations, weights, buffers, strict=True):
                sums = np.matmul(values, weight[:-1], out=buffer[: len(block)])
                sums += weight[-1]
                values = sums if weight is weights[-1] else activate(name, sums)
            out[start : start + _BLOCK] = values
        return linked(content, out)

    return scored


def linked(content: Mapping[str, Any], sums: Matrix) -> Matrix:
    """Return what the last layer's sums, (n, units), predict: (n,), of several classes (n, classes)."""
    match content["link"]:
        case "softmax":
            return softmax(sums)
        case "logistic":
            return np.asarray(sigmoid(sums[:, 0]))
        case _:
            found: Matrix = content["target_mean"] + content["target_scale"] * sums[:, 0]
            return found


def prepare_row(content: Mapping[str, Any], arrays: State) -> Callable[[Matrix], float | Matrix]:
    """Return what scores one row, (inputs,) → a number or (classes,), in buffers that are made once.

    Each step is a call whose arguments are in place: for so few numbers, a call costs more than what it does.
    What is returned is for one row at a time.
    """
    means, scales = (np.array(arrays[name], dtype=np.float64) for name in ("means", "scales"))
    is_plain = bool(abs(means).max(initial=0.0) < _PLAIN and scales.min(initial=1.0) > 1.0 / _PLAIN)
    values, sums, steps = _steps(content, arrays)

    def scaled(inputs: Matrix) -> Matrix:
        # A square that is small says at once that nothing is missing, and nothing to be cut.
        if is_plain and inputs.dot(inputs) < _PLAIN:
            found = inputs - means
            found /= scales
            if found.dot(found) <= LARGEST_INPUT**2:
                return found
        return scale(inputs, means, scales)

    def scored(inputs: Matrix) -> float | Matrix:
        values[:-1] = scaled(inputs)
        for step in steps:
            step()
        match content["link"]:
            case "softmax":
                shares: Matrix = softmax(sums[None].astype(np.float64))[0]
                return shares
            case "logistic":
                return 0.5 * (1.0 + math.tanh(0.5 * float(sums[0])))
            case _:
                return float(content["target_mean"] + content["target_scale"] * float(sums[0]))

    return scored


def _weights(content: Mapping[str, Any], arrays: State) -> list[Sums]:
    """Return each layer's weights with its biases below them, (inputs + 1, units), as they are multiplied."""
    weights = [
        np.vstack([np.transpose(arrays[f"weight_{place}"]), arrays[f"bias_{place}"]]).astype(np.float64)
        for place in range(len(content["activations"]))
    ]
    bound = LARGEST_INPUT
    for weight, name in zip(weights, content["activations"], strict=True):
        bound = float((np.abs(weight) * max(1.0, bound)).sum(axis=0).max())
        if not bound < _LARGEST_SUM:
            return list(weights)
        bound = 1.0 if name in ("tanh", "sigmoid") else bound
    return [weight.astype(np.float32) for weight in weights]


def _steps(content: Mapping[str, Any], arrays: State) -> tuple[Sums, Sums, list[Callable[[], object]]]:
    """Return where a row's scaled inputs are put, with a 1 behind them for the biases; where the last layer's
    sums are found; and what to call in between."""
    weights = _weights(content, arrays)
    first = values = np.ones(weights[0].shape[0], weights[0].dtype)
    steps: list[Callable[[], object]] = []
    for name, weight in zip(content["activations"], weights, strict=True):
        after = np.ones(weight.shape[1] + 1, weight.dtype)
        sums = after[:-1]
        steps.append(partial(values.dot, weight, sums))
        if weight is not weights[-1]:
            steps.append(partial(_activate_into, name, sums, np.zeros_like(sums)))
        values = after
    return first, values[:-1], steps


def _activate_into(name: str, sums: Sums, zeros: Sums) -> None:
    if name == "relu":
        np.maximum(sums, zeros, out=sums)
    else:
        sums[:] = activate(name, sums)


def sigmoid(sums: Sums) -> Sums:
    """Return 1 / (1 + exp(-sum)), without overflow."""
    found: Sums = 0.5 * (1.0 + np.tanh(0.5 * sums))
    return found


def activate(name: str, sums: Sums) -> Sums:
    """In place where that is possible. gelu: by tanh (Hendrycks and Gimpel 2016, section 2)."""
    match name:
        case "relu":
            return np.maximum(sums, 0.0, out=sums)
        case "tanh":
            return np.tanh(sums, out=sums)
        case "sigmoid":
            return sigmoid(sums)
        case "gelu":
            # Where the cube would overflow the tangent is ±1 long since.
            cut = np.minimum(np.maximum(sums, -1e3), 1e3)
            found: Sums = 0.5 * sums * (1.0 + np.tanh(_GELU * (cut + 0.044715 * cut**3)))
            return found
    raise ValueError(f"there is no activation {name!r}")
