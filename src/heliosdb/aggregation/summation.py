"""Sums that are the same to the bit whatever the order of their terms, in memory that does not grow.

After Demmel and Nguyen 2013 and 2015 ("Fast reproducible floating-point summation", "Parallel reproducible
summation"), with whole numbers in place of floating-point bins, and anchors for each place of the vector.

Bin b has the grid of multiples of u(b) = 2 ** (42 b - 1022), for every whole b. A number x is taken apart
from the top: its slice in bin b is what is left of it, rounded to the grid (to even in the middle), and what
is left then goes on to bin b - 1. So in every bin a slice is a function of x alone. With e the biased
exponent in which x is stored and b(x) = e // 42,

    |x| < 2 ** (e - 1022) <= 2 ** (42 b(x) + 41 - 1022) = u(b(x) + 1) / 2,

so that the slices of x in all bins above b(x) are 0.

A sum keeps, for each place of the vector, B = the largest b(x) so far, and the sums of the slices in the bins
B, B - 1, B - 2. When a larger B comes, bins move down and the lowest are dropped.

What always holds: the kept bins are functions of the set of terms, not of its order. B is, as a maximum. Let
x be any term, and B' what B was once x was added. In bins above B' its slice is 0, as b(x) <= B'. Its slices
in B', B' - 1, B' - 2 were added; those of the bins that are kept at the end were there all the time, since B
only grows and so a bin below the kept ones never comes back. Sums in a bin are of whole numbers below 2 ** 63
and so exact, and exact sums have no order. `total` is computed from B and the kept bins alone.

So sums of sums are the sum: let one sum be of the terms S with the largest bin B, another of T with C, and D
the larger of both. The sum of all terms keeps the bins D, D - 1, D - 2. Of those the sum of S lacks the ones
above B, where all slices of S are 0; it has the others, as none of them lies below B - 2. The same holds for
T. `merge` therefore moves the bins of both down to D, and adds them: what it leaves is what `add` would have
left of all terms, in bins, anchors and so in `total`, to the bit.

What is dropped of one term is at most 2 ** -84 of the largest term at its place, and of n terms at most n
times as much: below one rounding of the largest term, for any number of terms that may be added. Where large
terms cancel, that is the error that remains.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.domain.wording import counted

CHUNK = 1 << 13
"""Values worked on at a time: small enough to stay in a processor's cache."""

MOST_ADDITIONS = 1 << 21
"""A slice is at most 2 ** 41 units of its bin, and a bin of 64 bits has room for so many of them."""

