"""Numbers in fixed point, as whole numbers modulo 2**(64 x limbs), which add up exactly.

What always holds: a number is two's complement of `limbs` words of 64 bits, the least significant first, in
units of 2**-fraction; adding wraps around and loses nothing, so that a mask that is added and taken away
again leaves no trace; a number that is too large for a sum of so many is known before it is put here
(`Ring.largest`).

A vector of n numbers is an array uint64 of n x limbs: all least significant words first, then the next ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.vector import AnyVector, Dtype, Vector

Words = AnyVector
"""Of a ring's type: uint64, or fewer bits where it says so."""


class AnyRing(Protocol):
    """Where numbers are added up. limbs, dtype: how many words of which type a number is."""

    @property
    def limbs(self) -> int: ...

    @property
    def dtype(self) -> Dtype: ...

    def largest(self, terms: int) -> float:
        """The largest magnitude that each of so many numbers may have."""
        ...

    def encode(self, values: Vector) -> Words:
        """Finite numbers of at most `largest`."""
        ...

    def decode(self, words: Words) -> Vector:
        """The numbers."""
        ...


_ROOM = 20
"""Bits for the sum of up to 2**20 numbers, above the largest one."""


@dataclass(frozen=True, slots=True)
class Ring:
    """limbs: words of a number. fraction: bits behind the point."""

    limbs: int
    fraction: int

    dtype: ClassVar[Dtype] = Dtype.UINT64

    def largest(self, terms: int) -> float:
        """The largest magnitude that each of so many numbers may have, that their sum does not wrap around;
        infinite where every float64 may."""
        exponent = 64 * self.limbs - 1 - self.fraction
        return np.inf if exponent >= 1024 + _ROOM else 2.0**exponent / (terms + 1)

    def encode(self, values: Vector) -> Words:
        """Finite numbers of at most `largest`, each rounded to the nearest unit, ties to even."""
        mantissas, exponents = np.frexp(values)
        # values = whole x 2**shift units, whole of 53 bits with its sign.
        whole = np.ldexp(mantissas, 53).astype(np.int64)
        shift = exponents.astype(np.int64) - 53 + self.fraction
        low = shift < 0
        if low.any():
            # Below a unit's last bit: what is rounded here fits into a float64 exactly.
            units = np.rint(np.ldexp(values[low], self.fraction))
            whole[low], shift[low] = units.astype(np.int64), 0
        words = _placed(np.abs(whole).astype(np.uint64), shift, self.limbs)
        _negate(words, whole < 0)
        return words.reshape(-1)

    def decode(self, words: Words) -> Vector:
        """The numbers, each the float64 nearest to it; infinite where it is beyond all of these."""
        rows = np.array(words.reshape(self.limbs, -1))
        negative = rows[-1] >> np.uint64(63) == 1
        _negate(rows, negative)
        found = self._magnitudes(rows)
        found[negative] *= -1.0
        return found

    def _magnitudes(self, rows: Words) -> Vector:
        if self.limbs == 2:
            bottom, top = rows
            # Correctly rounded where the top word has no more than 53 bits; else to the last bit but one.
            with np.errstate(over="ignore"):
                high = np.ldexp(top.astype(np.float64), 64 - self.fraction)
                return np.asarray(high + np.ldexp(bottom.astype(np.float64), -self.fraction))
        unit = 1 << self.fraction
        return np.array([_quotient(int.from_bytes(one.tobytes(), "little"), unit) for one in rows.T])


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole numbers modulo 2**bits, 16 or 32, one word each. Their sum is right where it is within `largest`,
    whatever its terms are."""

    bits: int

    limbs: ClassVar[int] = 1

    @property
    def dtype(self) -> Dtype:
        """Of the words."""
        return Dtype.UINT16 if self.bits == 16 else Dtype.UINT32

    def largest(self, terms: int) -> float:
        """The largest magnitude of a sum, and of each number."""
        del terms
        return 2.0 ** (self.bits - 1) - 1.0

    def encode(self, values: Vector) -> Words:
        """Whole numbers of at most `largest`."""
        return np.rint(values).astype(np.int64).astype(self.dtype.value)

    def decode(self, words: Words) -> Vector:
        """The numbers."""
        signed = np.ascontiguousarray(words, dtype=self.dtype.value).view(f"int{self.bits}")
        return signed.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Word:
    """Numbers in one word of 64 bits, in units of 2**-fraction: where it is known how large they may be."""

    fraction: int

    limbs: ClassVar[int] = 1
    dtype: ClassVar[Dtype] = Dtype.UINT64

    def largest(self, terms: int) -> float:
        """The largest magnitude that each of so many numbers may have."""
        return 2.0 ** (63 - self.fraction) / (terms + 1)

    def encode(self, values: Vector) -> Words:
        """Finite numbers of at most `largest`, each rounded to the nearest unit, ties to even."""
        return np.rint(np.ldexp(values, self.fraction)).astype(np.int64).view(np.uint64)

    def decode(self, words: Words) -> Vector:
        """The numbers, each the float64 nearest to it."""
        units = np.ascontiguousarray(words, dtype=np.uint64).view(np.int64).astype(np.float64)
        return np.asarray(np.ldexp(units, -self.fraction))


WIDE = Ring(limbs=34, fraction=1074)
"""Every float64 and every sum of them, without rounding."""

NARROW = Ring(limbs=2, fraction=64)
"""Up to 2**63 in all, to 2**-65."""

FRACTIONS = range(57)
"""Bits behind the point that numbers of one word may have."""

LEAST_RANGE = 2.0**30
"""So large at least may numbers of one word be that are no noised ones: what is larger is refused, and a
number of rows is none such."""

MOST_WIDE = 4_096
"""So many numbers at most are put as wide ones: 272 bytes each."""


def ring_for(size: int) -> Ring:
    """In which ring a vector of so many numbers is added up."""
    return WIDE if size <= MOST_WIDE else NARROW


def add(total: Words, words: Words, limbs: int) -> None:
    """Add a vector to `total`, in place."""
    rows, others = total.reshape(limbs, -1), words.reshape(limbs, -1)
    carry: Words | None = None
    for row, other in zip(rows, others, strict=True):
        np.add(row, other, out=row)
        over = row < other
        if carry is not None:
            np.add(row, carry, out=row)
            over |= (row == 0) & (carry == 1)
        carry = over.astype(row.dtype)


def subtract(total: Words, words: Words, limbs: int) -> None:
    """Take a vector away from `total`, in place."""
    negated = np.array(words)
    _negate(negated.reshape(limbs, -1), np.ones(negated.size // limbs, dtype=np.bool_))
    add(total, negated, limbs)


def _placed(magnitudes: Words, shift: NDArray[np.int64], limbs: int) -> Words:
    """Whole numbers of 53 bits, moved up by `shift` bits."""
    words = np.zeros((limbs, magnitudes.size), dtype=np.uint64)
    columns = np.arange(magnitudes.size)
    place, bits = shift // 64, (shift % 64).astype(np.uint64)
    words[place, columns] = magnitudes << bits
    above = place + 1 < limbs
    rest = np.where(bits > 0, magnitudes >> (np.uint64(64) - np.maximum(bits, np.uint64(1))), np.uint64(0))
    words[place[above] + 1, columns[above]] = rest[above]
    return words


def _negate(rows: Words, where: NDArray[np.bool_]) -> None:
    """Two's complement of the numbers `where` says so, in place."""
    word = rows.dtype.type
    carry = where.astype(word)
    flip = np.where(where, ~word(0), word(0))
    for row in rows:
        np.bitwise_xor(row, flip, out=row)
        np.add(row, carry, out=row)
        carry = ((carry == 1) & (row == 0)).astype(word)


def _quotient(magnitude: int, unit: int) -> float:
    try:
        return magnitude / unit
    except OverflowError:
        return np.inf
