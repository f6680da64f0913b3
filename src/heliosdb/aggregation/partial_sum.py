"""What an aggregator makes of its nodes' updates, and how it travels: a sum that can go on.

What always holds: what `take` and `join` gathered, in whatever order and along whatever branches, merges into
the bits of adding all updates in one place; bytes are read back to the same sum or raise FederatedError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.aggregation.agreement import SKETCH, sketch
from heliosdb.aggregation.summation import ExactSum
from heliosdb.aggregation.updates import check_update, rejected, sent_twice
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Term, Update, norm
from heliosdb.domain.vector import Dtype

_FRONT = struct.Struct("<4sQQ3Q")
_FORMAT = b"sum2"
_ANCHOR_BYTES, _BIN_BYTES, _BINS = 1, 8, 3


@dataclass(frozen=True, slots=True)
class Adding:
    """How updates are added up. size, dtype: of each. equally: each counts as one, whatever its weight.

    parts: how many vectors of equal length an update is made of, of which the first is compared with others';
    sketch_key: of the sketches in which that is done (aggregation/agreement.py).
    """

    size: int
    dtype: Dtype
    equally: bool
    parts: int
    sketch_key: int


@dataclass(frozen=True, slots=True)
class PartialSum:
    """The sum of some nodes' updates, each times its weight, and what is told of each beside it."""

    sum: ExactSum
    terms: tuple[Term, ...]

    @property
    def nodes(self) -> frozenset[NodeName]:
        """Whose updates are in it."""
        return frozenset(term.node for term in self.terms)


class PartialGathering:
    """Takes updates, and sums of other updates, in any order. Memory: that of one `ExactSum`."""

    def __init__(self, adding: Adding) -> None:
        self._adding = adding
        self._sum = ExactSum(adding.size)
        self._terms: dict[NodeName, Term] = {}

    def take(self, update: Update) -> None:
        """Add one node's update; FederatedError UPDATE_REJECTED for one that may not be combined."""
        adding = self._adding
        check_update(update, adding.size, adding.dtype)
        if update.node in self._terms:
            raise sent_twice(update.node)
        term = term_of(update, adding)
        self._sum.add(update.vector, 1.0 if adding.equally else update.weight)
        self._terms[update.node] = term

    def join(self, partial: PartialSum) -> None:
        """Add what another one gathered; FederatedError UPDATE_REJECTED where it does not fit."""
        if twice := sorted(partial.nodes & self._terms.keys()):
            raise sent_twice(twice[0])
        merge(self._sum, partial.sum)
        self._terms |= {term.node: term for term in partial.terms}

    def result(self) -> PartialSum | None:
        """What is gathered so far; None where that is nothing. UPDATE_REJECTED where it is no double."""
        if not self._terms:
            return None
        if not self._sum.is_finite:
            raise rejected("The updates' sum is larger than the largest number.")
        return PartialSum(self._sum, tuple(self._terms[node] for node in sorted(self._terms)))


def term_of(update: Update, adding: Adding) -> Term:
    """What is told of an update that is added to others."""
    parts = np.split(update.vector, adding.parts)
    norms = tuple(norm(part) for part in parts)
    whole = norms[0] if adding.parts == 1 else norm(update.vector)
    return Term(update.node, update.weight, whole, norms, sketch(parts[0], adding.sketch_key))


def merge(total: ExactSum, other: ExactSum) -> None:
    """Add a sum to another; FederatedError UPDATE_REJECTED where they do not fit."""
    try:
        total.merge(other)
    except (ValueError, OverflowError) as error:
        raise rejected("The sum is of another size, or of too many updates.") from error


