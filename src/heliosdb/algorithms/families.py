"""The families of the linear models: how a target is distributed about a score that is linear in the inputs.

What always holds: every link is the canonical one of its family, so that the residual is the derivative of
the loss by the score, the weight that of the residual, and a loss is convex in the parameters. Losses are
half deviances: never negative, and 0 where the target is met. No function here overflows: a score counts up
to `LARGEST_SCORE` where it is an exponent.

Scores and targets are in units in which training is well scaled: a linear target about its mean by its
deviation, a Poisson target by its mean. `unit` is what a loss has to be multiplied by to be that of the
target as it is (but for the linear family, whose losses stay those of the scaled target).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heliosdb.algorithms.sql import Link
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Matrix, Vector

LARGEST_SCORE = 500.0

RowValues = Callable[[Vector, Vector], Vector]
"""(scores, scaled targets) → one value a row."""

Units = Callable[[Vector, Scaling], Vector]
"""Targets in the units of training, (n,) → (n,)."""


def sigmoid(scores: Vector) -> Vector:
    """Return 1 / (1 + exp(-score)), without overflow."""
    probabilities: Vector = 0.5 * (1.0 + np.tanh(0.5 * scores))
    return probabilities


def log_loss(scores: Vector, targets: Vector) -> Vector:
    """Return -log p(target), from the scores, so that no probability is rounded to 0 or 1."""
    losses: Vector = np.logaddexp(0.0, scores) - targets * scores
    return losses


def half_squared_error(scores: Vector, targets: Vector) -> Vector:
    """Return half the squared error, in units of the scaled target."""
    losses: Vector = 0.5 * np.square(scores - targets)
    return losses


def half_poisson_deviance(scores: Vector, targets: Vector) -> Vector:
    """Return exp(score) - target + target (log target - score); a target of 0 has exp(score)."""
    logs = np.log(np.where(targets > 0.0, targets, 1.0))
    losses: Vector = _exp(scores) - targets + targets * (logs - scores)
    return losses


@dataclass(frozen=True, slots=True)
class Family:
    """One score a row, under a loss; see the module.

    residuals, losses: by row. weights: of the scores alone, the derivative of the residual. units: of
    targets. unit: see the module. has_dispersion: whether the variance about the mean is estimated.
    """

    link: Link
    residuals: RowValues
    losses: RowValues
    weights: Callable[[Vector], Vector]
    units: Units = lambda target, _: target
    unit: Callable[[Scaling], float] = lambda _: 1.0
    scales_target: bool = False
    has_dispersion: bool = False


def _exp(scores: Vector) -> Vector:
    grown: Vector = np.exp(np.minimum(scores, LARGEST_SCORE))
    return grown


def _logistic_weights(scores: Vector) -> Vector:
    halves = np.tanh(0.5 * scores)
    weights: Vector = 0.25 * (1.0 - halves * halves)
    return weights


BINOMIAL = Family(
    link="logistic",
    residuals=lambda scores, targets: sigmoid(scores) - targets,
    losses=log_loss,
    weights=_logistic_weights,
)

GAUSSIAN = Family(
    link="identity",
    residuals=lambda scores, targets: scores - targets,
    losses=half_squared_error,
    weights=np.ones_like,
    units=lambda target, scaling: (target - scaling.target_mean) / scaling.target_scale,
    scales_target=True,
    has_dispersion=True,
)

POISSON = Family(
    link="exp",
    residuals=lambda scores, targets: _exp(scores) - targets,
    losses=half_poisson_deviance,
    weights=_exp,
    units=lambda target, scaling: target / scaling.target_mean,
    unit=lambda scaling: scaling.target_mean,
    scales_target=True,
)


# Several classes: class 0 has the score 0, the others one each.


def softmax(scores: Matrix) -> Matrix:
    """Return the probabilities of classes 1 … K - 1; (n, K - 1) → (n, K - 1)."""
    largest = np.maximum(scores.max(axis=1), 0.0)
    grown = np.exp(scores - largest[:, None])
    shares: Matrix = grown / (grown.sum(axis=1) + np.exp(-largest))[:, None]
    return shares


def softmax_losses(scores: Matrix, targets: Vector) -> Vector:
    """Return -log p(class); scores: (n, K - 1), targets: (n,) the classes' indices."""
    largest = np.maximum(scores.max(axis=1), 0.0)
    total = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1) + np.exp(-largest))
    chosen = np.where(targets > 0, scores[np.arange(targets.size), _places(targets)], 0.0)
    losses: Vector = total - chosen
    return losses


def softmax_residuals(scores: Matrix, targets: Vector) -> Matrix:
    """Return the derivatives of the loss by the scores; (n, K - 1)."""
    residuals = softmax(scores)
    residuals[np.arange(targets.size), _places(targets)] -= targets > 0
    return residuals


def _places(targets: Vector) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The column of each row's class; class 0, which has none, that of class 1."""
    return np.maximum(targets, 1.0).astype(np.int64) - 1
