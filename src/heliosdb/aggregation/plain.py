"""The plain sum protocol: one message, which carries the vector as it is.

What always holds: it is open, so an exchange under it is gathered update by update where a strategy or a sum
gathers (aggregation/sums.py says how); nothing is kept at a node, and a note says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from heliosdb.aggregation.summation import ExactSum
from heliosdb.aggregation.sums import Prepared, Shape, Signatory, Stage
from heliosdb.aggregation.updates import rejected
from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import TaskKey
from heliosdb.domain.vector import AnyVector, Dtype, Vector


class PlainSum:
    """Vectors are sent, and added up."""

    name = "plain"
    is_open = True
    stages: Sequence[Stage] = (Stage("vector", carries=True),)

    def with_settings(self, settings: Any) -> PlainSum:
        """It has none."""
        return self

    def largest(self, size: int, nodes: int) -> float:
        """Any."""
        return np.inf

    def shape(self, stage: str, size: int, nodes: int) -> Shape:
        """That of the vector."""
        return Shape(size, Dtype.FLOAT64)

    def ask(self, stage: str, node: NodeName, heard: State) -> bytes:
        """Nothing is to be said."""
        return b""

    def take(self, stage: str, size: int, heard: State, answers: Mapping[NodeName, AnyVector]) -> State:
        """The sum, the same to the bit in any order; UF003 for no answer, different lengths, or no sum."""
        sizes = {vector.size for vector in answers.values()}
        if len(sizes) != 1:
            raise rejected("There is no update to add up." if not sizes else "The updates differ in length.")
        total = ExactSum(sizes.pop())
        for vector in answers.values():
            total.add(vector)
        found = total.total()
        if not np.isfinite(found).all():
            raise rejected("The updates' sum is larger than the largest number.")
        return make_state(sum=found)

    def total(self, size: int, heard: State) -> Vector:
        """The sum that `take` made."""
        found: Vector = heard["sum"]
        return found

    def answer(
        self, stage: str, key: TaskKey, note: bytes, memory: State, *, site: Signatory
    ) -> tuple[AnyVector, State]:
        """There is none without a vector."""
        raise invalid_value("a plain sum takes one message, with the vector")

    def prepare(self, key: TaskKey, note: bytes, size: int, memory: State, *, site: Signatory) -> Prepared:
        """The vector itself."""
        if note:
            raise invalid_value("a plain sum takes no note")
        return Prepared(lambda vector: vector, NO_STATE)


PLAIN = PlainSum()
