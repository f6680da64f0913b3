"""The selections: which of the able nodes a round asks.

What always holds: of nodes that a rule holds equal the draw decides, never the name, so that they share the
work; but where a rule asks all in turn, which shares it too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from heliosdb.domain.ids import NodeName, RunId
from heliosdb.domain.run import Policy
from heliosdb.domain.selection import NEW, RunSelection, Standing, Standings, first_by_name
from heliosdb.parts.selections import SELECTIONS, SomeNodes, read_selection

_Names = frozenset[NodeName]


@dataclass(frozen=True, slots=True)
class Everybody:
    """All of them; where there are more than may take part, the first by name."""

    ranks: bool = False

    def choose(self, able: _Names, most: int, settings: object, draw: bytes, known: Standings) -> _Names:
        """Choose all, as far as `most` allows."""
        del settings, draw, known
        return first_by_name(able, most)


@dataclass(frozen=True, slots=True)
class AtRandom:
    """k of them, every set of k as likely as any other.

    Nodes know the run's number and can foretell the choice: it spreads the work, and no privacy rests on it.
    """

    ranks: bool = False

    def choose(self, able: _Names, most: int, settings: SomeNodes, draw: bytes, known: Standings) -> _Names:
        """Choose those whose lots, drawn by their names, are the least."""
        del known
        return _first(able, min(settings.k, most), draw, lambda _node: 0.0)


@dataclass(frozen=True, slots=True)
class MostData:
    """The k with the most rows, as their answers in round 0 state them; one that stated none has none."""

    ranks: bool = True

    def choose(self, able: _Names, most: int, settings: SomeNodes, draw: bytes, known: Standings) -> _Names:
        """Choose those with the most rows."""
        return _first(able, min(settings.k, most), draw, lambda node: -(known.get(node, NEW).rows or 0))


@dataclass(frozen=True, slots=True)
class BestPerformance:
    """The k whose updates have moved the model most as the others' have: by the mean of a node's contribution
    score over the rounds of this run that asked it, 0 for a round to which it gave no update that counts.

    Whoever was not asked yet comes first, so that each is tried before any is passed over for its figures.
    """

    ranks: bool = True

    def choose(self, able: _Names, most: int, settings: SomeNodes, draw: bytes, known: Standings) -> _Names:
        """Choose those that are untried, then those with the best means."""
        return _first(able, min(settings.k, most), draw, lambda node: _rank(known.get(node, NEW)))


@dataclass(frozen=True, slots=True)
class Cyclic:
    """The next k in the order of their names, round after round: of one node a round the model goes from node
    to node (cyclic weight transfer, Chang et al. 2018). Who was away when it was its turn comes next when it
    is there again, and takes one turn, not all those that it has missed: the model would be its own."""

    ranks: bool = True

    def choose(self, able: _Names, most: int, settings: SomeNodes, draw: bytes, known: Standings) -> _Names:
        """Choose those that were last asked the longest ago in the run, or never, the first by name."""
        del draw
        inorder = sorted(able, key=lambda node: (known.get(node, NEW).last_asked, node))
        return frozenset(inorder[: min(settings.k, most)])


def _rank(one: Standing) -> float:
    # No mean is beyond 1.
    return -one.aligned / one.asked if one.asked else -2.0


def _first(able: _Names, count: int, draw: bytes, rank: Callable[[NodeName], float]) -> _Names:
    """Those of the least rank; equal ones by lots, drawn by their names."""
    lots = {node: hashlib.sha256(draw + node.encode()).digest() for node in able}
    return frozenset(sorted(able, key=lambda node: (rank(node), lots[node], node))[:count])


ALL = Everybody()
RANDOM = AtRandom()
MOST_DATA = MostData()
BEST_PERFORMANCE = BestPerformance()
CYCLIC = Cyclic()


def make_selection(policy: Policy, run: RunId, *, always: frozenset[NodeName] = frozenset()) -> RunSelection:
    """Bind the workspace's selection to a run; FederatedError where there is none of that name.

    always: nodes that every round asks.
    """
    entry, settings = read_selection(policy.node_selection)
    return RunSelection(SELECTIONS.get(entry.name), settings, policy.max_nodes, run, always)
