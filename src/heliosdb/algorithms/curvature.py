"""What one Newton step needs of the rows: the loss and its first two derivatives by the parameters, as sums.

What always holds: every number is a sum over all rows that are trained on, so that sums over nodes are those
of the pooled rows; parameters, gradient and Hessian are in one order: of each score the inputs, then the
bias. The vector is [rows, sum of case weights, loss, gradient, upper triangle of the Hessian by rows], P =
parameters, 3 + P + P (P + 1) / 2 values.

A Hessian tells as much as P (P + 1) / 2 sums of products; what DataSHIELD's glm releases (Gaye et al. 2014).
The node's rule on parameters a row (node/disclosure.py) is about P, as it is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.measures import LARGEST_SUM
from heliosdb.domain.vector import Matrix, Vector

_TOLERANCE = 1e-9
"""How far rounding may carry a sum over as many rows as there may be, as a part of it."""

MOST_PARAMETERS = 4_096
"""Of which the Hessian is 8 million numbers."""


@dataclass(frozen=True, slots=True)
class Curvature:
    """loss, gradient (P,) and Hessian (P, P) of the sum of losses; rows; weights: the sum of case weights."""

    rows: float
    weights: float
    loss: float
    gradient: Vector
    hessian: Matrix

    def to_vector(self) -> Vector:
        """Write it; see the module."""
        upper = self.hessian[np.triu_indices(self.gradient.size)]
        return np.concatenate([[self.rows, self.weights, self.loss], self.gradient, upper])

    @classmethod
    def from_vector(cls, vector: Vector, parameters: int) -> Curvature:
        """Read what `to_vector` wrote of so many parameters, or a sum of such."""
        hessian = np.zeros((parameters, parameters))
        places = np.triu_indices(parameters)
        hessian[places] = vector[3 + parameters :]
        hessian.T[places] = vector[3 + parameters :]
        rows, weights, loss = map(float, vector[:3])
        return cls(rows, weights, loss, np.array(vector[3 : 3 + parameters]), hessian)

    def plus(self, other: Curvature) -> Curvature:
        """Return that of both parts' rows."""
        return Curvature(
            self.rows + other.rows,
            self.weights + other.weights,
            self.loss + other.loss,
            self.gradient + other.gradient,
            self.hessian + other.hessian,
        )

    def times(self, unit: float) -> Curvature:
        """Return that of a loss that is `unit` times as large."""
        return Curvature(self.rows, self.weights, unit * self.loss, unit * self.gradient, unit * self.hessian)

    def fault(self) -> str | None:
        """Say what no rows can have led to in one node's answer; None for nothing.

        By Cauchy and Schwarz no entry of a Hessian is larger than those on the diagonal allow.
        """
        if not (self.rows >= 1.0 and self.rows.is_integer()):
            return f"the {self.rows:g} rows that it states are no number of rows"
        if not (self.loss >= -_TOLERANCE and self.weights > 0.0):
            return f"no rows have the loss {self.loss:g} and the weight {self.weights:g}"
        numbers = np.concatenate([self.gradient, self.hessian.ravel(), [self.loss, self.weights]])
        if not bool((np.abs(numbers) <= LARGEST_SUM).all()):
            return f"a sum is larger than {LARGEST_SUM:g}"
        roots = np.sqrt(np.maximum(self.hessian.diagonal(), 0.0))
        allowed = np.outer(roots, roots) * (1.0 + _TOLERANCE) + self.rows * 1e-12
        if not bool((np.abs(self.hessian) <= allowed).all()):
            return "its second derivatives are not those of a loss over rows"
        return None


def curvature_size(parameters: int) -> int:
    """Return how many values an answer about so many parameters has."""
    return 3 + parameters + parameters * (parameters + 1) // 2


def one_score(inputs: Matrix, residuals: Vector, weights: Vector) -> tuple[Vector, Matrix]:
    """Return gradient and Hessian; inputs: (n, k), residuals, weights: (n,)."""
    return residuals @ inputs, (inputs.T * weights) @ inputs


def several_scores(
    inputs: Matrix, residuals: Matrix, shares: Matrix, weights: Vector
) -> tuple[Vector, Matrix]:
    """Return gradient and Hessian of a softmax; inputs: (n, k), residuals, shares: (n, m), weights: (n,).

    The block of scores a, b is of the weights share_a (1 - share_a) for a = b, else -share_a share_b.
    """
    several, width = shares.shape[1], inputs.shape[1]
    hessian = np.empty((several, width, several, width))
    for one in range(several):
        for other in range(one + 1):
            own = (1.0 if one == other else 0.0) - shares[:, other]
            block = (inputs.T * (weights * shares[:, one] * own)) @ inputs
            hessian[one, :, other, :] = block
            hessian[other, :, one, :] = block
    size = several * width
    return ((residuals * weights[:, None]).T @ inputs).ravel(), hessian.reshape(size, size)
