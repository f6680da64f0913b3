"""The selections: which of the able nodes a round asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from heliosdb.domain.ids import NodeName, RunId
from heliosdb.domain.run import Policy
from heliosdb.domain.selection import RunSelection, first_by_name
from heliosdb.parts.selections import SELECTIONS, SomeNodes, read_selection


@dataclass(frozen=True, slots=True)
class Everybody:
    """All of them; where there are more than may take part, the first by name."""

    def choose(
        self, able: frozenset[NodeName], most: int, settings: object, draw: bytes
    ) -> frozenset[NodeName]:
        """Choose all, as far as `most` allows."""
        del settings, draw
        return first_by_name(able, most)


@dataclass(frozen=True, slots=True)
class AtRandom:
    """k of them, every set of k as likely as any other.

    Nodes know the run's number and can foretell the choice: it spreads the work, and no privacy rests on it.
    """

    def choose(
        self, able: frozenset[NodeName], most: int, settings: SomeNodes, draw: bytes
    ) -> frozenset[NodeName]:
        """Choose those whose lots, drawn by their names, are the least."""
        lots = {node: hashlib.sha256(draw + node.encode()).digest() for node in able}
        return frozenset(sorted(able, key=lambda node: (lots[node], node))[: min(settings.k, most)])


ALL = Everybody()
RANDOM = AtRandom()


def make_selection(policy: Policy, run: RunId, *, always: frozenset[NodeName] = frozenset()) -> RunSelection:
    """Bind the workspace's selection to a run; FederatedError where there is none of that name.

    always: nodes that every round asks.
    """
    entry, settings = read_selection(policy.node_selection)
    return RunSelection(SELECTIONS.get(entry.name), settings, policy.max_nodes, run, always)
