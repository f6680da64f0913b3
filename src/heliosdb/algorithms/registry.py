"""The algorithms that are registered in heliosdb/parts, as their types.

What always holds: an algorithm's file is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, cast

from heliosdb.algorithms.steps import Algorithm
from heliosdb.algorithms.table import Table
from heliosdb.domain.classes import BINARY_LABELS
from heliosdb.domain.errors import not_supported
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import State
from heliosdb.domain.vector import Dtype
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import ALGORITHMS, has_classes


class Supervised(Algorithm, Protocol):
    """An algorithm that learns a target, for which round 0 counts features and target."""

    @property
    def dtype(self) -> Dtype:
        """Of the parameters, and of what a node answers how far they moved."""
        ...

    def of(self, state: State, inputs: int) -> Supervised:
        """Return it as it computes with a state, which `check_state` took: in the form that this one says."""
        ...

    def check_state(self, state: State, inputs: int, classes: int) -> None:
        """Raise FederatedError (22023) where a state is none of its models', or has a number out of bounds.

        inputs: how many. classes: of the target, 0 where it is a number.
        """
        ...

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
    return (options.target_classes or BINARY_LABELS) if learns_classes(plan) else ()


def learns_classes(plan: RunPlan) -> bool:
    """Whether the run's target has classes, known or not."""
    options = plan.run.options
    return has_classes(options.algorithm, options.given) and not plan.findings.number_target


def check_classes(name: str, classes: Sequence[str]) -> None:
    """Raise FederatedError NOT_SUPPORTED where an algorithm cannot learn a target of these classes."""
    if classes and not supervised(name).allows(len(classes)):
        shown = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
        number = counted(len(classes), "class", "classes")
        raise not_supported(f"{name} of a target of {number} ({shown}) is not supported yet")


def coding_of(name: str) -> Literal["indicators", "index"]:
    """Return what an algorithm makes of a category: an indicator of each level but the first, or, where it
    has an attribute `coding` that says "index" (as trees do), the level's index."""
    return cast(Literal["indicators", "index"], getattr(algorithm(name), "coding", "indicators"))


def supervised(name: str) -> Supervised:
    """Return it where it is known to learn a target."""
    return cast(Supervised, ALGORITHMS.get(name))


def check_step(name: str, step: StepName) -> None:
    """Raise FederatedError NOT_SUPPORTED where an algorithm has no such step."""
    if step not in algorithm(name).steps:
        raise not_supported("the task is of a kind that this node does not know")
