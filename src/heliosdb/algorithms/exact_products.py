"""Products of matrices whose every column is a function of one row of a table alone, to the last bit.

What always holds: both factors are whole numbers, so small that every sum of their products is less than
2^53. Doubles add such numbers without rounding, so that neither the order of the additions nor the number of
columns, nor how many threads share them, changes a bit of the result: the reason for which a matrix product
is otherwise not to be used before clipping (privacy/clipping.py). What a number loses by being made whole
depends on its own column (of values) or its own row (of weights) alone: as they have 18 to 26 bits relative
to the largest of these, that is about what float32 would lose.

The splitting of numbers into parts whose products are exact goes back to Ozaki, Ogita, Oishi and Rump 2012,
"Error-free transformations of matrix multiplication"; here one part of each is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heliosdb.domain.vector import Matrix, Vector

_EXACT_BITS = 53
_LEAST_EXPONENT = -200
"""What is smaller than 2^-200 beside nothing larger is rounded to that scale, whose inverse is a number."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Numbers as whole ones: value = number x unit. numbers: (k, n). units: powers of two, (n,), one for each
    column."""

    numbers: Matrix
    units: Vector


def whole_bits(length: int) -> int:
    """Return of how many bits two vectors of that length may be, for their product to be exact."""
    return (_EXACT_BITS - (length - 1).bit_length()) // 2


def round_columns(values: Matrix) -> Whole:
    """Make each column whole, relative to its largest value, for products of that length; (k, n), finite,
    k ≥ 1."""
    bits = whole_bits(values.shape[0])
    exponents = np.frexp(np.max(np.abs(values), axis=0))[1]
    units = np.ldexp(1.0, np.maximum(exponents, _LEAST_EXPONENT) - bits)
    numbers = values / units
    return Whole(np.rint(numbers, out=numbers), units)


@dataclass(frozen=True, slots=True)
class WholeRows:
    """A matrix that multiplies columns, whole row by row. numbers: (m, k). units: (m, 1)."""

    numbers: Matrix
    units: Matrix

    @classmethod
    def of(cls, values: Matrix) -> WholeRows:
        """Make one of a matrix, (m, k)."""
        whole = round_columns(values.T)
        return cls(np.ascontiguousarray(whole.numbers.T), whole.units[:, None])

    def times(self, columns: Whole) -> Matrix:
        """Return the product; (m, k) x (k, n) → (m, n)."""
        product: Matrix = self.numbers @ columns.numbers
        product *= self.units
        product *= columns.units
        return product
