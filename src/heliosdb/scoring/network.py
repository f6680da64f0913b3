"""What a neural network makes of rows: at nodes that evaluate it, in the database, and in tests.

What always holds: numbers are taken in float64, whatever type the weights have, in blocks of rows; no value
overflows where the inputs were scaled by `scale`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heliosdb.domain.state import State
from heliosdb.scoring.linear import softmax

Matrix = NDArray[np.float64]

LARGEST_INPUT = 1e6
"""A scaled value beyond counts as this."""

HIDDEN = ("relu", "tanh", "sigmoid", "gelu")
"""What may follow the sums of a hidden layer."""

OUTPUT = ("linear", "sigmoid", "softmax")
"""What may follow those of the last: a number, the second of two classes, one of several classes."""

_BLOCK = 2048
"""Rows at a time: their values stay in the processor's cache."""

_GELU = math.sqrt(2.0 / math.pi)


@dataclass(frozen=True, slots=True)
class Layer:
    """Some units. weights: (units, inputs). biases: (units,). activation: what follows their sums."""

    weights: Matrix
    biases: Matrix
    activation: str


def scale(features: Matrix, means: ArrayLike, scales: ArrayLike) -> Matrix:
    """Scale inputs, fill what is missing with 0, the mean, and cut to ±`LARGEST_INPUT`; (n, d) → (n, d)."""
    # What overflows is cut, what is not a number is filled.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled: Matrix = (features - np.asarray(means)) / np.asarray(scales)
        scaled[~np.isfinite(features)] = 0.0
        np.minimum(scaled, LARGEST_INPUT, out=scaled)
        return np.maximum(scaled, -LARGEST_INPUT, out=scaled)


def forward(layers: Sequence[Layer], inputs: Matrix) -> Matrix:
    """Return the sums of the last layer, before its activation; (n, d) → (n, units), inputs as `scale` left
    them.
    """
    prepared = [(np.asarray(one.weights, float).T, np.asarray(one.biases, float)) for one in layers]
    out = np.empty((inputs.shape[0], prepared[-1][1].size))
    for start in range(0, out.shape[0], _BLOCK):
        values = inputs[start : start + _BLOCK]
        for layer, (weights, biases) in zip(layers, prepared, strict=True):
            sums = values @ weights
            sums += biases
            values = sums if layer is layers[-1] else _activate(layer.activation, sums)
        out[start : start + _BLOCK] = values
    return out


def score(content: Mapping[str, Any], arrays: State, inputs: Matrix) -> Matrix:
    """Score rows, see scoring/kinds.py.

    content: `activations`, one for each layer; `link`; target_mean and target_scale. arrays: means and
    scales, (inputs,); weight_0, (units, inputs), bias_0, (units,), and so on for each layer.
    """
    layers = [
        Layer(arrays[f"weight_{place}"], arrays[f"bias_{place}"], name)
        for place, name in enumerate(content["activations"])
    ]
    sums = forward(layers, scale(inputs, arrays["means"], arrays["scales"]))
    match content["link"]:
        case "softmax":
            return softmax(sums)
        case "logistic":
            return sigmoid(sums[:, 0])
        case _:
            return content["target_mean"] + content["target_scale"] * sums[:, 0]  # type: ignore[no-any-return]


def sigmoid(sums: Matrix) -> Matrix:
    """Return 1 / (1 + exp(-sum)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * sums))


def _activate(name: str, sums: Matrix) -> Matrix:
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
            return 0.5 * sums * (1.0 + np.tanh(_GELU * (cut + 0.044715 * cut**3)))
    raise ValueError(f"there is no activation {name!r}")
