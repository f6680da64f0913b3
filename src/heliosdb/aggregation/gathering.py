"""What becomes of updates while they arrive: each is taken in at once, and only what is needed of it is kept.

What always holds: a result is the same to the bit whatever the order in which updates were taken; a node that
is taken twice, and a result of no update at all, is FederatedError UPDATE_REJECTED (UF003); only updates that
pass `check_update` are taken. A gathering is made anew where an exchange is rebuilt from its rows.
"""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

import numpy as np

from heliosdb.aggregation.partial_sum import PartialSum, merge
from heliosdb.aggregation.strategy import Strategy, weighs
from heliosdb.aggregation.summation import ExactSum
from heliosdb.aggregation.updates import check_update, in_order, rejected, sent_twice
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Total, Update, Updates, norm
from heliosdb.domain.vector import Dtype

G_co = TypeVar("G_co", covariant=True)


class Gathering(Protocol[G_co]):
    """Takes an exchange's updates one by one, in any order."""

    def take(self, update: Update) -> None:
        """Take one node's update; FederatedError UPDATE_REJECTED for one that may not be combined."""
        ...

    def result(self) -> G_co:
        """What they gathered to; more may be taken afterwards."""
        ...


class SumGathering:
    """Adds up answers that are sums: of each the vector as it is, and the weights beside them.

    size, dtype: of the updates' vectors. Memory: that of one `ExactSum`, and a number for each node.
    """

    def __init__(self, size: int, dtype: Dtype = Dtype.FLOAT64) -> None:
        if not dtype.is_real:
            raise ValueError("elements of a ring are added in the ring, not here")
        self._dtype = dtype
        self._sum = ExactSum(size)
        self._weights: dict[NodeName, float] = {}
        self._largest: tuple[NodeName, float] | None = None

    def take(self, update: Update) -> None:
        """Add one node's update."""
        check_update(update, self._sum.size, self._dtype)
        if update.node in self._weights:
            raise sent_twice(update.node)
        self._sum.add(update.vector, self._coefficient(update))
        self._weights[update.node] = self._weight(update)
        self._largest = _longer(self._largest, (update.node, norm(update.vector)))

    def result(self) -> Total:
        """The sums so far. FederatedError UPDATE_REJECTED where there is none, or one that is no double."""
        if not self._weights:
            raise rejected("There is no update to add up.")
        vector = self._sum.total()
        if not np.isfinite(vector).all():
            raise rejected("The updates' sum is larger than the largest number.")
        # fsum rounds the exact sum once: that is independent of the order, too.
        return Total(vector, math.fsum(self._weights.values()), len(self._weights), self._largest)

    def _coefficient(self, update: Update) -> float:
        return 1.0

    def _weight(self, update: Update) -> float:
        return update.weight


class WeightedGathering(SumGathering):
    """Adds up weight x vector, for strategies that see the sum.

    equally: every update has the weight 1, whatever its node says.
    """

    def __init__(self, size: int, dtype: Dtype = Dtype.FLOAT64, *, equally: bool = False) -> None:
        super().__init__(size, dtype)
        self._equally = equally

    @property
    def equally(self) -> bool:
        """Whether every update has the weight 1."""
        return self._equally

    def join(self, partial: PartialSum) -> None:
        """Add what was added up elsewhere: the same result as taking each of its updates.

        The sum's coefficients must be this gathering's. FederatedError UPDATE_REJECTED where it does not fit.
        """
        if twice := sorted(partial.nodes & self._weights.keys()):
            raise sent_twice(twice[0])
        merge(self._sum, partial.sum)
        for term in partial.terms:
            self._weights[term.node] = 1.0 if self._equally else term.weight
            self._largest = _longer(self._largest, (term.node, term.norm))

    def _coefficient(self, update: Update) -> float:
        return self._weight(update)

    def _weight(self, update: Update) -> float:
        return 1.0 if self._equally else update.weight


class EachGathering:
    """Keeps every update, for strategies that see each.

    size None: whatever the first update has. Memory: that of all updates.
    """

    def __init__(self, size: int | None = None, dtype: Dtype = Dtype.FLOAT64) -> None:
        self._size, self._dtype = size, dtype
        self._updates: dict[NodeName, Update] = {}

    def take(self, update: Update) -> None:
        """Keep one node's update."""
        if self._size is None:
            self._size = update.vector.size
        check_update(update, self._size, self._dtype)
        if update.node in self._updates:
            raise sent_twice(update.node)
        self._updates[update.node] = update

    def result(self) -> Updates:
        """The updates in the order of the nodes' names."""
        if not self._updates:
            raise rejected("There is no update to combine.")
        return tuple(in_order(list(self._updates.values())))


def gathering_for(
    rule: Strategy, size: int, dtype: Dtype = Dtype.FLOAT64, settings: object = None
) -> Gathering[Total | Updates]:
    """How the updates of an exchange that this strategy combines are gathered, where each is seen.

    settings: the strategy's.
    """
    if rule.sees == "each":
        return EachGathering(size, dtype)
    return WeightedGathering(size, dtype, equally=not weighs(settings))


def _longer(one: tuple[NodeName, float] | None, other: tuple[NodeName, float]) -> tuple[NodeName, float]:
    """The node with the longer update; of equal ones the first by name."""
    if one is None:
        return other
    return min(one, other, key=lambda found: (-found[1], found[0]))
