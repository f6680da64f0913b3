"""Activations and losses of columns of sums, of which each depends on its own column alone.

What always holds: elementwise functions treat every element alike, wherever it stands in its array, and sums
within a column are folds (privacy/clipping.py); tests/security/test_layer_independence.py holds that for the
numpy in use. Nothing overflows for sums up to `private_layers.LARGEST_SUM`.
"""

from __future__ import annotations

import math

import numpy as np

from heliosdb.algorithms.families import sigmoid
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import fold

_GELU, _CUBE = math.sqrt(2.0 / math.pi), 0.044715


def activate(name: str, sums: Matrix) -> Matrix:
    """As scoring/network.py does; |sums| ≤ `LARGEST_SUM`."""
    match name:
        case "relu":
            return np.maximum(sums, 0.0)
        case "tanh":
            return np.tanh(sums)
        case "sigmoid":
            return sigmoid(sums)
        case "gelu":
            return np.multiply(0.5 * sums, 1.0 + _gelu_tangent(sums))
    raise ValueError(f"there is no activation {name!r}")


def derivative(name: str, sums: Matrix) -> Matrix:
    """Return the derivative of `activate`; relu's at 0 is 0."""
    match name:
        case "relu":
            return np.where(sums > 0.0, 1.0, 0.0)
        case "tanh":
            return np.subtract(1.0, np.square(np.tanh(sums)))
        case "sigmoid":
            return np.multiply(0.25, 1.0 - np.square(np.tanh(0.5 * sums)))
        case "gelu":
            tangent = _gelu_tangent(sums)
            inner = _GELU * (1.0 + 3.0 * _CUBE * np.square(sums))
            return np.add(0.5 * (1.0 + tangent), 0.5 * sums * (1.0 - np.square(tangent)) * inner)
    raise ValueError(f"there is no activation {name!r}")


def _gelu_tangent(sums: Matrix) -> Matrix:
    # Spelled out: a power is computed otherwise on some machines.
    return np.tanh(_GELU * (sums + _CUBE * (sums * sums * sums)))


def softmax_columns(scores: Matrix) -> Matrix:
    """Return the probabilities of the classes, one column for each row; (K, n) → (K, n)."""
    grown = np.exp(scores - scores.max(axis=0))
    shares: Matrix = grown / fold(grown.copy())
    return shares


def softmax_column_slopes(scores: Matrix, targets: Vector) -> Matrix:
    """Return the derivatives of the loss by the scores; (K, n)."""
    slopes = softmax_columns(scores)
    slopes[targets.astype(np.int64), np.arange(targets.size)] -= 1.0
    return slopes
