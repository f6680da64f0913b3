"""Stochastic gradient descent over rows (plain) and over data subjects (private: DP-SGD, Abadi et al. 2016).

What always holds: the plain path is a function of its arguments and the generator alone, bit for bit; the
private path adds noise to every sum of gradients before it touches the parameters, and what it divides by
is fixed before, never counted from the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.table import Codes, Grouping, Mask
from heliosdb.domain.task import PrivateTraining
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.privacy.clipping import clip_factors, clip_rows
from heliosdb.privacy.mechanisms import Lattice, Secret

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


def clipped_gradient_sum(
    inputs: Matrix, slopes: Vector, grouping: Grouping | None, clipping_norm: float
) -> Vector:
    """Return the sum over subjects of each one's summed gradient, clipped to L2 norm `clipping_norm`.

    inputs: (m, k); slopes: (m,), the loss's derivative by the score. grouping: rows by subject, with the
    rows in its order already; None where each row is a subject of its own (then no gradient is written
    out).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if grouping is None:
            lengths = np.sqrt(np.einsum("ij,ij->i", inputs, inputs))
            factors = clip_factors(np.abs(slopes) * lengths, clipping_norm)
            total: Vector = np.where(factors > 0, slopes * factors, 0.0) @ inputs
            return total
        summed = np.add.reduceat(slopes[:, None] * inputs, grouping.starts, axis=0)
        clipped: Vector = clip_rows(summed, clipping_norm).sum(axis=0)
        return clipped


def descend_privately(
    inputs: Matrix,
    targets: Vector,
    grouping: Grouping,
    parameters: Vector,
    residual: Residual,
    *,
    privacy: PrivateTraining,
    learning_rate: float,
    secret: Secret,
) -> Vector:
    """Run DP-SGD over subjects and return the new parameters.

    Each step takes a Poisson sample of the subjects, sums their clipped gradients, adds Gaussian noise of
    standard deviation noise_multiplier x clipping_norm a coordinate, and divides by sampling_rate x
    expected_subjects. Raises FederatedError (UF003) where the parameters cease to be finite.
    """
    if grouping.order is not None:
        inputs, targets = inputs[grouping.order], targets[grouping.order]
    lattice = Lattice.of(privacy.clipping_norm, privacy.noise_multiplier, parameters.size)
    rate = learning_rate / (privacy.sampling_rate * privacy.expected_subjects)
    current = parameters.copy()
    # One drawing for a block of steps: asking for a few numbers at a time costs more than the numbers.
    block = max(1, min(privacy.steps, 1_000_000 // parameters.size))
    for start in range(0, privacy.steps, block):
        noise = secret.noise((min(block, privacy.steps - start), parameters.size))
        for step_noise in noise:
            taken = secret.poisson_sample(grouping.subjects, privacy.sampling_rate)
            x, y, groups = _rows_of(inputs, targets, grouping, taken)
            with np.errstate(over="ignore", invalid="ignore"):
                slopes = residual(x @ current, y)
            total = clipped_gradient_sum(x, slopes, groups, privacy.clipping_norm)
            current -= rate * lattice.release(total, step_noise)
        check_finite(current)
    return current


def _rows_of(
    inputs: Matrix, targets: Vector, grouping: Grouping, taken: Mask
) -> tuple[Matrix, Vector, Grouping | None]:
    """Return the rows of the subjects that were taken, and how they group."""
    if grouping.order is None:
        return inputs[taken], targets[taken], None
    sizes: Codes = grouping.sizes[taken]
    if sizes.size == 0:
        return inputs[:0], targets[:0], None
    rows = np.repeat(taken, grouping.sizes)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
    return inputs[rows], targets[rows], Grouping(None, starts, sizes)
