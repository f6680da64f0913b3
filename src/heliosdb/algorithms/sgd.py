"""Stochastic gradient descent over rows, without privacy (with: private_sgd.py).

What always holds: the new parameters are a function of the arguments and the generator alone, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Matrix, Vector

Residual = Callable[[Vector, Vector], Vector]
"""(scores, targets) → derivative of the loss by the score, row by row."""


def derive_rng(seed: int, round: int, node: str) -> np.random.Generator:
    """Return the generator that shuffles a node's rows in a round: the same for the same arguments, for ever.

    Without the run: two runs of one seed on the same rows give the same model, bit for bit.

    Never a source of privacy noise: whoever knows the seed knows the sequence.
    """
    text = f"heliosdb training|{seed}|{round}|{node}".encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def descend(
    inputs: Matrix,
    targets: Vector,
    parameters: Vector,
    residual: Residual,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> Vector:
    """Run mini-batch SGD and return the new parameters.

    inputs: (n, k), the last column of ones; parameters: (k,). Each epoch shuffles the rows anew; a batch's
    gradient is its mean. Raises FederatedError (UF003) where the parameters cease to be finite.
    """
    current = parameters.copy()
    rows = targets.size
    # Overflow is looked for once an epoch, and is an error there.
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(epochs):
            order = rng.permutation(rows)
            x, y = inputs[order], targets[order]
            for start in range(0, rows, batch_size):
                batch = x[start : start + batch_size]
                slope = residual(batch @ current, y[start : start + batch_size])
                current -= (learning_rate / slope.size) * (slope @ batch)
            check_finite(current)
    return current


def check_finite(parameters: Vector) -> None:
    """Raise FederatedError (UF003) where training has diverged."""
    if not np.all(np.isfinite(parameters)):
        raise FederatedError(
            ErrorCode.UPDATE_REJECTED,
            "Training diverged: the parameters are no longer finite.",
            hint="Lower learning_rate.",
        )
