"""Exact sums of doubles and of their squares, as digits that are added like any vector.

What always holds: the digits are whole numbers below 2^32 in magnitude, so that sums of them over all nodes
are exact in doubles; what they stand for is the sum to the last bit, whatever the values, their order and
their number up to 2^40. So a variance is exact as well: no mean is too large for a spread, and none
overflows.

Values are first rounded to the last bit of the largest one (`resolved`): what is finer than that is of no use
beside it, and in an exact sum would stand by itself, a single row's value to be read off.

A sum is (whole number) x 2^-1074, a sum of squares (whole number) x 2^-2148: every double, and every square
of one, is such a multiple.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.layout import DIGIT_BITS, SQUARE_DIGITS, SUM_DIGITS
from heliosdb.algorithms.space import slices
from heliosdb.domain.vector import Vector

_UNIT = 1074
"""2^-1074 is the least double."""

_LEAST_EXPONENT = -1126
"""Of the last bit of a mantissa of 53 bits, as frexp gives it for the least double."""

_AT_ONCE = 1 << 14
"""Values of which doubles add products of pieces of 18 bits exactly: 3 x 2^36 x 2^14 < 2^53."""

_PIECE = 18

_RESOLUTION = 54
"""Bits from the largest value's first one on: one more than it has, since below a power of two doubles lie
half as far apart as above."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Values that were added up: how many, their sum in units of 2^-1074, that of their squares in
    2^-2148."""

    count: int
    values: int
    squares: int

    def are_possible(self) -> bool:
        """Whether there are values with these sums: sum² ≤ count x squares, by Cauchy and Schwarz."""
        if self.count == 0:
            return self.values == self.squares == 0
        return self.squares >= 0 and self.values**2 <= self.count * self.squares

    def plus(self, other: Moments) -> Moments:
        """Those of both."""
        return Moments(self.count + other.count, self.values + other.values, self.squares + other.squares)

    def to_vector(self) -> Vector:
        """Write them as digits that are added like any vector."""
        return np.array(
            [float(self.count), *_digits(self.values, SUM_DIGITS), *_digits(self.squares, SQUARE_DIGITS)]
        )

    def mean(self) -> float:
        """The mean, rounded once; infinite where that is no double. There is at least one value."""
        return _quotient(self.values, self.count << _UNIT)

    def deviation(self) -> float:
        """The standard deviation; 0.0 exactly where all values are equal, infinite where it is no double."""
        return _root(self.count * self.squares - self.values**2, self.count**2 << (2 * _UNIT))

    def root_mean_square(self) -> float:
        """The root of the mean square; infinite where it is no double."""
        return _root(self.squares, self.count << (2 * _UNIT))


def exact_moments(values: Vector) -> Vector:
    """Return the count of finite values, and the digits of their sum and of the sum of their squares."""
    largest = max((largest_magnitude(values[block]) for block in slices(values.size)), default=0.0)
    return moments_beside(values, largest).to_vector()


def moments_beside(values: Vector, largest: float) -> Moments:
    """Add up the finite ones of some values, of all of which `largest` is the largest magnitude; whatever
    their parts are, those of the parts add up to those of all."""
    total = squares = count = 0
    for block in slices(values.size, _AT_ONCE):
        there = values[block]
        present = _resolved(there[np.isfinite(there)], largest)
        one, two = _sums_of(present)
        total, squares, count = total + one, squares + two, count + present.size
    return Moments(count, total, squares)


def largest_magnitude(values: Vector) -> float:
    """Return the largest magnitude of the finite ones; 0 for none."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def resolved(values: Vector) -> Vector:
    """Round finite values to half of the last bit of the largest; equal ones stay equal, others different
    from the largest one."""
    return _resolved(values, float(np.abs(values).max())) if values.size else values


def _resolved(values: Vector, largest: float) -> Vector:
    places = _RESOLUTION - int(np.frexp(largest)[1])
    rounded: Vector = np.ldexp(np.rint(np.ldexp(values, places)), -places)
    return rounded


def read_moments(block: Vector) -> Moments:
    """Read what `exact_moments` wrote, or the sum of several."""
    values = _number(block[1 : 1 + SUM_DIGITS])
    return Moments(int(block[0]), values, _number(block[1 + SUM_DIGITS :]))


def _quotient(above: int, below: int) -> float:
    """The double nearest to a quotient, infinite where there is none."""
    try:
        return above / below
    except OverflowError:
        return math.inf if above > 0 else -math.inf


def _root(above: int, below: int) -> float:
    """The root of a quotient, to the last bit or so; infinite where it is no double."""
    # An even shift that leaves the root more bits than a double has.
    shift = 128 + below.bit_length() - above.bit_length()
    shift += shift % 2
    scaled = above << shift if shift >= 0 else above >> -shift
    root, half = math.isqrt(scaled // below), shift // 2
    return _quotient(root, 1 << half) if half >= 0 else _quotient(root << -half, 1)


def _sums_of(values: Vector) -> tuple[int, int]:
    """Sum and sum of squares of a few finite values, in their units."""
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    places, groups = np.unique(exponents, return_inverse=True)
    high, rest = whole >> (2 * _PIECE), whole & ((1 << 2 * _PIECE) - 1)
    a, b, c = (piece.astype(np.float64) for piece in (high, rest >> _PIECE, rest & ((1 << _PIECE) - 1)))

    def grouped(*pieces: Vector) -> Iterator[NDArray[Any]]:
        # From the lowest piece to the highest, each 2^18 times the one before it.
        return (np.bincount(groups, piece, places.size) for piece in pieces)

    sums = _weigh(grouped(c, b, a), places, 1) >> -_UNIT - _LEAST_EXPONENT
    products = _weigh(grouped(c * c, 2 * b * c, 2 * a * c + b * b, 2 * a * b, a * a), places, 2)
    return sums, products >> 2 * (-_UNIT - _LEAST_EXPONENT)


def _weigh(pieces: Iterator[NDArray[Any]], places: NDArray[Any], power: int) -> int:
    """Put pieces together, of groups whose last bits stand for powers of two."""
    total = 0
    shifts = [power * (int(place) - 53 - _LEAST_EXPONENT) for place in places]
    for number, piece in enumerate(pieces):
        for value, shift in zip(piece, shifts, strict=True):
            total += int(value) << (shift + _PIECE * number)
    return total


def _digits(number: int, count: int) -> list[float]:
    """The digits of a whole number, lowest first, each with its sign."""
    sign, rest = (-1.0 if number < 0 else 1.0), abs(number)
    raw = rest.to_bytes(count * DIGIT_BITS // 8, "little")
    return [sign * digit for digit in np.frombuffer(raw, dtype="<u4").tolist()]


def _number(digits: Vector) -> int:
    return sum(int(digit) << (DIGIT_BITS * place) for place, digit in enumerate(digits))
