"""Who of the able nodes takes part in a round: what a selection is, what it knows, and one bound to a run.

What always holds: whom a round asks follows from the run, the round, who is able, and what the run's closed
rounds say of these: it is the same in every life of a coordinator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from heliosdb.domain.ids import NodeName, RunId


@dataclass(frozen=True, slots=True)
class Standing:
    """What the closed rounds of a run say of a node.

    rows: as its answer in round 0 states them (noised under a budget); None: not known. asked: training
    rounds in which it was asked. aligned: the sum, over these, of the cosines between its update and the mean
    of the others'; 0 for a round that had none. last_asked: the latest of these rounds; 0 for none.
    """

    rows: int | None = None
    asked: int = 0
    aligned: float = 0.0
    last_asked: int = 0


Standings = Mapping[NodeName, Standing]
NO_STANDINGS: Standings = MappingProxyType({})
NEW = Standing()
"""Of a node of which no closed round says anything."""


class Selection(Protocol):
    """A rule by which nodes are chosen: pure, and equal to others of its kind.

    ranks: whether it reads what is known of the nodes, which is then looked up for it.
    """

    ranks: bool

    def choose(
        self, able: frozenset[NodeName], most: int, settings: Any, draw: bytes, known: Standings
    ) -> frozenset[NodeName]:
        """Choose at most `most` of the able. draw: 32 bytes, others in each round, the same whoever asks."""
        ...


@dataclass(frozen=True, slots=True)
class RunSelection:
    """A selection bound to a run. settings: an object of its settings class; most: nodes of a round.

    always: nodes that every round asks, beside those that are chosen.
    """

    selection: Selection
    settings: object
    most: int
    run: RunId
    always: frozenset[NodeName] = frozenset()

    @property
    def ranks(self) -> bool:
        """Whether it reads what is known of the nodes."""
        return self.selection.ranks

    def choose(
        self, able: frozenset[NodeName], number: int, known: Standings = NO_STANDINGS
    ) -> frozenset[NodeName]:
        """Choose whom a round asks.

        Round 0 decides who belongs to the run, so it asks every able node, as far as `most` allows.
        """
        fixed = able & self.always
        others, most = able - fixed, self.most - len(fixed)
        if number == 0:
            return fixed | first_by_name(others, most)
        draw = hashlib.sha256(b"selection:" + self.run.bytes + number.to_bytes(8, "big")).digest()
        return fixed | self.selection.choose(others, most, self.settings, draw, known)


def first_by_name(able: frozenset[NodeName], most: int) -> frozenset[NodeName]:
    """The first of them in the order of their names."""
    return frozenset(sorted(able)[:most])
