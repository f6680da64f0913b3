"""Rényi divergences of Gaussian releases, on one grid of orders, and the (ε, δ) that they amount to.

What always holds: a curve bounds the true divergence at every order from above (rounding errors are added to
it, never taken off), for neighbours that differ by adding or removing one subject; curves of several releases
add up, however each of them was chosen from what the ones before it gave.

The curve of a (sampling rate, noise multiplier) is computed once and remembered: that takes about ten
milliseconds, adding curves and reading ε off their sum a fraction of one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

# The library's own from 2 on: those below do not converge for little noise, and it says so loudly.
_FRACTIONAL = tuple(x / 10.0 for x in range(20, 110) if x % 10)
# Those beyond 1024 are for ε below a hundredth, of which the highest order otherwise sets the least.
_WHOLE = (*range(2, 64), *(2**power for power in range(6, 15)))
ORDERS: Curve = np.array([*_FRACTIONAL, *map(float, _WHOLE)])

_ROUNDING = 1e-14
"""More than the error of one release's divergence: what terms of size 1 to 10⁵ lose when they cancel."""


def compose_curves(groups: Iterable[tuple[tuple[float, float], int]]) -> Curve:
    """Return the curve of so many steps of each (sampling rate, noise multiplier)."""
    total = np.zeros_like(ORDERS)
    for (rate, sigma), steps in groups:
        total += steps * curve(rate, sigma)
    return total


def epsilon_at(composed: Curve, delta: float) -> float:
    """Return the least ε at `delta` that an order gives (Canonne, Kamath & Steinke 2020, Proposition 12)."""
    from dp_accounting.rdp import rdp_privacy_accountant

    known = np.isfinite(composed)
    found, _ = rdp_privacy_accountant.compute_epsilon(ORDERS[known], composed[known], delta)
    return float(found)


@lru_cache(maxsize=4096)
def curve(rate: float, sigma: float) -> Curve:
    """Return the divergence of one release at each of `ORDERS`; not to be changed."""
    if rate >= 1.0:
        found = ORDERS / (2.0 * sigma**2)
    else:
        found = np.array([*_fractional(rate, sigma), *(_whole(rate, sigma, order) for order in _WHOLE)])
        found = np.maximum(found, 0.0) + _ROUNDING
    found.flags.writeable = False
    return found


def _fractional(rate: float, sigma: float) -> list[float]:
    """Mironov, Talwar & Zhang 2019, section 3.3, by the library."""
    from dp_accounting import dp_event
    from dp_accounting.rdp import rdp_privacy_accountant

    accountant = rdp_privacy_accountant.RdpAccountant(_FRACTIONAL)
    # An order whose sum does not converge is infinite, and so left out: nobody has to be told of each.
    library = logging.getLogger("absl")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(sigma)))
    finally:
        library.setLevel(level)
    return [float(value) for value in accountant._rdp]


def _whole(rate: float, sigma: float, order: int) -> float:
    """The same, section 3.3, equation for integer orders: a binomial sum, in logarithms."""
    k = np.arange(order + 1, dtype=np.float64)
    factorials = _log_factorials()[: order + 1]
    choose = factorials[-1] - factorials - factorials[::-1]
    terms = choose + k * math.log(rate) + (order - k) * math.log1p(-rate) + (k * k - k) / (2.0 * sigma**2)
    most = float(terms.max())
    return (most + math.log(float(np.exp(terms - most).sum()))) / (order - 1.0)


@lru_cache(maxsize=1)
def _log_factorials() -> Curve:
    """Return log k! for k from 0 to the highest order."""
    return np.array([math.lgamma(k + 1.0) for k in range(_WHOLE[-1] + 1)])
