"""Stochastic gradient descent over rows, without privacy (with: private_sgd.py).

What always holds: the new parameters are a function of the arguments and the generator alone, bit for bit.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.local_terms import NO_TERMS, LocalTerms
from heliosdb.algorithms.optimizers import make_optimizer, worth_of
from heliosdb.algorithms.table import Codes
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.parts.algorithms import LocalOptimizer

Residual = Callable[[Vector, Vector], Vector]
"""(scores, targets) → derivative of the loss by the score, row by row; scores: (n,), or (n, several)."""

Shrink = Callable[[Vector, float], None]
"""(parameters, learning rate): moves the parameters as a penalty does, in place."""


def derive_rng(seed: int, round: int, node: str, secret: bytes, *, exchange: int = 0) -> np.random.Generator:
    """Return the generator that shuffles a node's rows in an exchange of a round: the same for the same
    arguments, for ever.

    secret: the node's. Whoever chose the seed and knew the order as well could solve for single rows from
    the updates of many seeds. Without the run: two runs of one seed on the same rows give the same model, bit
    for bit. Never a source of privacy noise.
    """
    later = f"|{exchange}" if exchange else ""
    text = f"heliosdb training|{seed}|{round}|{node}{later}".encode()
    key = int.from_bytes(hmac.digest(secret, text, hashlib.sha256)[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


class TrainingRows(Protocol):
    """Rows that a descent goes over, in whatever order."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    def batches(self, order: Codes, ends: Sequence[tuple[int, int]]) -> Iterator[tuple[Matrix, Vector]]:
        """Yield inputs, (m, k), the last column of ones, and targets, (m,), of the rows that stand between
        each start and stop of an order."""
        ...


@dataclass(frozen=True, slots=True)
class HeldRows:
    """Rows in memory. inputs: (n, k), targets: (n,)."""

    inputs: Matrix
    targets: Vector

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.targets.size)

    def batches(self, order: Codes, ends: Sequence[tuple[int, int]]) -> Iterator[tuple[Matrix, Vector]]:
        """Gather a batch when it is its turn: it stays in the processor's cache."""
        for start, stop in ends:
            chosen = order[start:stop]
            yield self.inputs.take(chosen, axis=0), self.targets[chosen]


def descend(
    training: TrainingRows,
    parameters: Vector,
    residual: Residual,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
    optimizer: LocalOptimizer = "sgd",
    terms: LocalTerms = NO_TERMS,
    shrink: Shrink | None = None,
) -> Vector:
    """Run mini-batch SGD and return the new parameters.

    parameters: (k,), or (scores, k) where a row has several. Each
    epoch shuffles the rows anew; a batch's gradient is its mean; rows that fill no batch join the others.
    optimizer: see optimizers.py. terms: what the run's aggregation adds to the objective. shrink: what a
    penalty makes of the parameters after each step, in place. Raises FederatedError (UF003) where the
    parameters cease to be finite.
    """
    current = parameters.copy()
    rows, step, taken = training.rows, make_optimizer(optimizer, learning_rate, parameters.shape), 0
    # Overflow is looked for once an epoch, and is an error there.
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(epochs):
            order = rng.permutation(rows)
            for batch, targets in training.batches(order, list(batches(rows, batch_size))):
                slope = residual(batch @ current.T, targets)
                current -= step(slope.T @ batch, len(slope))
                taken += 1
                worth = worth_of(optimizer, learning_rate, taken)
                current = terms.apply(current, parameters, worth)
                if shrink is not None:
                    shrink(current, worth)
            check_finite(current)
    return current


def batches(rows: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield where each batch starts and stops: none is smaller than batch_size but where all rows are fewer,
    and none larger than another by more than one row.

    A last step over a few rows would weigh them like a whole batch, and say more of them than of others.
    """
    count = max(1, rows // batch_size)
    for number in range(count):
        yield number * rows // count, (number + 1) * rows // count


def check_finite(parameters: Vector) -> None:
    """Raise FederatedError (UF003) where training has diverged."""
    if not np.all(np.isfinite(parameters)):
        raise FederatedError(
            ErrorCode.UPDATE_REJECTED,
            "Training diverged: the parameters are no longer finite.",
            hint="Lower learning_rate.",
        )


def net_value(parameters: Vector, penalty: float, l1_ratio: float) -> float:
    """Return what an elastic net adds to the mean loss; of the parameters that `shrinking` shrinks."""
    weights = parameters[..., :-1]
    squares = 0.5 * (1.0 - l1_ratio) * float(np.sum(np.square(weights)))
    return penalty * (squares + l1_ratio * float(np.sum(np.abs(weights))))


def shrinking(penalty: float, l1_ratio: float) -> Shrink | None:
    """Return the proximal step of an elastic net on all but the bias, the last of a score's parameters; None
    where there is no penalty (Parikh and Boyd 2014, section 6.5.3)."""
    if penalty == 0.0:
        return None

    def shrink(parameters: Vector, learning_rate: float) -> None:
        weights = parameters[..., :-1]
        size = np.abs(weights) - learning_rate * penalty * l1_ratio
        kept = np.maximum(size, 0.0) / (1.0 + learning_rate * penalty * (1.0 - l1_ratio))
        weights[...] = np.sign(weights) * kept

    return shrink
