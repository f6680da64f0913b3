"""Which nodes are summed together, and which models vote, under `robust_groups` and `voting_groups`.

What always holds: the groups of a run are disjoint, hold every node once, and differ in size by one at most;
whoever asks again is answered the same, in another run over the same nodes too, so that the sums of several
runs have no others between them. Who chooses a node's name may thereby choose its place among the others;
that makes no more hostile groups than there are hostile nodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from heliosdb.domain.ids import NodeName, WorkspaceName

Groups = tuple[tuple[NodeName, ...], ...]
"""The nodes of each group, in the order in which they were dealt."""


def dealt(nodes: Collection[NodeName], groups: int, workspace: WorkspaceName) -> Groups:
    """The nodes of a run, dealt in turn to so many groups (at least 1, at most one a node)."""

    def drawn(node: NodeName) -> bytes:
        return hashlib.sha256(f"{workspace}\0{node}".encode()).digest()

    order = sorted(nodes, key=drawn)
    return tuple(tuple(order[group::groups]) for group in range(groups))


def group_of(groups: Groups, node: NodeName) -> int:
    """The place of the group that a node is in; ValueError where it is in none."""
    for number, group in enumerate(groups):
        if node in group:
            return number
    raise ValueError(f"node {node} is in no group")
