"""The sum protocols by name, and their settings."""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.settings import within
from heliosdb.parts.registry import Registry

PLAIN = "plain"
"""The one under which the coordinator sees every update; every other is for secure_aggregation."""

SHAMIR = "shamir"
"""The one that secure_aggregation has where nothing else is named."""

LEAST_NODES = 3
"""Of a secure sum: of two nodes each knows the other's vector once it knows the sum."""


MOST_NODES = 1_000
"""Of a secure sum: each keeps two shares of each."""


def least_of_group(protocol: str) -> int:
    """How many nodes a group has at least whose sum the protocol of that name makes."""
    return 1 if protocol == PLAIN else LEAST_NODES


def least_survivors(nodes: int) -> int:
    """How many of so many nodes open a sum where no threshold is given: two thirds, rounded up, and three."""
    return max(LEAST_NODES, -(-2 * nodes // 3))


@dataclass(frozen=True, slots=True)
class ShamirSettings:
    """Of shamir. threshold: how many nodes open a sum together; None: two thirds of those that begin it."""

    threshold: int | None = within(Bounds(LEAST_NODES, 10_000), default=None)


PROTOCOLS = Registry("sum protocol")
PROTOCOLS.register(PLAIN, "heliosdb.aggregation.plain:PLAIN")
PROTOCOLS.register(SHAMIR, "heliosdb.aggregation.secure_sum:SECURE_SUM", settings=ShamirSettings)
