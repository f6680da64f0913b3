"""Masked vectors that are added up before a secure sum is opened, by the coordinator or an aggregator.

What always holds: the sum is that of all vectors that were taken, in the ring, whatever the order and along
whatever branches; whoever adds learns from it what single masked vectors tell, which is nothing. How much a
vector counts is in the vector, behind its mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from heliosdb.aggregation.sums import SumProtocol
from heliosdb.aggregation.updates import check_update, rejected, sent_twice
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import State
from heliosdb.domain.task import Rounding, Summing, TaskKey
from heliosdb.domain.update import Term, Update
from heliosdb.domain.vector import AnyVector, Dtype, vector_from_bytes, vector_to_bytes
from heliosdb.privacy.ring import AnyRing, Whole, Word, add
from heliosdb.privacy.rounding import Rounded, Turn

_NOTHING = np.zeros(0)


@dataclass(frozen=True, slots=True)
class MaskedAdding:
    """How masked vectors are added up. size: words of each, in the layout of `privacy/ring.py`; limbs: words
    of a number; dtype: of a word."""

    size: int
    limbs: int
    dtype: Dtype = Dtype.UINT64

    @property
    def sum_bytes(self) -> int:
        """How many bytes a sum takes: as many as one vector."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class MaskedSum:
    """The sum of some nodes' masked vectors. terms: whose they are; nothing else is known of one."""

    words: AnyVector
    terms: tuple[Term, ...]

    @property
    def nodes(self) -> frozenset[NodeName]:
        """Whose vectors are in it."""
        return frozenset(term.node for term in self.terms)


class MaskedGathering:
    """Takes masked vectors, and sums of others, in any order. Memory: that of one vector."""

    def __init__(self, adding: MaskedAdding) -> None:
        self._adding = adding
        self._words = np.zeros(adding.size, dtype=adding.dtype.value)
        self._terms: dict[NodeName, Term] = {}

    def take(self, update: Update) -> None:
        """Add one node's vector; FederatedError UPDATE_REJECTED for one that may not be added."""
        check_update(update, self._adding.size, self._adding.dtype)
        self._enter(update.vector, (masked_term(update.node, update.weight),))

    def join(self, masked: MaskedSum) -> None:
        """Add what another one gathered; FederatedError UPDATE_REJECTED where it does not fit."""
        if masked.words.size != self._adding.size:
            raise rejected("The sum is of another size.")
        self._enter(masked.words, masked.terms)

    def _enter(self, words: AnyVector, terms: tuple[Term, ...]) -> None:
        if twice := sorted({term.node for term in terms} & self._terms.keys()):
            raise sent_twice(twice[0])
        add(self._words, words.astype(self._adding.dtype.value, copy=False), self._adding.limbs)
        self._terms |= {term.node: term for term in terms}

    def result(self) -> MaskedSum | None:
        """What is gathered so far; None where that is nothing."""
        if not self._terms:
            return None
        return MaskedSum(self._words, tuple(self._terms[node] for node in sorted(self._terms)))


@runtime_checkable
class AddsMasked(Protocol):
    """A sum protocol of whose carrying stage no more is needed than the sum of its answers in a ring: it can
    be added up by whoever may not know an answer."""

    def adding(self, size: int) -> MaskedAdding:
        """How the answers of the carrying stage are added up, for a sum of `size` values."""
        ...

    def take_sum(self, heard: State, masked: MaskedSum) -> State:
        """Coordinator: as `SumProtocol.take` of the carrying stage, of the sum of its answers."""
        ...


@runtime_checkable
class AddsInRing(Protocol):
    """A sum protocol that adds up in a ring of fewer bits as well."""

    def in_ring(self, ring: AnyRing) -> SumProtocol:
        """The protocol where a vector is of numbers whose sum the ring holds."""
        ...


def sums_in(sums: SumProtocol, summing: Summing) -> SumProtocol:
    """A protocol as a task has it add up; FederatedError NOT_SUPPORTED where it does not."""
    if summing.rounding is None and summing.fraction is None:
        return sums
    if not isinstance(sums, AddsInRing):
        raise not_supported(f'the sum protocol "{sums.name}" adds up no values of fewer bits')
    if summing.fraction is not None:
        return sums.in_ring(Word(summing.fraction))
    assert summing.rounding is not None
    return sums.in_ring(Whole(2 * summing.rounding.bits))


def lattice_of(rounding: Rounding, size: int, key: TaskKey) -> Rounded:
    """The lattice of updates of `size` values; the same for every message and every node of a sum."""
    told = repr((str(key.run), key.round, str(key.step))).encode()
    turn = Turn(size, b"heliosdb turn of an update v1\0" + told)
    return Rounded(turn, Whole(2 * rounding.bits), rounding.norm, rounding.weight)


def masked_term(node: NodeName, weight: float) -> Term:
    """What is told of a masked vector. weight: what is public of it."""
    return Term(node, weight, 0.0, (), _NOTHING)


def masked_to_bytes(masked: MaskedSum) -> bytes:
    """A sum for the wire: its words, little-endian."""
    return vector_to_bytes(masked.words, Dtype(masked.words.dtype.name))


def masked_from_bytes(raw: bytes | memoryview, adding: MaskedAdding) -> AnyVector:
    """Read what `masked_to_bytes` wrote; FederatedError INVALID_VALUE for all else."""
    if len(raw) != adding.sum_bytes:
        raise invalid_value("the sum is of another size than was asked for")
    return vector_from_bytes(bytes(raw), adding.dtype).astype(adding.dtype.value)
