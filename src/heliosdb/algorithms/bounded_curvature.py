"""Gradient and Hessian, to be bounded, of a model with a slope for each input and an intercept for each cell.

What always holds: a row's vector is a function of that row, to the last bit; its L2 norm is that of the
gradient and the Frobenius norm of the Hessian together, so that noise of one deviation in every value is the
same in every direction.

A regression has one cell; a piecewise exponential model has one for each interval of time. Parameters are
the slopes, then the intercepts. With p inputs and J cells, a row of inputs x, and of each cell the residual
r_j and the weight w_j (first and second derivative of the loss by the score), r and w their sums,
z = x / √(p + 1) and o = 1 / √(p + 1), which makes (z, o) about 1 long where the inputs are scaled, the vector
is c times

    a r z (p), a r_j o (J), b w z z' (upper triangle by rows), b √2 w_j o z (p for each cell), b w_j o² (J)

where what lies off the diagonal counts √2 times, since it stands for two entries. a and b (`Shares`) make
either part about 1 at the scores with which a search begins.

The row's weight c is at most 1, and makes the vector as long as the clipping norm C at most, whatever the
target: c = C / √(a² R² s² + b² W² s⁴), s being the length of (z, o), R the largest residual that a row of
these inputs may have and W its largest weight (`Reach`). So no target decides how much a row counts, and the
estimate is that of a weighted regression: to cut rows by their own residuals instead would favour those that
a model fits already, and on 4,000 rows made a logistic model's slopes half as large again as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import fold

_TWICE = math.sqrt(2.0)


@dataclass(frozen=True, slots=True)
class Shares:
    """By what the gradient and the Hessian are multiplied before they are bounded together; a, b above."""

    slope: float = 1.0
    curvature: float = 1.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a row of certain inputs may go at most, whatever its target: R and W above; (n,), R above 0."""

    residual: Vector
    weight: Vector


@dataclass(frozen=True, slots=True)
class CurvatureLayout:
    """p inputs, J cells; see the module."""

    inputs: int
    cells: int
    shares: Shares

    @property
    def parameters(self) -> int:
        """How many there are."""
        return self.inputs + self.cells

    @property
    def size(self) -> int:
        """How many values a vector has."""
        upper = self.inputs * (self.inputs + 1) // 2
        return self.parameters + upper + self.cells * (self.inputs + 1)

    @property
    def length(self) -> float:
        """√(p + 1): by so much a parameter is larger where inputs are divided by it."""
        return math.sqrt(self.inputs + 1.0)

    @property
    def intercepts(self) -> Vector:
        """1 for the parameters that are intercepts, else 0; (P,)."""
        return np.concatenate([np.zeros(self.inputs), np.ones(self.cells)])

    def case_weights(self, columns: Matrix, reach: Reach, clipping_norm: float) -> Vector:
        """Return c of each row; columns: (p, n) → (n,)."""
        ones = np.full((1, columns.shape[1]), 1.0 / self.length)
        squares = np.square(np.concatenate([columns / self.length, ones]))
        lengths = fold(squares)
        slope = np.square(self.shares.slope * reach.residual) * lengths
        curved = np.square(self.shares.curvature * reach.weight * lengths)
        weights: Vector = np.minimum(1.0, clipping_norm / np.sqrt(slope + curved))
        return weights

    def row_vectors(
        self, columns: Matrix, residuals: Matrix, weights: Matrix, case_weights: Vector
    ) -> Matrix:
        """Return the vector of each row; columns: (p, n), residuals, weights: (J, n), case_weights: (n,).

        The result is of the shape (size, n).
        """
        p, a, b = self.inputs, self.shares.slope, self.shares.curvature
        z, one = columns / self.length, 1.0 / self.length
        residuals, weights = residuals * case_weights, weights * case_weights
        residual, weight = fold(residuals.copy()), b * fold(weights.copy())
        out = np.empty((self.size, columns.shape[1]))
        np.multiply(z, a * residual, out=out[:p])
        np.multiply(residuals, a * one, out=out[p : self.parameters])
        place = self.parameters
        for row in range(p):
            block = out[place : place + p - row]
            np.multiply(z[row:], z[row] * weight, out=block)
            block[1:] *= _TWICE
            place += p - row
        for cell in range(self.cells):
            np.multiply(z, weights[cell] * (_TWICE * b * one), out=out[place : place + p])
            place += p
        np.multiply(weights, b * one * one, out=out[place:])
        return out

    def read(self, vector: Vector) -> tuple[Vector, Matrix]:
        """Return gradient, (P,), and Hessian, (P, P), by parameters on inputs divided by `length`."""
        p, parameters = self.inputs, self.parameters
        hessian, upper = np.zeros((parameters, parameters)), np.triu_indices(p)
        values = vector[parameters:] / self.shares.curvature
        hessian[upper] = values[: upper[0].size] / np.where(upper[0] == upper[1], 1.0, _TWICE)
        crossed = values[upper[0].size : values.size - self.cells].reshape(self.cells, p)
        hessian[:p, p:] = crossed.T / _TWICE
        hessian[np.arange(p, parameters), np.arange(p, parameters)] = values[values.size - self.cells :]
        return vector[:parameters] / self.shares.slope, np.triu(hessian) + np.triu(hessian, 1).T
