"""Which node gathers for which others: what the option `aggregator` makes of a workspace's nodes.

What always holds: a hierarchy has no cycle and no more than MOST_LEVELS aggregators above a node, or
`check_hierarchy` raises; `grow` ends for whatever it is given, and has each node that is asked in one place.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import NodeName

MOST_LEVELS = 4
"""Aggregators above a node, at most: each halves the time that the ones below it have."""

Aggregators = Mapping[NodeName, NodeName]
"""By node, the one that gathers for it."""


@dataclass(frozen=True, slots=True)
class Branch:
    """What one aggregator gathers: the answers of `nodes`, and what the branches below have gathered.

    The aggregator's own answer is not among them; that of a branch below is among `nodes`.
    """

    aggregator: NodeName
    nodes: tuple[NodeName, ...]
    branches: tuple[Branch, ...] = ()

    @property
    def everybody(self) -> frozenset[NodeName]:
        """Whose answers it gathers, all told."""
        return frozenset(self.nodes).union(*(branch.everybody for branch in self.branches))

    def missing(self, arrived: Collection[NodeName]) -> tuple[list[Branch], list[NodeName]]:
        """What is left to ask where the aggregator has done what it could: branches of which nothing has
        arrived, and single nodes."""
        nodes = [node for node in self.nodes if node not in arrived]
        whole: list[Branch] = []
        for branch in self.branches:
            if any(node in arrived for node in branch.everybody):
                below, left = branch.missing(arrived)
                whole += below
                nodes += left
            else:
                whole.append(branch)
        return whole, nodes

    def without(self, nodes: Collection[NodeName]) -> Branch:
        """The same without the answers of some; what these gather themselves stays."""
        left = tuple(node for node in self.nodes if node not in nodes)
        return Branch(self.aggregator, left, tuple(branch.without(nodes) for branch in self.branches))


def check_hierarchy(aggregators: Aggregators, node: NodeName) -> None:
    """Raise FederatedError INVALID_VALUE for a cycle through `node`, PROGRAM_LIMIT where it leads to more
    levels than there may be."""
    chain = _chain(aggregators, node)
    if chain[-1] in chain[:-1]:
        raise invalid_value(
            f'node "{node}" would aggregate for itself',
            detail=" -> ".join(chain) + ".",
            hint="Choose an aggregator that is not below the node itself.",
        )
    deepest = max((_chain(aggregators, one) for one in aggregators), key=len, default=())
    if len(deepest) - 1 > MOST_LEVELS:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f'node "{deepest[0]}" would have {len(deepest) - 1} aggregators above it, and may have'
            f" {MOST_LEVELS}",
            detail=" -> ".join(deepest) + ".",
        )


def grow(
    aggregators: Aggregators, asked: Collection[NodeName]
) -> tuple[tuple[Branch, ...], tuple[NodeName, ...]]:
    """Return the branches that gather from the nodes that are asked, and who of these is in none."""
    sound = {one: above for one, above in aggregators.items() if not _is_cyclic(aggregators, one)}
    members: dict[NodeName, list[NodeName]] = {}
    below: dict[NodeName, set[NodeName]] = {}
    for node in asked:
        if node not in sound:
            continue
        members.setdefault(sound[node], []).append(node)
        chain = _chain(sound, node)[1:]
        for lower, upper in itertools.pairwise(chain):
            below.setdefault(upper, set()).add(lower)

    def branch(aggregator: NodeName) -> Branch:
        lower = tuple(branch(one) for one in sorted(below.get(aggregator, ())))
        return Branch(aggregator, tuple(sorted(members.get(aggregator, ()))), lower)

    tops = {_chain(sound, node)[-1] for node in asked if node in sound}
    alone = tuple(sorted(node for node in asked if node not in sound))
    return tuple(branch(one) for one in sorted(tops)), alone


def _chain(aggregators: Aggregators, node: NodeName) -> tuple[NodeName, ...]:
    """The node and the aggregators above it; the last one is there twice where there is a cycle."""
    chain = [node]
    while (above := aggregators.get(chain[-1])) is not None:
        chain.append(above)
        if above in chain[:-1]:
            break
    return tuple(chain)


def _is_cyclic(aggregators: Aggregators, node: NodeName) -> bool:
    chain = _chain(aggregators, node)
    return chain[-1] in chain[:-1]
