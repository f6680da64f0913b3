"""The algorithms by name, and the settings of their local training."""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain import bounds
from heliosdb.domain.settings import option_names, within
from heliosdb.parts.registry import Registry


@dataclass(frozen=True, slots=True)
class DescentSettings:
    """Of stochastic gradient descent over a node's rows: passes, rows a step, step size."""

    local_epochs: int = within(bounds.EPOCHS, default=1)
    batch_size: int = within(bounds.BATCH_SIZE, default=32)
    learning_rate: float = within(bounds.LEARNING_RATE, default=0.01)


@dataclass(frozen=True, slots=True)
class ClassifierSettings(DescentSettings):
    """Of one that learns two classes: their labels, where the target is not true or false, or 0 or 1."""

    target_classes: tuple[str, ...] | None = None


ALGORITHMS = Registry("algorithm")
ALGORITHMS.register(
    "logistic_regression", "heliosdb.algorithms.linear:LOGISTIC_REGRESSION", settings=ClassifierSettings
)
ALGORITHMS.register(
    "linear_regression", "heliosdb.algorithms.linear:LINEAR_REGRESSION", settings=DescentSettings
)


def has_classes(algorithm: str) -> bool:
    """Whether what it learns is which of two classes a row has; NOT_SUPPORTED where it is not built."""
    return "target_classes" in option_names(ALGORITHMS.entry(algorithm).settings)
