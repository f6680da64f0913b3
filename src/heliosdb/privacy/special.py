"""Two functions that accounting needs and Python's own library has not: scipy's, or equal ones without it.

What always holds: where scipy is installed, as at every coordinator and node, its functions answer, so that
all ledgers hold the same bits. Inside the database server, where plans are only shown, others answer that
agree with them to a relative 1e-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Function = Callable[[Any], Any]

_FAR = -25.0
"""Below this the tail is read off its asymptotic series, of which the terms shown are then exact enough."""
_TERMS = 10


@cache
def special() -> tuple[Function, Function]:
    """Return (gammaln, log_ndtr), each for a number or an array."""
    try:
        from scipy.special import gammaln, log_ndtr  # type: ignore[import-untyped]  # it has no stubs
    except ImportError:
        return plain_gammaln, plain_log_ndtr
    return gammaln, log_ndtr


def plain_gammaln(x: Any) -> Any:
    """Return log |Γ(x)|; infinite at the poles 0, -1, …, as scipy has it."""
    if np.ndim(x) == 0:
        return _gammaln(float(x))
    return np.array([_gammaln(one) for one in np.asarray(x, dtype=np.float64).tolist()])


def _gammaln(x: float) -> float:
    return math.inf if x <= 0 and x == math.floor(x) else math.lgamma(x)


def plain_log_ndtr(x: Any) -> Any:
    """Return log Φ(x): of the standard normal distribution function."""
    if np.ndim(x) == 0:
        return _log_ndtr(float(x))
    return np.array([_log_ndtr(one) for one in np.asarray(x, dtype=np.float64).tolist()])


def _log_ndtr(x: float) -> float:
    if x > 0:
        return math.log1p(-0.5 * math.erfc(x / math.sqrt(2.0)))
    if x > _FAR:
        return math.log(0.5 * math.erfc(-x / math.sqrt(2.0)))
    # Φ(x) = φ(x) / |x| (1 - 1/x² + 3/x⁴ - 15/x⁶ + …): Abramowitz & Stegun, 26.2.12.
    series, term = 1.0, 1.0
    for k in range(1, _TERMS):
        term *= -(2 * k - 1) / (x * x)
        series += term
    return -0.5 * x * x - 0.5 * math.log(2.0 * math.pi) - math.log(-x) + math.log(series)
