"""Laplace noise on the integer lattice, drawn exactly, and what it costs.

What always holds: the sampler has no rounding and no cut: given unpredictable bytes, its integers have
exactly the discrete Laplace distribution, P(x) proportional to exp(-|x| / t) with t = 2^24 steps (Canonne,
Kamath and Steinke 2020, "The discrete Gaussian for differential privacy", algorithms 1 and 2). A curve bounds
the Rényi divergence at every order from above.

What it costs. A vector that one subject moves by at most Δ₁ in L1 norm, in whole steps, under noise of scale
b = λ Δ₁ a coordinate is released with pure ε = 1/λ: the ratio of two probabilities is at most
exp(Σ |x_i - y_i| / b).

At full participation the Rényi divergence of order α is, for one coordinate that moves by s = |shift| / b,

    g(s) = log( α/(2α-1) exp((α-1) s) + (α-1)/(2α-1) exp(-α s) ) / (α-1)

(Mironov 2017, "Rényi differential privacy", table II). g is convex with g(0) = 0, hence superadditive: over
coordinates whose s add up to at most 1/λ it is at most g(1/λ). On the lattice the integral of exp(c x)
between the two centres, c = (2α-1)/t, is a sum by the trapezoid rule, larger by a factor below 1 + c²/12; for
α ≥ 2 and shifts of a step or more that is less than a part 1/t of the divergence itself, which is added.

Over a Poisson sample of rate q a mechanism of pure ε has pure ε' = log(1 + q (exp(ε) - 1)) for neighbours
that differ by one subject (Li, Qardaji and Su 2012, theorem 1; Balle, Barthe and Gaboardi 2018, theorem 8).
All that is used of it is ε': of all mechanisms with that the Rényi divergence is the largest for randomized
response (Kairouz, Oh and Viswanath 2015), log( p^α r^(1-α) + r^α p^(1-α) ) / (α-1) with p = 1/(1 + exp(-ε'))
and r = 1 - p. Nor is it larger than without sampling: the divergence is jointly quasi-convex (van Erven and
Harremoës 2014, theorem 13).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SCALE_BITS = 24
"""The scale t is two to this, as the Gaussian's deviation is: see privacy/mechanisms.py."""

_SCALE = 1 << SCALE_BITS

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
Entropy = Callable[[int], bytes]
Floats = NDArray[np.float64]


def discrete_laplace(count: int, entropy: Entropy = os.urandom) -> Integers:
    """Draw `count` independent integers from the discrete Laplace distribution of scale 2^24."""
    out = np.empty(count, dtype=np.int64)
    filled = 0
    while filled < count:
        missing = count - filled
        # About 1 - 1/e of the proposals are kept.
        drawn = _propose(2 * missing + 16, entropy)[:missing]
        out[filled : filled + drawn.size] = drawn
        filled += drawn.size
    return out


def _propose(count: int, entropy: Entropy) -> Integers:
    """Make `count` proposals and return those that are accepted (algorithm 2, with s = 1)."""
    raw = np.frombuffer(entropy(4 * count), dtype="<u4")
    remainder, negative = (raw & (_SCALE - 1)).astype(np.int64), (raw >> np.uint32(31)).astype(np.bool_)
    kept = _exponential(remainder, entropy)
    remainder, negative = remainder[kept], negative[kept]
    magnitude = remainder + _SCALE * _geometric(remainder.size, entropy)
    # Zero is reached by both signs; one of them is refused.
    both = ~(negative & (magnitude == 0))
    drawn: Integers = np.where(negative, -magnitude, magnitude)[both]
    return drawn


def _geometric(count: int, entropy: Entropy) -> Integers:
    """Count how often events of probability exp(-1) come before one does not, for each of `count`."""
    total = np.zeros(count, dtype=np.int64)
    left = np.arange(count)
    while left.size:
        left = left[_exponential(np.full(left.size, _SCALE, dtype=np.int64), entropy)]
        total[left] += 1
    return total


def _exponential(numerators: Integers, entropy: Entropy) -> Flags:
    """Draw events of probability exp(-n / 2^24), 0 ≤ n ≤ 2^24 (algorithm 1).

    Let K be the first k for which an event of probability (n / 2^24) / k does not happen: K is odd with
    exactly that probability.
    """
    odd = np.zeros(numerators.size, dtype=np.bool_)
    left, k = np.arange(numerators.size), 1
    while left.size:
        uniform = np.frombuffer(entropy(4 * left.size), dtype="<u4") >> np.uint32(32 - SCALE_BITS)
        goes_on = (uniform < numerators[left]) & _one_in(k, left.size, entropy)
        if k % 2:
            odd[left[~goes_on]] = True
        left, k = left[goes_on], k + 1
    return odd


def _one_in(k: int, count: int, entropy: Entropy) -> Flags:
    """Draw `count` events of probability 1/k, exactly: what does not divide evenly is drawn again."""
    if k == 1:
        return np.ones(count, dtype=np.bool_)
    if k >= 1 << 16:
        raise RuntimeError("beyond every probability")  # 1 / 65536! of it
    most = (1 << 16) // k * k
    drawn = np.frombuffer(entropy(2 * count), dtype="<u2").copy()
    while (again := np.flatnonzero(drawn >= most)).size:
        drawn[again] = np.frombuffer(entropy(2 * again.size), dtype="<u2")
    event: Flags = drawn % k == 0
    return event


def pure_epsilon(rate: float, multiplier: float) -> float:
    """Return the pure ε of one release over a Poisson sample of `rate`: 1/multiplier without sampling."""
    own = 1.0 / multiplier
    if rate >= 1.0:
        return own
    # log(1 + q (e^ε - 1)), without writing out e^ε where that overflows.
    if own > 500.0:
        return own + math.log(rate)
    return math.log1p(rate * math.expm1(own))


def laplace_curve(rate: float, multiplier: float, orders: Floats) -> Floats:
    """Return a bound of the Rényi divergence of one release at each of `orders`, 2 or more; see the
    module."""
    whole = 1.0 / multiplier
    found = np.logaddexp(
        np.log(orders / (2 * orders - 1)) + (orders - 1) * whole,
        np.log((orders - 1) / (2 * orders - 1)) - orders * whole,
    ) / (orders - 1)
    found *= 1.0 + 1.0 / _SCALE
    own = pure_epsilon(rate, multiplier)
    if rate < 1.0:
        found = np.minimum(found, _randomized_response(own, orders))
    bounded: Floats = np.minimum(np.maximum(found, 0.0), own)
    return bounded


def _randomized_response(own: float, orders: Floats) -> Floats:
    """Return the largest Rényi divergence that a mechanism of pure ε `own` has."""
    right, wrong = -math.log1p(math.exp(-own)), -own - math.log1p(math.exp(-own))
    both = np.logaddexp(orders * right + (1 - orders) * wrong, orders * wrong + (1 - orders) * right)
    largest: Floats = both / (orders - 1)
    return largest
