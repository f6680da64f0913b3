"""The algorithms by name, and the settings of their local training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from heliosdb.domain import bounds
from heliosdb.domain.errors import not_supported
from heliosdb.domain.settings import option_names, within
from heliosdb.parts.registry import Registry

LocalOptimizer = Literal["sgd", "momentum", "adam"]


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """How a local step follows from its gradient, see algorithms/optimizers.py."""

    optimizer: LocalOptimizer = "sgd"


@dataclass(frozen=True, slots=True)
class DescentSettings:
    """Of stochastic gradient descent over a node's rows: passes, rows a step, step size."""

    local_epochs: int = within(bounds.EPOCHS, default=1)
    batch_size: int = within(bounds.BATCH_SIZE, default=32)
    learning_rate: float = within(bounds.LEARNING_RATE, default=0.01)


@dataclass(frozen=True, slots=True)
class RegressorSettings(DescentSettings):
    """Of one that learns a number."""

    optimizer: LocalOptimizer = "sgd"


@dataclass(frozen=True, slots=True)
class ClassifierSettings(RegressorSettings):
    """Of one that learns two classes: their labels, where the target is not true or false, or 0 or 1."""

    target_classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class NetworkSettings(ClassifierSettings):
    """Of a neural network: units of its layers, and what is made of their sums. See parts/networks.py.

    output_activation: sigmoid for two classes, softmax for two or more, linear for a number.
    """

    extra: ClassVar[str | None] = "neural"
    has_private_form: ClassVar[bool] = False

    layers: tuple[int, ...] = within(bounds.UNITS, default=(64, 32, 1))
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = "relu"
    output_activation: Literal["sigmoid", "softmax", "linear"] = "sigmoid"


ALGORITHMS = Registry("algorithm")
ALGORITHMS.register(
    "logistic_regression", "heliosdb.algorithms.linear:LOGISTIC_REGRESSION", settings=ClassifierSettings
)
ALGORITHMS.register(
    "linear_regression", "heliosdb.algorithms.linear:LINEAR_REGRESSION", settings=RegressorSettings
)
ALGORITHMS.register(
    "neural_network",
    "heliosdb.algorithms.neural:NEURAL_NETWORK",
    settings=NetworkSettings,
)


def has_classes(algorithm: str, given: Mapping[str, object]) -> bool:
    """Whether what it learns with these options is which class a row has; NOT_SUPPORTED for no algorithm.

    One that has an output_activation learns a number where that is linear.
    """
    names = option_names(ALGORITHMS.entry(algorithm).settings)
    is_linear = "output_activation" in names and given.get("output_activation") == "linear"
    return "target_classes" in names and not is_linear


def check_private(algorithm: str) -> None:
    """Raise FederatedError NOT_SUPPORTED for one that cannot be had under a privacy budget."""
    entry = ALGORITHMS.entry(algorithm)
    if not getattr(entry.settings, "has_private_form", True):
        raise not_supported(f"{entry.name} is not supported under a privacy_budget yet")


def extra_of(algorithm: str) -> str | None:
    """Return what a node must have installed beside the product to compute it, see parts/extras.py."""
    found: str | None = getattr(ALGORITHMS.entry(algorithm).settings, "extra", None)
    return found
