"""Who of the able nodes takes part in a round: what a selection is, and one that is bound to a run.

What always holds: whom a round asks follows from the run, the round and who is able: it is the same in every
life of a coordinator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

from heliosdb.domain.ids import NodeName, RunId


class Selection(Protocol):
    """A rule by which nodes are chosen: pure, and equal to others of its kind."""

    def choose(self, able: frozenset[NodeName], most: int, settings: Any, draw: bytes) -> frozenset[NodeName]:
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

    def choose(self, able: frozenset[NodeName], number: int) -> frozenset[NodeName]:
        """Choose whom a round asks.

        Round 0 decides who belongs to the run, so it asks every able node, as far as `most` allows.
        """
        fixed = able & self.always
        others, most = able - fixed, self.most - len(fixed)
        if number == 0:
            return fixed | first_by_name(others, most)
        draw = hashlib.sha256(b"selection:" + self.run.bytes + number.to_bytes(8, "big")).digest()
        return fixed | self.selection.choose(others, most, self.settings, draw)


def first_by_name(able: frozenset[NodeName], most: int) -> frozenset[NodeName]:
    """The first of them in the order of their names."""
    return frozenset(sorted(able)[:most])
