"""How an exchange's sum comes about: what a sum protocol is, and the plain one.

What always holds: a protocol expands one step into as many messages as it has stages, of which exactly one
carries
the step's vector; the other messages are made without it, and so without a row. What the coordinator has
heard and what a node keeps between two messages are arrays, kept sealed by each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import State
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import AnyVector, Dtype, Vector


@dataclass(frozen=True, slots=True)
class Stage:
    """One message of a protocol; carries: whether the step's vector is in it."""

    name: str
    carries: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """How many values of which type an answer has."""

    size: int
    dtype: Dtype


class SumProtocol(Protocol):
    """A protocol of one or more messages that leads to a sum of the nodes' vectors.

    The vector that it sums is the step's: where the step's answers are weighted, (weight x values…, weight).
    """

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def stages(self) -> Sequence[Stage]:
        """Its messages in order."""
        ...

    def shape(self, stage: str, size: int, nodes: int) -> Shape:
        """The shape of a stage's answer for a sum of `size` values over a cohort of `nodes`."""
        ...

    def ask(self, stage: str, node: NodeName, heard: State) -> bytes:
        """Coordinator: what the node is told with the stage's task."""
        ...

    def take(self, stage: str, heard: State, answers: Mapping[NodeName, AnyVector]) -> State:
        """Coordinator: what is known after a stage; independent of the answers' order."""
        ...

    def total(self, heard: State) -> Vector:
        """Coordinator: the sum, after the last stage."""
        ...

    def answer(
        self, stage: str, key: TaskKey, note: bytes, vector: Vector | None, memory: State
    ) -> tuple[AnyVector, State]:
        """Node: the stage's answer, and what to keep until the next. vector: in the stage that carries one.

        key: of the task, to which secrets are bound.
        """
        ...
