"""What a statistician asks of a linear model: estimates in the columns' own units, and how sure they are.

What always holds: every number is finite or None; where standard errors are not what they claim to be there
are none, and `reason` says why. Nothing here was computed from a row: the covariance is the inverse of the
summed Hessian at the estimate (observed information, which under a canonical link is the expected one).

Units. With inputs (x - mean) / scale an estimate β and covariance Σ become, by the delta method, which is
exact for a linear map, slopes c β / scale of variance c² Σ_jj / scale², and the intercept c a·(β, bias) +
what the link adds, of variance c² a'Σa, a = (-mean / scale…, 1); c is the target's scale under the identity
link, and else 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliosdb.algorithms.sql import Link
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector

CONFIDENCE = 0.95

BY_DESCENT = "only optimizer = newton gives standard errors"
PENALISED = "estimates under a penalty have no standard errors"
NOISED = (
    "the estimates hold the noise of the privacy budget, which pulls and scatters them, so they have no"
    " standard errors"
)
FITTED = "the model fits every row that was trained on exactly, which leaves nothing to tell errors by"
UNFINISHED = "the estimates had not converged when the run ended, so they have no standard errors"


@dataclass(frozen=True, slots=True)
class Fit:
    """How an estimate came about.

    covariance: (P, P) of all parameters on scaled inputs, in the order of `curvature`, but for the factor
    `dispersion`; None where there are no standard errors, for the `reason`. degrees: of freedom of a t
    statistic; None for one that is normal. dispersion: the variance about the model, 0 where it fits all.
    """

    covariance: Matrix | None = None
    degrees: float | None = None
    reason: str | None = BY_DESCENT
    dispersion: float = 1.0


@dataclass(frozen=True, slots=True)
class Units:
    """Of the target: a score in the model's units is `shift + factor x` one in those of training."""

    factor: float = 1.0
    shift: float = 0.0

    @classmethod
    def of(cls, link: Link, scaling: Scaling) -> Units:
        """Return those of a model whose target is under a link scaled so."""
        if link == "exp":
            return cls(shift=math.log(scaling.target_mean))
        return cls(scaling.target_scale, scaling.target_mean) if link == "identity" else cls()


def describe_coefficients(
    scaling: Scaling,
    parameters: Matrix,
    units: Units,
    fit: Fit,
    *,
    inputs: Sequence[str],
    has_bias: bool = True,
) -> dict[str, Any]:
    """Return a model's coefficients for the catalog; parameters: (scores, inputs + 1), the bias last.

    inputs: their names, () where they are the features'. Of each score a list of every figure, the
    intercept first. has_bias False: the intercept is no parameter, and is left out.
    """
    scores = [_of_score(number, scaling, row, units, fit) for number, row in enumerate(parameters)]
    if not has_bias:
        scores = [{name: figures[1:] for name, figures in one.items()} for one in scores]
    return {"inputs": list(inputs) or None, "intercept": has_bias, "reason": fit.reason, "scores": scores}


def _of_score(
    number: int, scaling: Scaling, parameters: Vector, units: Units, fit: Fit
) -> dict[str, list[float | None]]:
    rows, estimates = _in_own_units(scaling, parameters, units)
    width = parameters.size
    errors: list[float] = [math.nan] * width
    if fit.covariance is not None:
        own = slice(number * width, (number + 1) * width)
        errors = _errors(rows, fit.dispersion * fit.covariance[own, own])
        # An input that is the same in every row has no variance, and says nothing.
        known = fit.covariance.diagonal()[own] > 0.0
        estimates = np.where(np.r_[True, known[:-1]], estimates, np.nan)
    found = [_figures(*one, fit.degrees) for one in zip(map(float, estimates), errors, strict=True)]
    return {name: [_finite(one[name]) for one in found] for name in found[0]}


def _errors(rows: Matrix, covariance: Matrix) -> list[float]:
    """Return the standard errors of rows @ parameters, NaN for none; a square of units may be no number."""
    with np.errstate(all="ignore"):
        peaks = np.abs(rows).max(axis=1)
        shares = rows / peaks[:, None]
        variances = np.einsum("ij,jk,ik->i", shares, covariance, shares)
        found = peaks * np.sqrt(variances)
    return [one if 0.0 < one < math.inf else math.nan for one in map(float, found)]


def _in_own_units(scaling: Scaling, parameters: Vector, units: Units) -> tuple[Matrix, Vector]:
    """Return the map to the columns' units, (k, k), the intercept first, and the estimates, (k,)."""
    scales, means = np.array(scaling.scales), np.array(scaling.means)
    width = parameters.size
    rows = np.zeros((width, width))
    with np.errstate(all="ignore"):
        rows[0, :-1] = -units.factor * (means / scales)
        rows[0, -1] = units.factor
        rows[np.arange(1, width), np.arange(width - 1)] = units.factor / scales
        estimates: Vector = rows @ parameters
        shares = [*(rows[0] * parameters), units.shift]
    estimates[0] = math.fsum(shares) if np.isfinite(shares).all() else math.nan
    return rows, estimates


def _figures(estimate: float, error: float, degrees: float | None) -> dict[str, float]:
    # Where rows are read nothing needs it.
    from scipy.special import ndtr, ndtri, stdtr, stdtrit  # type: ignore[import-untyped]  # it has no stubs

    statistic = estimate / error if error > 0.0 else math.nan
    middle = 0.5 + 0.5 * CONFIDENCE
    reach = error * float(ndtri(middle) if degrees is None else stdtrit(degrees, middle))
    tail = ndtr(-abs(statistic)) if degrees is None else stdtr(degrees, -abs(statistic))
    return {
        "estimate": estimate,
        "std_error": error,
        "statistic": statistic,
        "p_value": 2.0 * float(tail),
        "conf_low": estimate - reach,
        "conf_high": estimate + reach,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
