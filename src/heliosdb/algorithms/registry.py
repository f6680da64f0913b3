"""The algorithms by name: a Protocol and a registry that refuses silent overwriting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.table import Table
from heliosdb.domain.task import EvaluateWork, Scaling, TrainWork
from heliosdb.domain.vector import Contribution, Vector
from heliosdb.privacy.mechanisms import Secret

if TYPE_CHECKING:
    from heliosdb.algorithms.sql import LinearPrediction


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Loss and accuracy on held-out data, over all nodes; None where there was nothing to measure them by.

    loss: mean per row (per subject where private), in the units of training. accuracy: share of rows
    classified right; for regression R². count: rows, or where private a noisy count of subjects.
    """

    loss: float | None
    accuracy: float | None
    count: float


class Algorithm(Protocol):
    """What a node computes and how the coordinator reads it."""

    @property
    def name(self) -> str:
        """The name in the language."""
        ...

    @property
    def scales_target(self) -> bool:
        """Whether the target is scaled like a feature (regression)."""
        ...

    def initial_parameters(self, n_features: int) -> Vector:
        """Return the parameters of round 1."""
        ...

    def check_target(self, table: Table) -> None:
        """Raise FederatedError (22023), naming no value, where the target is of no use to this algorithm.

        Only for plain answers: under a privacy budget an error must not depend on a single subject.
        """
        ...

    def train(
        self,
        table: Table,
        parameters: Vector,
        work: TrainWork,
        rng: np.random.Generator,
        secret: Secret | None = None,
    ) -> Contribution:
        """Train on the rows that are not held out; the vector is the difference of the parameters."""
        ...

    def evaluate(self, table: Table, parameters: Vector, work: EvaluateWork) -> Contribution:
        """Measure the parameters on the held-out rows, as sums."""
        ...

    def read_evaluation(self, total: Vector, work: EvaluateWork) -> Evaluation:
        """Read the sum of all nodes' evaluations."""
        ...

    def make_prediction(self, scaling: Scaling, parameters: Vector) -> LinearPrediction:
        """Return the prediction from raw features as numbers."""
        ...


_ALGORITHMS: dict[str, Algorithm] = {}


def register(algorithm: Algorithm) -> None:
    """Add an algorithm; a name that is taken is a programming error."""
    if algorithm.name in _ALGORITHMS:
        raise ValueError(f"the algorithm {algorithm.name!r} is registered already")
    _ALGORITHMS[algorithm.name] = algorithm


def names() -> tuple[str, ...]:
    """Return the registered names, sorted."""
    return tuple(sorted(_ALGORITHMS))


def algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name, whatever its case; 0A000 where it is not built."""
    found = _ALGORITHMS.get(name.lower())
    if found is None:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            f'The algorithm "{name}" is not supported.',
            hint=f"Available: {', '.join(names())}.",
        )
    return found
