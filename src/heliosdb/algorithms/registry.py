"""The algorithms that are registered in heliosdb/parts, as their types.

What always holds: an algorithm's file is imported when it is first asked for.
"""

from __future__ import annotations

from typing import Protocol, cast

from heliosdb.algorithms.steps import Algorithm
from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import not_supported
from heliosdb.domain.ids import StepName
from heliosdb.parts.algorithms import ALGORITHMS


class Supervised(Algorithm, Protocol):
    """An algorithm that learns a target, for which round 0 counts features and target."""

    @property
    def scales_target(self) -> bool:
        """Whether the target is scaled like a feature (regression)."""
        ...

    def check_target(self, table: Table) -> None:
        """Raise FederatedError (22023), naming no value, where the target is of no use to this algorithm.

        Only for plain answers: under a privacy budget an error must not depend on a single subject.
        """
        ...


def algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name, whatever its case; 0A000 where it is not built."""
    return cast(Algorithm, ALGORITHMS.get(name))


def supervised(name: str) -> Supervised:
    """Return it where it is known to learn a target."""
    return cast(Supervised, ALGORITHMS.get(name))


def check_step(name: str, step: StepName) -> None:
    """Raise FederatedError NOT_SUPPORTED where an algorithm has no such step."""
    if step not in algorithm(name).steps:
        raise not_supported("the task is of a kind that this node does not know")