_WIDTH, _KEPT = 42, 3
_MIDDLE = 1 << (_WIDTH - 1)
_LOW_GRID = -1022
_BIN_OF = (np.arange(2048) // _WIDTH).astype(np.uint8)  # by biased exponent
_BINS = int(_BIN_OF[-1]) + 1
_UNIT = np.ldexp(1.0, _WIDTH * np.arange(_BINS) + _LOW_GRID)
_PER_UNIT = np.ldexp(1.0, -(_WIDTH * np.arange(_BINS) + _LOW_GRID))

# Added to a number below 2 ** 51 units it leaves no bits below one unit: the sum is the number rounded to the
# grid, and the sum's own bits, as a whole number, are those of the constant plus how many units there are.
_ROUNDERS = [float(np.ldexp(1.5, 52 - _WIDTH * place)) for place in range(_KEPT)]
_ROUNDER_BITS = [int(np.float64(rounder).view(np.int64)) for rounder in _ROUNDERS]


class ExactSum:
    """The sum of coefficient x vector over any number of vectors of `size` values; see the module.

    Memory: 25 bytes a value.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._additions = 0
        self._anchors = np.zeros(size, dtype=np.uint8)
        self._bins = np.zeros((_KEPT, size), dtype=np.int64)
        self._beyond: Vector | None = None  # sums of the products that are infinite
        self._term = np.empty(min(CHUNK, size))
        self._rounded = np.empty_like(self._term)
        self._units = np.empty(self._term.size, dtype=np.int64)

    @property
    def size(self) -> int:
        """How many values the sum has."""
        return self._size

    def add(self, vector: AnyVector, coefficient: float = 1.0) -> None:
        """Add coefficient x vector, each product rounded once; finite values of the sum's size.

        Raises ValueError for another shape, OverflowError after MOST_ADDITIONS.
        """
        if vector.shape != (self._size,):
            raise ValueError(f"the vector's shape is {vector.shape}, not ({self._size},)")
        if self._additions >= MOST_ADDITIONS:
            raise OverflowError(f"more than {MOST_ADDITIONS} vectors are added up")
        self._additions += 1
        for start in range(0, self._size, CHUNK):
            part = slice(start, min(start + CHUNK, self._size))
            term = self._term[: part.stop - start]
            with np.errstate(over="ignore", under="ignore"):
                np.multiply(vector[part], coefficient, out=term, dtype=np.float64)
                self._raise_anchors(part, term)
                self._add_slices(part, term)

    @property
    def additions(self) -> int:
        """How many vectors were added."""
        return self._additions

    @property
    def is_finite(self) -> bool:
        """Whether no product was infinite."""
        return self._beyond is None

    def merge(self, other: ExactSum) -> None:
        """Add the terms of another sum, which stays as it is: the same bits as adding each; see the module.

        Raises ValueError for another size or a sum with infinite products, OverflowError where both have more
        than MOST_ADDITIONS terms.
        """
        if other.size != self._size or other._beyond is not None:
            raise ValueError(
                f"the sum is of {counted(other.size, 'value')}, finite or not, and not of {self._size}"
            )
        if self._additions + other._additions > MOST_ADDITIONS:
            raise OverflowError(f"more than {MOST_ADDITIONS} vectors are added up")
        is_first = not self._additions
        self._additions += other._additions
        if is_first:
            self._anchors[:], self._bins[:] = other._anchors, other._bins
            return
        for start in range(0, self._size, CHUNK):
            part = slice(start, start + CHUNK)
            self._merge_part(part, other._anchors[part], other._bins[:, part])

    def parts(self) -> tuple[int, NDArray[np.uint8], NDArray[np.int64]]:
        """How many terms it has, and by place the largest bin and, (3, size), the sums of the slices in that
        one and the two below; views, to be read only."""
        return self._additions, self._anchors, self._bins

    @classmethod
    def of_parts(cls, additions: int, anchors: NDArray[np.uint8], bins: NDArray[np.int64]) -> ExactSum:
        """The sum that has these parts, which become its own; ValueError where no terms can have led to
        them: more slices in a bin than there is room for, or a bin beyond the last."""
        size = anchors.size
        room = additions * _MIDDLE
        fits = bins.shape == (_KEPT, size) and 0 < additions <= MOST_ADDITIONS
        if not fits or int(anchors.max(initial=0)) >= _BINS:
            raise ValueError("these are no parts of a sum")
        if size and (int(bins.max()) > room or int(bins.min()) < -room):
            raise ValueError("a bin holds more than its terms can have led to")
        made = cls(0)
        made._size, made._additions, made._anchors, made._bins = size, additions, anchors, bins
        made._term = np.empty(min(CHUNK, size))
        made._rounded, made._units = np.empty_like(made._term), np.empty(made._term.size, dtype=np.int64)
        return made

    def total(self) -> Vector:
        """The sum: within about one rounding of the kept bins; ±infinity where it is no double."""
        result = np.empty(self._size)
        for start in range(0, self._size, CHUNK):
            part = slice(start, start + CHUNK)
            with np.errstate(over="ignore", under="ignore"):
                result[part] = _read(self._bins[:, part]) * _UNIT[self._anchors[part]]
        if self._beyond is not None:
            with np.errstate(invalid="ignore"):
                result = np.where(self._beyond == 0.0, result, self._beyond)
        return result

    def length(self) -> float:
        """The L2 norm of `total`, within a relative 2 ** -40 of the lengths of what was added up; no number
        where a value of it is no double.

        The bins are not carried: rounding each to a double is exact enough for that.
        """
        largest, squares = 0.0, 0.0
        for start in range(0, self._size, CHUNK):
            part = slice(start, start + CHUNK)
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                values = _approximate(self._bins[:, part]) * _UNIT[self._anchors[part]]
            highest = float(np.abs(values).max(initial=0.0))
            if not math.isfinite(highest):
                return math.nan
            if highest > largest:
                squares *= (largest / highest) ** 2
                largest = highest
            if largest:
                values /= largest
                squares += float(values @ values)
        return math.nan if self._beyond is not None else largest * math.sqrt(squares)

    def _merge_part(self, part: slice, anchors: NDArray[np.uint8], bins: NDArray[np.int64]) -> None:
        own, mine = self._anchors[part], self._bins[:, part]
        larger = np.flatnonzero(anchors > own)
        if larger.size:
            _move_down(mine, larger, anchors[larger] - own[larger])
            own[larger] = anchors[larger]
        smaller = np.flatnonzero(anchors < own)
        if smaller.size:
            bins = bins.copy()
            _move_down(bins, smaller, own[smaller] - anchors[smaller])
        mine += bins

    def _raise_anchors(self, part: slice, term: Vector) -> None:
        """Move bins down where a term is larger than all before it."""
        units = self._units[: term.size]
        np.right_shift(term.view(np.int64), 52, out=units)
        units &= 0x7FF
        if int(units.max(initial=0)) == 0x7FF:
            self._set_aside(part, term, units)
        anchors = self._anchors[part]
        # Mostly no term is larger than all before it, as two extremes tell.
        if _BIN_OF[int(units.max(initial=0))] <= anchors.min():
            return
        needed = _BIN_OF[units]
        larger = np.flatnonzero(needed > anchors)
        if not larger.size:
            return
        if self._additions > 1:
            _move_down(self._bins[:, part], larger, needed[larger] - anchors[larger])
        anchors[larger] = needed[larger]

    def _set_aside(self, part: slice, term: Vector, exponents: NDArray[np.int64]) -> None:
        """Take out products that are infinite: their sum is an infinity, or none, in any order."""
        infinite = np.flatnonzero(exponents == 0x7FF)
        if self._beyond is None:
            self._beyond = np.zeros(self._size)
        with np.errstate(invalid="ignore"):
            self._beyond[part][infinite] += term[infinite]
        term[infinite] = 0.0
        exponents[infinite] = 0

    def _add_slices(self, part: slice, term: Vector) -> None:
        """Add each bin's slice of the term, in units of the top bin: the rounders are then the same for all.

        A product with a power of two is exact but where it is below 2 ** -1022 units, whose slices are 0.
        """
        rounded, units = self._rounded[: term.size], self._units[: term.size]
        anchors = self._anchors[part]
        same = anchors.min() == anchors.max()
        term *= _PER_UNIT[anchors[0]] if same else _PER_UNIT[anchors]
        for place in range(_KEPT):
            np.add(term, _ROUNDERS[place], out=rounded)
            np.subtract(rounded.view(np.int64), _ROUNDER_BITS[place], out=units)
            self._bins[place, part] += units
            if place < _KEPT - 1:
                rounded -= _ROUNDERS[place]
                term -= rounded
                # Single precision times a count has few more bits: soon nothing is left to slice.
                if not term.any():
                    return


def _move_down(bins: NDArray[np.int64], where: NDArray[np.intp], steps: NDArray[np.uint8]) -> None:
    """Move the bins at some places down by as many bins as `steps` says; the lowest are dropped."""
    moved = bins[:, where]
    first, second, _ = moved
    one, two = steps == 1, steps == 2
    lowest = np.where(one, second, np.where(two, first, 0))
    bins[:, where] = np.stack([np.zeros_like(first), np.where(one, first, 0), lowest])


def _approximate(bins: NDArray[np.int64]) -> Vector:
    """As `_read`, within some roundings of the largest bin."""
    first, second, third = bins
    total: Vector = first + (second * 2.0**-_WIDTH + third * 2.0 ** (-2 * _WIDTH))
    return total


def _read(bins: NDArray[np.int64]) -> Vector:
    """The sum of the bins in units of the top one.

    After carrying, the lower two are at most half a unit of the bin above, so that what is left to round are
    a few doubles of falling size.
    """
    first, second, third = bins.copy()
    carry = (third + _MIDDLE) >> _WIDTH
    third -= carry << _WIDTH
    second += carry
    carry = (second + _MIDDLE) >> _WIDTH
    second -= carry << _WIDTH
    first += carry
    top = first.astype(np.float64)
    rest = (first - top.astype(np.int64)).astype(np.float64)
    low = second.astype(np.float64) * 2.0**-_WIDTH + third.astype(np.float64) * 2.0 ** (-2 * _WIDTH)
    total: Vector = top + (rest + low)
    return total
