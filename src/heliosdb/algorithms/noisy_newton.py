"""A Newton step on a noisy gradient and a noisy Hessian.

What always holds: everything is a pure function of released sums; the step is a number whatever these are;
the matrix that is inverted is positive definite, however much of it is noise; parameters stay in bounds.

The Hessian's noise is symmetric, of deviation s on the diagonal and s / √2 off it. Its eigenvalues are cut
at 0, and λ = √P max(s, 0.6 t) is added, P being the number of parameters and t the deviation of the
gradient's noise: s √P is about 0.7 of the largest eigenvalue that noise alone has (√2 s √P), and 0.6 t √P is
where held-out figures were best on the diabetes study and on breast cancer. λ is a ridge on the slopes, so
that directions of which the sums say less than noise does are left at 0 (as of AdaSSP: Wang 2018, "Revisiting
differentially private linear regression"; there λ also has a logarithm of the failure probability, which a
fit does not need); of intercepts it holds back the step alone.

No loss is released, so no step is tried and halved: a step is bounded by `_LONGEST` instead. Under a
logarithmic link the sums also say those at scores that are all higher by c: gradient + (e^c - 1) H u and
e^c H, where u raises every score by 1. So the first step is taken from where the mean is right, at no cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.bounded_curvature import CurvatureLayout
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.vector import Matrix, Vector

_LONGEST = 5.0
"""L2 norm of a step, on scaled inputs, where the loss is no parabola."""

_FURTHEST_SHIFT = 5.0
_OF_SLOPES = 0.6

FURTHEST_SCORE = 50.0
"""Where a score is an exponent, it counts up to this in a private computation."""


@dataclass(frozen=True, slots=True)
class NoisySums:
    """gradient: (P,), hessian: (P, P), by parameters on inputs divided by the layout's `length`.

    slope_noise: the standard deviation of a value of the gradient; curvature_noise: of one on the diagonal of
    the Hessian.
    """

    gradient: Vector
    hessian: Matrix
    slope_noise: float
    curvature_noise: float

    @classmethod
    def read(cls, vector: Vector, layout: CurvatureLayout, deviation: float) -> NoisySums:
        """Read a released sum, of which every value's noise has that deviation."""
        gradient, hessian = layout.read(vector)
        return cls(gradient, hessian, deviation / layout.shares.slope, deviation / layout.shares.curvature)

    def moved_up(self, by: float, raising: Vector) -> NoisySums:
        """Return what they are at scores that are all higher by so much, under a logarithmic link.

        raising: the parameters, on such inputs, that raise every score by 1; (P,).
        """
        grown = math.exp(by)
        return NoisySums(
            self.gradient + (grown - 1.0) * (self.hessian @ raising),
            grown * self.hessian,
            self.slope_noise,
            max(1.0, grown) * self.curvature_noise,
        )

    def shift(self, raising: Vector) -> float:
        """Return by how much scores are to be higher for the mean to be right; 0 where noise hides it."""
        means = float(raising @ self.hessian @ raising)
        observed = means - float(raising @ self.gradient)
        hidden = float(np.linalg.norm(raising)) * self.slope_noise
        if not (means > hidden and observed > hidden):
            return 0.0
        return min(max(math.log(observed / means), -_FURTHEST_SHIFT), _FURTHEST_SHIFT)


@dataclass(frozen=True, slots=True)
class NoisyStep:
    """parameters: after the step. is_noise: whether it is no longer than noise alone makes one."""

    parameters: Vector
    is_noise: bool


def take_step(
    parameters: Vector, found: NoisySums, layout: CurvatureLayout, within: Bounds, *, bounded: bool
) -> NoisyStep:
    """Move the parameters, (P,), by one step. bounded: whether it is of `_LONGEST` at most."""
    slopes = 1.0 - layout.intercepts
    ridge = max(found.curvature_noise, _OF_SLOPES * found.slope_noise) * math.sqrt(layout.parameters)
    values, vectors = np.linalg.eigh(found.hessian)
    values = np.maximum(values, 0.0) + ridge
    gradient = found.gradient + ridge * slopes * parameters * layout.length
    turned = vectors.T @ gradient
    step = -(vectors @ (turned / values)) / layout.length
    length = float(np.linalg.norm(step))
    if bounded and length > _LONGEST:
        step *= _LONGEST / length
    decrement = float(turned @ (turned / values))
    by_noise = found.slope_noise**2 * float((1.0 / values).sum())
    moved = np.clip(np.nan_to_num(parameters + step), within.least, within.most)
    return NoisyStep(moved, decrement <= by_noise)
