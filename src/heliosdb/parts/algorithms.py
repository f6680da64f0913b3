"""The algorithms by name, and the settings of their local training."""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain import bounds
from heliosdb.domain.settings import within
from heliosdb.parts.registry import Registry


@dataclass(frozen=True, slots=True)
class DescentSettings:
    """Of stochastic gradient descent over a node's rows: passes, rows a step, step size."""

    local_epochs: int = within(bounds.EPOCHS, default=1)
    batch_size: int = within(bounds.BATCH_SIZE, default=32)
    learning_rate: float = within(bounds.LEARNING_RATE, default=0.01)


ALGORITHMS = Registry("algorithm")
ALGORITHMS.register(
    "logistic_regression", "heliosdb.algorithms.linear:LOGISTIC_REGRESSION", settings=DescentSettings
)
ALGORITHMS.register(
    "linear_regression", "heliosdb.algorithms.linear:LINEAR_REGRESSION", settings=DescentSettings
)
