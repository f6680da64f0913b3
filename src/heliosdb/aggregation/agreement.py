"""How far the updates of a round agree: their spread, and how each points along with the others'.

What always holds: it looks at updates that were released and changes none; the figures are a pure function of
them and of the sketch's key, the same bits whatever the order of arrival and in every life of the
coordinator; of an update no more than SKETCH values are kept.

Up to SKETCH values an update is kept as it is, and figures are exact. Of a longer one its count sketch is
kept (Charikar, Chen and Farach-Colton 2002, "Finding frequent items in data streams"): each value is added to
one of SKETCH numbers, with a sign; which number and which sign are hashes of the value's place. Sketches are
linear, and inner products of sketches are those of the updates without bias, so figures of larger models are
approximate: a cosine has a standard error of about 1 / sqrt(SKETCH) = 0.016, the variance one of about 2 % of
itself.

The hashes need no secret for honest nodes. A node that knows them can send an update whose sketch is another
vector's, up to sqrt(size / SKETCH) times longer than the update itself. It is then shown, and weighs in the
others' figures, as if it had sent that vector; the model is moved by what it did send. The figures are a
report, and what node_selection best_performance ranks by. A key that nodes do not know takes even that from
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heliosdb.aggregation.suspects import Evidence, find_evidence
from heliosdb.aggregation.updates import in_order, sent_twice
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Term, Update
from heliosdb.domain.vector import AnyVector, Vector

CHUNK = 1 << 15
"""Values worked on at a time: small enough to stay in a processor's cache."""

SKETCH = 1 << 12
"""How many numbers are kept of an update at most."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """variance: weighted mean of the squared L2 distances of the updates from their weighted mean.

    alignments: by node, in [-1, 1], the cosine between its update and the weighted mean of all others'. None
    where there is nothing to compare: a single update, or a vector without direction. evidence: by node,
    what speaks against it.
    """

    variance: float | None = None
    alignments: Mapping[NodeName, float | None] = field(default_factory=dict)
    evidence: Mapping[NodeName, Evidence] = field(default_factory=dict)


class AgreementMeter:
    """Takes the updates of one round as they arrive. key: of the hashes, any number in [0, 2**64).

    Memory: SKETCH numbers for each node, whatever the size of the model.
    """

    def __init__(self, key: int = 0) -> None:
        self._key = key
        self._sketches: dict[NodeName, Update] = {}

    def take(self, update: Update) -> None:
        """Keep what is needed of one update that passed `check_update`; UF003 for a node that was taken."""
        self._keep(Update(update.node, sketch(update.vector, self._key), update.weight))

    def take_term(self, term: Term) -> None:
        """Keep the sketch of an update that was taken elsewhere, made with the same key."""
        self._keep(Update(term.node, term.sketch, term.weight))

    def _keep(self, sketched: Update) -> None:
        if sketched.node in self._sketches:
            raise sent_twice(sketched.node)
        self._sketches[sketched.node] = sketched

    def result(self) -> Agreement:
        """How far they agree; approximate for updates of more than SKETCH values."""
        return measure_agreement(list(self._sketches.values()))


def sketch(vector: AnyVector, key: int = 0) -> Vector:
    """A copy of a vector of at most SKETCH values; of a longer one SKETCH numbers: its count sketch."""
    if vector.size <= SKETCH:
        return np.array(vector, dtype=np.float64)
    signed = np.zeros(2 * SKETCH)
    # Finite values may have sums that are not: what depends on them is then unknown.
    with np.errstate(over="ignore", invalid="ignore"):
        for start, places in _places(vector.size, key):
            part = vector[start : start + CHUNK]
            signed += np.bincount(places, weights=part, minlength=2 * SKETCH)
        found: Vector = signed[:SKETCH] - signed[SKETCH:]
    return found


def _places(size: int, key: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """By chunk, where each value goes: to a number, or with SKETCH added to it, to the same with a minus.

    The hash is the output function of SplitMix64 (Steele, Lea and Flood 2014).
    """
    begin = np.uint64(int(_mixed(np.array([key], dtype=np.uint64))[0]))
    for start in range(0, size, CHUNK):
        index = np.arange(start, min(start + CHUNK, size), dtype=np.uint64)
        index *= np.uint64(0x9E3779B97F4A7C15)
        index += begin
        # The upper bits, which are the better mixed ones.
        yield start, (_mixed(index) >> np.uint64(51)).astype(np.int64)


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def measure_agreement(updates: Sequence[Update]) -> Agreement:
    """Compare the updates of one round, or their sketches, in the order of names; weights are their shares.

    The alignment is the cosine gradient Shapley value of Xu et al. 2021 ("Gradient Driven Rewards to
    Guarantee Fairness in Collaborative Machine Learning", NeurIPS), with the node's own update left out of
    the direction that it is compared with, so that a large node does not agree with itself.
    """
    ordered = in_order(updates)
    if len(ordered) < 2:
        return Agreement(alignments={update.node: None for update in ordered})
    largest = max(update.weight for update in ordered)
    shares = [update.weight / largest for update in ordered]
    whole = math.fsum(shares)
    shares = [share / whole for share in shares]
    # Finite values may have squares that are not: the figure is then unknown, the round none the worse.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = _weighted_sum(ordered, shares)
        length, along, apart = _products(ordered, mean)
    variance = _finite(math.fsum(share * each for share, each in zip(shares, apart, strict=True)))
    return Agreement(
        variance,
        {
            update.node: _alignment(share, length, *each)
            for update, share, each in zip(ordered, shares, zip(along, apart, strict=True), strict=True)
        },
        find_evidence(ordered),
    )


def _weighted_sum(updates: Sequence[Update], coefficients: Sequence[float]) -> Vector:
    """The sum of coefficient x vector, added in the order given."""
    total = np.zeros(updates[0].vector.size)
    for update, coefficient in zip(updates, coefficients, strict=True):
        total += update.vector * coefficient
    return total


def _products(updates: Sequence[Update], mean: Vector) -> tuple[float, list[float], list[float]]:
    """Return mean·mean and, by update, with d = update - mean: mean·d and d·d."""
    along, apart = [], []
    for update in updates:
        difference = update.vector - mean
        along.append(float(difference @ mean))
        apart.append(float(difference @ difference))
    return float(mean @ mean), along, apart


def _alignment(share: float, length: float, along: float, apart: float) -> float | None:
    """Return the cosine between u = mean + d and (1 - share) mean - share d, the others' share of the mean.

    In terms of d, not of u: of a node that has nearly all rows the others' part is a small difference.
    """
    rest = 1.0 - share
    product = rest * length + (rest - share) * along - share * apart
    own = length + 2.0 * along + apart
    others = rest * rest * length - 2.0 * rest * share * along + share * share * apart
    scale = own * others
    if not (scale > 0.0 and math.isfinite(scale) and math.isfinite(product)):
        return None
    return max(-1.0, min(1.0, product / math.sqrt(scale)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
