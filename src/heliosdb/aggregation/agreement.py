"""How far the updates of a round agree: their spread, and how each points along with the others'.

What always holds: it looks at updates that were released and changes none; it is a pure function of them, the
same bits in every life of the coordinator; two passes over the updates, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from heliosdb.aggregation.updates import CHUNK, Update, in_order, weighted_sum
from heliosdb.domain.ids import NodeName
from heliosdb.domain.vector import Vector


@dataclass(frozen=True, slots=True)
class Agreement:
    """variance: weighted mean of the squared L2 distances of the updates from their weighted mean.

    alignments: by node, in [-1, 1], the cosine between its update and the weighted mean of all others'. None
    where there is nothing to compare: a single update, or a vector without direction.
    """

    variance: float | None = None
    alignments: Mapping[NodeName, float | None] = field(default_factory=dict)


def measure_agreement(updates: Sequence[Update]) -> Agreement:
    """Compare the updates of one round, which passed `check_update`; weights are their shares.

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
        mean = weighted_sum(ordered, shares)
        length, along, apart = _products(ordered, mean)
    variance = _finite(math.fsum(share * each for share, each in zip(shares, apart, strict=True)))
    return Agreement(
        variance,
        {
            update.node: _alignment(share, length, *each)
            for update, share, each in zip(ordered, shares, zip(along, apart, strict=True), strict=True)
        },
    )


def _products(updates: Sequence[Update], mean: Vector) -> tuple[float, list[float], list[float]]:
    """Return mean·mean and, by update, with d = update - mean: mean·d and d·d."""
    length, along, apart = 0.0, [0.0] * len(updates), [0.0] * len(updates)
    scratch = np.empty(min(CHUNK, mean.size))
    for start in range(0, mean.size, CHUNK):
        part = mean[start : start + CHUNK]
        difference = scratch[: part.size]
        length += float(part @ part)
        for index, update in enumerate(updates):
            np.subtract(update.vector[start : start + CHUNK], part, out=difference)
            along[index] += float(difference @ part)
            apart[index] += float(difference @ difference)
    return length, along, apart


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
