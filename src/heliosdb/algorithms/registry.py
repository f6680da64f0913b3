"""The algorithms that are registered in heliosdb/parts, as their types.

What always holds: an algorithm's file is imported when it is first asked for.
"""

from __future__ import annotations

from typing import Protocol, cast

from heliosdb.algorithms.steps import Algorithm
from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import not_supported
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.parts.algorithms import ALGORITHMS, has_classes

BINARY_LABELS = ("0", "1")
"""Of a target whose classes nobody names."""


class Supervised(Algorithm, Protocol):
    """An algorithm that learns a target, for which round 0 counts features and target."""

    def allows(self, classes: int) -> bool:
        """Whether it can learn a target of so many classes, of a number where that is 0."""
        ...

    def check_target(self, table: Table, classes: int) -> None:
        """Raise FederatedError (22023), naming no value, where the target is of no use to this algorithm.

        classes: how many the target has; 0 where it is a number.

        Only for plain answers: under a privacy budget an error must not depend on a single subject.
        """
        ...


def algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name, whatever its case; 0A000 where it is not built."""
    return cast(Algorithm, ALGORITHMS.get(name))


def classes_of(plan: RunPlan) -> tuple[str, ...]:
    """Return the labels of the target, in the order of their classes; () where it is a number."""
    encoding, options = plan.findings.encoding, plan.run.options
    if encoding is not None:
        return encoding.classes
    return (options.target_classes or BINARY_LABELS) if has_classes(options.algorithm) else ()


def supervised(name: str) -> Supervised:
    """Return it where it is known to learn a target."""
    return cast(Supervised, ALGORITHMS.get(name))


def check_step(name: str, step: StepName) -> None:
    """Raise FederatedError NOT_SUPPORTED where an algorithm has no such step."""
    if step not in algorithm(name).steps:
        raise not_supported("the task is of a kind that this node does not know")