def check_length(partial: PartialSum, *, equally: bool) -> None:
    """Raise UPDATE_REJECTED for a sum longer than its terms allow: no vector of theirs adds up to it.

    By the triangle inequality, with room for the rounding of sums and norms.
    """
    weights = (1.0 if equally else term.weight for term in partial.terms)
    most = sum(weight * term.norm for weight, term in zip(weights, partial.terms, strict=True))
    # Of a sum that is no double the length is no number, and no larger than anything.
    if not partial.sum.length() <= most * (1.0 + 1e-6):
        raise rejected("The sum is longer than the updates that are said to be in it.")


def most_sum_bytes(size: int) -> int:
    """How many bytes a sum of so many values takes at most."""
    return _FRONT.size + (_ANCHOR_BYTES + _BINS * _BIN_BYTES) * size


def sum_to_bytes(made: ExactSum) -> bytes:
    """A sum for the wire: format, size, how many terms, how many numbers of each bin, anchors, bins;
    little-endian.

    Of a bin that is 0 at most places (the lowest is, where values have few digits), the others alone are
    there, behind a bit for each place.
    """
    additions, anchors, bins = made.parts()
    packed = [_pack_bin(one) for one in bins]
    front = _FRONT.pack(_FORMAT, made.size, additions, *(count for count, _ in packed))
    return b"".join((front, anchors.tobytes(), *(part for _, parts in packed for part in parts)))


def sum_from_bytes(raw: bytes | memoryview, size: int) -> ExactSum:
    """Read what `sum_to_bytes` wrote of a sum of `size` values; FederatedError INVALID_VALUE for all else."""
    if len(raw) < _FRONT.size + size:
        raise invalid_value("the sum is shorter than was asked for")
    form, announced, additions, *counts = _FRONT.unpack_from(raw)
    if form != _FORMAT or announced != size:
        raise invalid_value("the sum is of another form or size")
    ends = _FRONT.size + size
    if any(count > size for count in counts) or len(raw) != ends + sum(_bin_bytes(n, size) for n in counts):
        raise invalid_value("the sum is not of the length that it announces")
    anchors = np.frombuffer(raw, np.uint8, size, _FRONT.size).copy()
    bins = np.zeros((_BINS, size), np.int64)
    for one, count in zip(bins, counts, strict=True):
        _unpack_bin(raw, ends, one, count)
        ends += _bin_bytes(count, size)
    try:
        return ExactSum.of_parts(additions, anchors, bins)
    except ValueError as error:
        raise invalid_value("no updates can have led to this sum") from error


def _bin_bytes(count: int, size: int) -> int:
    """How many bytes a bin takes of which so many numbers are told."""
    return count * _BIN_BYTES + (_places_bytes(size) if 0 < count < size else 0)


def _places_bytes(size: int) -> int:
    return -(-size // 8)


def _pack_bin(one: NDArray[np.int64]) -> tuple[int, tuple[bytes, ...]]:
    """How many numbers of a bin are told, and its bytes."""
    told = int(np.count_nonzero(one))
    if told == 0:
        return 0, ()
    if _bin_bytes(told, one.size) >= one.size * _BIN_BYTES:
        return one.size, (one.astype("<i8", copy=False).tobytes(),)
    there = one != 0
    return told, (np.packbits(there).tobytes(), one[there].astype("<i8", copy=False).tobytes())


def _unpack_bin(raw: bytes | memoryview, start: int, one: NDArray[np.int64], count: int) -> None:
    """Read a bin of which so many numbers are told into one of zeros; FederatedError INVALID_VALUE."""
    if count == one.size:
        one[:] = np.frombuffer(raw, "<i8", count, start)
        return
    if count == 0:
        return
    length = _places_bytes(one.size)
    bits = np.unpackbits(np.frombuffer(raw, np.uint8, length, start))
    there = bits.view(np.bool_)
    if np.count_nonzero(there) != count or there[one.size :].any():
        raise invalid_value("the sum's places are not as many as its numbers")
    one[there[: one.size]] = np.frombuffer(raw, "<i8", count, start + length)


def sketch_size(size: int) -> int:
    """How many numbers are kept of a vector of so many values."""
    return min(size, SKETCH)
