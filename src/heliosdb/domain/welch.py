"""The interval of 95 % of a difference of means by Welch's t, where there is no scipy: inside the server.

What always holds: standard library alone; any number of degrees of freedom above 0, fractions too.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_UPPER = 0.975
_NORMAL = NormalDist().inv_cdf(_UPPER)
_MANY = 1_000.0
_TINY = 1e-300
_MOST_TERMS = 10_000
_PRECISION = 1e-15


def half_width(variance: float, count: int, other_variance: float, other_count: int) -> float | None:
    """Return half the width of the interval of 95 % of the difference of two means.

    Welch (1947), with the degrees of freedom of Satterthwaite (1946). variance: of the sample, by count - 1;
    counts are 2 or more. None where all of both samples are equal among themselves.
    """
    error, other_error = variance / count, other_variance / other_count
    total = error + other_error
    if total == 0:
        return None
    part, other_part = error / total, other_error / total
    return math.sqrt(total) * upper_quantile(1 / (part**2 / (count - 1) + other_part**2 / (other_count - 1)))


def upper_quantile(degrees_of_freedom: float) -> float:
    """Return t with P(T <= t) = 0.975, to about 1e-12 of it.

    Above 1,000 degrees of freedom by the expansion about the normal quantile (Abramowitz and Stegun 26.7.5),
    whose first term left out is under 1e-14 there; below by bisection of the distribution function.
    """
    if not degrees_of_freedom > 0:
        raise ValueError("degrees of freedom are more than 0")
    if degrees_of_freedom > _MANY:
        return _expand(degrees_of_freedom)
    low, high = _NORMAL, 2 * _NORMAL
    while _upper_tail(high, degrees_of_freedom) > 1 - _UPPER:
        low, high = high, 2 * high
    while high - low > _PRECISION * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _upper_tail(middle, degrees_of_freedom) > 1 - _UPPER:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _expand(nu: float) -> float:
    x = _NORMAL
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92_160,
    )
    return x + sum(term / nu**power for power, term in enumerate(terms, 1))


def _upper_tail(t: float, nu: float) -> float:
    """P(T > t) for t > 0: half the regularised incomplete beta function at nu / (nu + t²)."""
    share = nu / (nu + t * t)
    a, b = nu / 2, 0.5
    if share < (a + 1) / (a + b + 2):
        return _beta(a, b, share) / 2
    return (1 - _beta(b, a, t * t / (nu + t * t))) / 2


def _beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by its continued fraction (DLMF 8.17.22), evaluated by the modified Lentz algorithm."""
    front = math.exp(
        a * math.log(x)
        + b * math.log1p(-x)
        + math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        - math.log(a)
    )
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return front * value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
