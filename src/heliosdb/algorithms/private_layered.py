"""Private training and scores of models that are layers: networks, and linear models of several classes.

What always holds: what private_layers.py and private_sgd.py keep; both share everything with linear models of
one score but how a gradient is found. PyTorch has no part in it: its kernels do not say in which order they
add.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heliosdb.algorithms.column_losses import softmax_column_slopes
from heliosdb.algorithms.columns import clamp_parameters, private_targets, scale_columns
from heliosdb.algorithms.families import RowValues, sigmoid
from heliosdb.algorithms.private_layers import LayeredRows, Layers, Passing, Shape, Slopes, scores_of
from heliosdb.algorithms.private_measuring import RowScores
from heliosdb.algorithms.private_sgd import descend_over
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.works import PrivateTraining, TrainWork
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AlreadyPrivate, Contribution, Matrix, Vector
from heliosdb.privacy.mechanisms import Integers, Lattice, Secret


def join_layers(layers: Sequence[Integers]) -> Integers:
    """Put what lies in the places of layers' weights and biases, (units, inputs + 1), into the order of a
    network's parameters."""
    return np.concatenate([part for one in layers for part in (one[:, :-1].ravel(), one[:, -1])])


def output_slopes(output: str) -> Slopes:
    """Return the derivatives of the loss that goes with an output."""
    return _OUTPUT_SLOPES[output]


def classes_shape(classes: int, inputs: int) -> Shape:
    """Return what it is to know of a linear model of K > 2 classes: parameters (K - 1, inputs + 1)."""
    return Shape(
        _slopes_beside_first,
        lambda parameters: Layers([parameters.reshape(classes - 1, inputs + 1)], "relu"),
        lambda layers: layers[0].ravel(),
    )


def scores_shape(residual: RowValues) -> Shape:
    """Return what it is to know of a linear model of one score. residual: the loss's derivative by it."""
    return Shape(
        lambda scores, targets: residual(scores[0], targets)[None],
        lambda parameters: Layers([parameters[None]], "relu"),
        lambda layers: layers[0].ravel(),
    )


def beside_first(scores: Matrix) -> Matrix:
    """Put the score 0 of class 0 over those of the others; (K - 1, n) → (K, n)."""
    return np.concatenate([np.zeros((1, scores.shape[1])), scores])


def _slopes_beside_first(scores: Matrix, targets: Vector) -> Matrix:
    return softmax_column_slopes(beside_first(scores), targets)[1:]


_OUTPUT_SLOPES: dict[str, Slopes] = {
    "softmax": softmax_column_slopes,
    "sigmoid": lambda scores, targets: sigmoid(scores) - targets,
    "linear": lambda scores, targets: scores - targets,
}


def layered_rows(
    shape: Shape,
    rows: Table,
    scaling: Scaling,
    classes: int,
    *,
    clipping_norm: float,
    lattice: Lattice | None = None,
) -> LayeredRows:
    """Scale rows and put each subject's together. lattice: None where no gradient is to be released."""
    return LayeredRows.of(
        shape,
        scale_columns(rows.features, scaling, rows.space),
        private_targets(rows.target, scaling, classes),
        group_by_subject(rows.subjects),
        clipping_norm=clipping_norm,
        lattice=lattice,
    )


def train_layers(
    shape: Shape,
    rows: Table,
    parameters: Vector,
    *,
    work: TrainWork,
    privacy: PrivateTraining,
    secret: Secret,
) -> Contribution:
    """Run DP-SGD from the parameters, (k,); see `descend_privately`. rows: those that are not held out."""
    lattice = Lattice.of(privacy.clipping_norm, privacy.noise_multiplier, parameters.size)
    norm = privacy.clipping_norm
    held = layered_rows(shape, rows, work.scaling, work.classes, clipping_norm=norm, lattice=lattice)
    moved = descend_over(
        held.subjects,
        held.gradient_steps,
        parameters,
        privacy=privacy,
        learning_rate=work.learning_rate,
        secret=secret,
        optimizer=work.optimizer,
        terms=work.terms,
    )
    guard = AlreadyPrivate(privacy.mechanism)
    return Contribution(moved - parameters, privacy.expected_subjects, guard)


def layered_scores(passing: Passing, scaling: Scaling, *, is_reduced: bool = False) -> RowScores:
    """Return what scores rows by layers.

    passing: with of two classes one last unit, of more one each, or where is_reduced for each but the first.
    """

    def scores_of_rows(features: Matrix) -> Matrix:
        scores = scores_of(passing, scale_columns(features, scaling))
        scores = beside_first(scores) if is_reduced else scores
        return scores.T if len(scores) > 1 else scores[0]

    return scores_of_rows


def clamped_layers(weights: Sequence[Matrix], activation: str) -> Layers:
    """Return layers of weights that are cut to `PARAMETER`."""
    return Layers([clamp_parameters(one) for one in weights], activation)
