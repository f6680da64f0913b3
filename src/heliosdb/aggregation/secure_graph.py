"""With whom the nodes of a secure sum share their seeds, and so towards whom they mask.

What always holds: up to `neighbours.COMPLETE` nodes each shares with all of the group, and nothing is said
about it. Beyond that each node draws its holders by the operating system's generator once it has seen the
group, and tells the coordinator who they are; what it was told about others' holders it believes only by a
box that opens. Nobody but the node itself has a say in whom it draws (privacy/neighbours.py has why)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.aggregation.secure_keys import Bytes, Group, as_array
from heliosdb.domain.state import State
from heliosdb.privacy.masks import TAG_BYTES
from heliosdb.privacy.neighbours import Neighbourhood, neighbourhood
from heliosdb.privacy.sharing import SHARE_BYTES

BOX = 2 * SHARE_BYTES + TAG_BYTES
"""A share of the pairwise masks' key and one of the seed of the own mask, sealed."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Of a group of so many nodes. drawn: None where all share with all."""

    nodes: int
    drawn: Neighbourhood | None

    @classmethod
    def of(cls, nodes: int) -> Graph:
        """What so many nodes have."""
        return cls(nodes, neighbourhood(nodes))

    @property
    def holders(self) -> int:
        """How many boxes a node sends, with an empty one to itself where all share with all."""
        return self.nodes if self.drawn is None else self.drawn.drawn

    @property
    def message_bytes(self) -> int:
        """Of a node's boxes, with a bit for each node before them where it says who the holders are."""
        return self._marks + self.holders * BOX

    @property
    def _marks(self) -> int:
        return 0 if self.drawn is None else -(-self.nodes // 8)

    def needed(self, group: Group) -> int:
        """How many holders open a seed."""
        return group.threshold if self.drawn is None else self.drawn.needed

    def draw(self, place: int) -> list[int]:
        """The holders of the node at a place, ascending."""
        if self.drawn is None:
            return list(range(self.nodes))
        others = [other for other in range(self.nodes) if other != place]
        return sorted(secrets.SystemRandom().sample(others, self.drawn.drawn))

    def pack(self, holders: Sequence[int], boxes: bytes) -> Bytes:
        """A node's message: who the holders are, where it has to be said, and their boxes in order."""
        return as_array((b"" if self.drawn is None else self._marked(holders)) + boxes)

    def _marked(self, holders: Sequence[int]) -> bytes:
        marks = np.zeros(self.nodes, dtype=np.bool_)
        marks[list(holders)] = True
        return np.packbits(marks).tobytes()

    def take(
        self, places: Sequence[int], rows: Sequence[NDArray[np.generic]]
    ) -> tuple[list[int], Mapping[str, Bytes]]:
        """At the coordinator: whose messages are some, and what they say. places: of the nodes, ascending."""
        found = np.stack(rows).astype(np.uint8, copy=False)
        marks, boxes = found[:, : self._marks], found[:, self._marks :].reshape(len(rows), self.holders, BOX)
        if self.drawn is None:
            return list(places), {"boxes": boxes}
        each = np.unpackbits(marks, axis=1)
        own = each[np.arange(len(rows)), places] == 1
        sound = (each.sum(axis=1) == self.holders) & ~own & ~each[:, self.nodes :].any(axis=1)
        left = [place for place, is_sound in zip(places, sound, strict=True) if is_sound]
        return left, {"marks": marks[sound], "boxes": boxes[sound]}

    def towards(self, heard: State, place: int) -> tuple[list[int], Bytes]:
        """At the coordinator: who of the senders has sent the node at a place a box, and the boxes.

        Numbers of senders; where all share with all a node's own empty box is among them.
        """
        boxes: Bytes = heard["boxes"]
        if self.drawn is None:
            return list(range(len(boxes))), boxes[:, place]
        byte, bit = divmod(place, 8)
        givers = np.flatnonzero(heard["marks"][:, byte] >> (7 - bit) & 1)
        before = np.unpackbits(heard["marks"][givers, : byte + 1], axis=1)[:, :place].sum(axis=1)
        return givers.tolist(), boxes[givers, before]

    def held(self, heard: State) -> NDArray[np.bool_]:
        """At the coordinator: by number of sender and place, whether the place holds the sender's shares."""
        if self.drawn is None:
            return np.ones((len(heard["senders"]), self.nodes), dtype=np.bool_)
        return np.unpackbits(heard["marks"], axis=1)[:, : self.nodes].astype(np.bool_)
