"""The algorithms by name, and the settings of their local training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


@dataclass(frozen=True, slots=True)
class NetSettings:
    """Of an elastic net on the coefficients of scaled inputs; see algorithms/newton_solver.py."""

    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)


@dataclass(frozen=True, slots=True)
class RegressionSettings(DescentSettings):
    """Of a model that is linear up to its link: which way it is estimated, and an elastic net.

    optimizer newton: by steps on the summed derivatives of all nodes' rows, of which passes, batches and
    step size are none. penalty, l1_ratio: as of `NetSettings`. weights, offset: columns, for newton alone.
    """

    optimizer: Literal["sgd", "newton"] = "sgd"
    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)
    weights: str | None = None
    offset: str | None = None


@dataclass(frozen=True, slots=True)
class LogisticSettings(RegressionSettings):
    """Of one that learns classes: their labels, where the target is not true or false, or 0 or 1."""

    target_classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CoxSettings:
    """Of a Cox regression: the column that says whether a time ended with the event, and an elastic net.

    optimizer: newton alone is one; descent is refused when the run is prepared.
    """

    event: str | None = None
    optimizer: Literal["sgd", "newton"] = "sgd"
    penalty: float = within(bounds.PENALTY, default=0.0)
    l1_ratio: float = within(bounds.Bounds(0.0, 1.0), default=0.0)


ALGORITHMS = Registry("algorithm")
ALGORITHMS.register(
    "logistic_regression", "heliosdb.algorithms.linear:LOGISTIC_REGRESSION", settings=LogisticSettings
)
ALGORITHMS.register(
    "linear_regression", "heliosdb.algorithms.linear:LINEAR_REGRESSION", settings=RegressionSettings
)
ALGORITHMS.register(
    "poisson_regression", "heliosdb.algorithms.linear:POISSON_REGRESSION", settings=RegressionSettings
)
ALGORITHMS.register("cox_regression", "heliosdb.algorithms.cox:COX_REGRESSION", settings=CoxSettings)

NO_PRIVATE_FORM = frozenset({"poisson_regression", "cox_regression"})
"""Those that are refused under a privacy budget."""


def roles_of(algorithm: str, given: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the columns that an algorithm reads beside features and target: (role, column), by the roles of
    domain/task.py, which are options of the same name. NOT_SUPPORTED for an algorithm that there is not."""
    read = option_names(ALGORITHMS.entry(algorithm).settings)
    return tuple(
        (role, given[role]) for role in ("weights", "offset", "event") if role in read and given.get(role)
    )


def by_newton(algorithm: str, given: Mapping[str, Any]) -> bool:
    """Whether a run takes Newton steps: it then ends by itself, and its last round is the result."""
    settings = ALGORITHMS.entry(algorithm).settings
    return "optimizer" in option_names(settings) and given.get("optimizer") == "newton"


def has_classes(algorithm: str) -> bool:
    """Whether what it learns is which of two classes a row has; NOT_SUPPORTED where it is not built."""
    return "target_classes" in option_names(ALGORITHMS.entry(algorithm).settings)
