"""Rényi divergences of noised releases, on one grid of orders, and the (ε, δ) that they amount to.

What always holds: a curve bounds the true divergence at every order from above (rounding errors are added to
it, never taken off), for neighbours that differ by adding or removing one subject; curves of several releases
add up, however each of them was chosen from what the ones before it gave.

The curve of a (sampling rate, noise multiplier) is computed once and remembered: that takes about ten
milliseconds, adding curves and reading ε off their sum a fraction of one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.privacy import Noise
from heliosdb.privacy.laplacian import laplace_curve
from heliosdb.privacy.special import special

Curve = NDArray[np.float64]
Group = tuple[float, float, Noise]
"""Sampling rate, noise multiplier and the noise's distribution: releases that agree in these are counted."""

# Those of dp-accounting from 2 on: the series of those below do not converge for little noise.
_FRACTIONAL = tuple(x / 10.0 for x in range(20, 110) if x % 10)
# Those beyond 1024 are for ε below a hundredth, of which the highest order otherwise sets the least.
_WHOLE = (*range(2, 64), *(2**power for power in range(6, 15)))
ORDERS: Curve = np.array([*_FRACTIONAL, *map(float, _WHOLE)])

_LONGEST_SERIES = 1000
_BLOCK = 32

_ROUNDING = 1e-14
"""More than the error of one release's divergence: what terms of size 1 to 10⁵ lose when they cancel."""


def compose_curves(groups: Iterable[tuple[Group, int]]) -> Curve:
    """Return the curve of so many steps of each group."""
    total = np.zeros_like(ORDERS)
    for group, steps in groups:
        total += steps * curve(*group)
    return total


def epsilon_at(composed: Curve, delta: float) -> float:
    """Return the least ε at `delta` that an order gives (Canonne, Kamath & Steinke 2020, Proposition 12)."""
    known = np.isfinite(composed)
    divergences = composed[known]
    # δ ≤ sqrt(1 - exp(-KL)): so little divergence costs nothing.
    if divergences.size and delta**2 + math.expm1(-float(divergences.min())) > 0:
        return 0.0
    added, taken = _conversion(delta)
    found = divergences + added[known] - taken[known]
    return max(0.0, float(found.min(initial=math.inf)))


@lru_cache(maxsize=64)
def _conversion(delta: float) -> tuple[Curve, Curve]:
    """Return what is added to and taken from a divergence at each of `ORDERS`, as the library rounds it."""
    orders = ORDERS.tolist()
    added = [math.log1p(-1 / order) for order in orders]
    taken = [math.log(delta * order) / (order - 1) for order in orders]
    return np.array(added), np.array(taken)


@lru_cache(maxsize=4096)
def curve(rate: float, sigma: float, noise: Noise = "gaussian") -> Curve:
    """Return the divergence of one release at each of `ORDERS`; not to be changed."""
    if noise == "laplacian":
        found = laplace_curve(rate, sigma, ORDERS) + _ROUNDING
    elif rate >= 1.0:
        found = ORDERS / (2.0 * sigma**2)
    else:
        fractional = [_fractional(rate, sigma, order) for order in _FRACTIONAL]
        found = np.array([*fractional, *(_whole(rate, sigma, order) for order in _WHOLE)])
        found = np.maximum(found, 0.0) + _ROUNDING
    found.flags.writeable = False
    return found


def _fractional(rate: float, sigma: float, order: float) -> float:
    """The same, section 3.3, series for orders that are no whole numbers; infinite where it is too long.

    Step by step, and so bit by bit, as dp-accounting has it: to import that takes seconds.
    """
    below, above = -math.inf, -math.inf
    last_below, last_above = -math.inf, -math.inf
    for term_below, term_above in _terms(rate, sigma, order):
        below, above = _log_add(below, term_below), _log_add(above, term_above)
        total = _log_add(below, above)
        shrinks = term_below < last_below and term_above < last_above
        if shrinks and max(term_below, term_above) < total - 30:
            return total / (order - 1)
        last_below, last_above = term_below, term_above
    return math.inf


def _terms(rate: float, sigma: float, order: float) -> Iterator[tuple[float, float]]:
    """The logarithms of the series' terms, of its lower and of its upper half.

    In blocks: a series mostly ends after some dozens, and without scipy each term is dear.
    """
    gammaln, log_ndtr = special()
    middle = sigma**2 * math.log(1 / rate - 1) + 0.5
    log_rate, log_rest = math.log(rate), math.log1p(-rate)
    root = math.sqrt(2) * sigma
    for first in range(0, _LONGEST_SERIES, _BLOCK):
        i = np.arange(first, min(first + _BLOCK, _LONGEST_SERIES), dtype=np.float64)
        j = order - i
        choose = gammaln(order + 1) - gammaln(i + 1) - gammaln(order - i + 1)
        tail_below = math.log(0.5) + (math.log(2) + log_ndtr(-((i - middle) / root) * 2**0.5))
        tail_above = math.log(0.5) + (math.log(2) + log_ndtr(-((middle - j) / root) * 2**0.5))
        below = (choose + i * log_rate + j * log_rest) + (i * i - i) / (2 * (sigma**2)) + tail_below
        above = (choose + j * log_rate + i * log_rest) + (j * j - j) / (2 * (sigma**2)) + tail_above
        yield from zip(below.tolist(), above.tolist(), strict=True)


def _log_add(one: float, other: float) -> float:
    """Log of the sum of two numbers, by their logarithms."""
    least, most = min(one, other), max(one, other)
    return most if least == -math.inf else math.log1p(math.exp(least - most)) + most


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
