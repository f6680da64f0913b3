"""A secure sum played by hand, message by message, so that a test can be any of its parties and lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from heliosdb.aggregation.secure_sum import SecureSum
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.state import NO_STATE, State, freeze, state_from_bytes, state_to_bytes
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import AnyVector, Vector
from heliosdb.parts.protocols import ShamirSettings
from heliosdb.privacy.masks import Masks
from heliosdb.privacy.ring import Words
from tests.support.sums import Site, spoken

STAGES = ("keys", "shares", "masked", "consistency", "unmask")


@dataclass
class Play:
    """One secure sum. vectors: by node. round: its round. sites: who each node is, and whom it knows.

    heard: what the coordinator knows. memories: what each node keeps. said: every answer, by stage.
    """

    vectors: Mapping[NodeName, Vector]
    round: int = 1
    threshold: int | None = None
    sites: Mapping[NodeName, Site] = field(default_factory=dict)
    heard: State = field(default_factory=lambda: NO_STATE)
    memories: dict[NodeName, State] = field(default_factory=dict)
    said: dict[str, dict[NodeName, AnyVector]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.protocol = SecureSum(ShamirSettings(self.threshold))
        self.size = next(iter(self.vectors.values())).size

    @property
    def nodes(self) -> list[NodeName]:
        """All nodes."""
        return sorted(self.vectors)

    def place(self, node: NodeName) -> int:
        """At which place of the group a node is."""
        return self.heard["names"].tobytes().decode().split("\n").index(node)

    def note(self, stage: str, node: NodeName) -> bytes:
        """What an honest coordinator tells a node."""
        return self.protocol.ask(stage, node, self.heard)

    def answer(
        self, stage: str, node: NodeName, note: bytes | None = None, **changed: np.ndarray
    ) -> AnyVector:
        """What a node answers. note: what it is told, None: the honest one. changed: arrays of it in place
        of the honest ones."""
        note = self.note(stage, node) if note is None else note
        if changed:
            note = state_to_bytes(freeze({**state_from_bytes(note), **changed}))
        key = TaskKey(
            WorkspaceName("w"),
            RunId(UUID(int=9)),
            RoundNumber(self.round),
            len(STAGES) + STAGES.index(stage),
            StepName("train"),
            node,
        )
        vector = self.vectors[node] if stage == "masked" else None
        site = self.sites.get(node) or Site(node)
        memory = self.memories.get(node, NO_STATE)
        answer, kept = spoken(self.protocol, stage, key, note, vector, memory, site=site)
        self.memories[node] = state_from_bytes(state_to_bytes(kept))
        return answer

    def stage(
        self,
        stage: str,
        nodes: Collection[NodeName],
        lie: Callable[[NodeName, AnyVector], AnyVector] = lambda _, answer: answer,
    ) -> None:
        """Have these nodes answer, and the coordinator take it. lie: what becomes of an answer on its way."""
        self.said[stage] = {node: lie(node, self.answer(stage, node)) for node in sorted(nodes)}
        self.heard = self.protocol.take(stage, self.size, self.heard, self.said[stage])

    def until(self, last: str, nodes: Collection[NodeName] | None = None) -> Play:
        """Play all stages up to `last`, that included, with these nodes, or all."""
        for stage in STAGES[: STAGES.index(last) + 1]:
            self.stage(stage, self.nodes if nodes is None else nodes)
        return self

    def total(self) -> Vector:
        """The sum, as the coordinator opens it."""
        return self.protocol.total(self.size, self.heard)


def vectors(count: int, size: int = 20, seed: int = 1) -> dict[NodeName, Vector]:
    """As many nodes, each with a vector of its own."""
    rng = np.random.default_rng(seed)
    return {NodeName(f"node_{number}"): rng.normal(size=size) * 100 for number in range(count)}


def mask(seed: bytes, words: int) -> Words:
    """The mask of a seed, by itself."""
    masks = Masks(words, 1)
    masks.add(seed)
    return masks.total()
