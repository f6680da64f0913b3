"""Which nodes are summed together, and which models vote, under the option `robust_groups`.

What always holds: the groups of a run are disjoint, hold every node once, and differ in size by one at most;
whoever asks again is answered the same; no node chooses its group, because that hangs on the run's identity,
which is drawn after the node has its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from uuid import UUID

from heliosdb.domain.ids import NodeName

Groups = tuple[tuple[NodeName, ...], ...]
"""The nodes of each group, in the order in which they were dealt."""


def dealt(nodes: Collection[NodeName], groups: int, run: UUID) -> Groups:
    """The nodes of a run, dealt in turn to so many groups (at least 1, at most one a node)."""

    def drawn(node: NodeName) -> bytes:
        return hashlib.sha256(run.bytes + node.encode()).digest()

    order = sorted(nodes, key=drawn)
    return tuple(tuple(order[group::groups]) for group in range(groups))


def group_of(groups: Groups, node: NodeName) -> int:
    """The place of the group that a node is in; ValueError where it is in none."""
    for number, group in enumerate(groups):
        if node in group:
            return number
    raise ValueError(f"node {node} is in no group")
