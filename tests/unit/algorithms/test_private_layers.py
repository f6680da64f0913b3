"""Private training of layers is DP-SGD: its clipped gradients are those of automatic differentiation, and it learns
as a reference of PyTorch's own tensors does with the same noise, sampling and steps."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

from heliosdb.algorithms import Table
from heliosdb.algorithms.columns import scale_columns
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.neural import NEURAL_NETWORK
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.private_layers import LayeredRows
from heliosdb.algorithms.table import group_by_subject
from heliosdb.algorithms.works import PrivateTraining, TrainWork
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector
from heliosdb.privacy.mechanisms import Lattice, Secret
from heliosdb.scoring.network import forward

LOSSES = {
    "sigmoid": lambda out, target: torch.nn.functional.binary_cross_entropy_with_logits(out[0], target),
    "softmax": lambda out, target: torch.nn.functional.cross_entropy(out, target.long()),
    "linear": lambda out, target: 0.5 * (out[0] - target) ** 2,
}
ACTIVATIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": lambda values: torch.nn.functional.gelu(values, approximate="tanh"),
}


def per_row(architecture: Perceptron, parameters: Any, rows: Any, targets: Any) -> Any:
    """Each row's gradient, by automatic differentiation; (n, k)."""

    def loss(current: Any, row: Any, target: Any) -> Any:
        pairs, values = architecture.split(current), row
        for place, (weights, biases) in enumerate(pairs):
            values = weights @ values + biases
            values = values if place == len(pairs) - 1 else ACTIVATIONS[architecture.activation](values)
        return LOSSES[architecture.output](values, target)

    return torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, rows, targets)


def clipped(gradients: Any, norm: float) -> Any:
    lengths = gradients.norm(dim=1, keepdim=True)
    return gradients * torch.clamp(norm / lengths, max=1.0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("layers", "output"), [((7, 5, 1), "sigmoid"), ((6, 3), "softmax"), ((4, 4, 1), "linear")]
)
@pytest.mark.parametrize("several", [False, True])
def test_clipped_gradients_are_those_of_automatic_differentiation(
    activation: str, layers: tuple[int, ...], output: str, several: bool
) -> None:
    rng, n = np.random.default_rng(4), 60
    architecture = Perceptron(9, layers, activation, output)
    parameters = rng.normal(size=architecture.size)
    rows = rng.normal(size=(n, 9))
    targets = rng.integers(0, {"sigmoid": 2, "softmax": 3, "linear": 5}[output], size=n).astype(float)
    subjects = rng.integers(0, 25, size=n) if several else np.arange(n)
    columns = np.vstack([rows.T, np.ones((1, n))])
    for norm in (0.1, 2.0):
        lattice = Lattice.of(norm, 1.0, architecture.size)
        held = LayeredRows.of(
            architecture.shape(), columns, targets, group_by_subject(subjects),
            clipping_norm=norm, lattice=lattice,
        )  # fmt: skip
        ours = held.gradient_steps(np.ones(held.subjects, dtype=bool), parameters) * lattice.step
        each = per_row(architecture, torch.tensor(parameters), torch.tensor(rows), torch.tensor(targets))
        each = clipped(each, 4.0 * norm) if several else each
        summed = torch.stack([each[subjects == one].sum(0) for one in np.unique(subjects)])
        if several:
            single = torch.tensor([(subjects == one).sum() == 1 for one in np.unique(subjects)])
            alone = per_row(architecture, torch.tensor(parameters), torch.tensor(rows), torch.tensor(targets))
            for place, one in enumerate(np.unique(subjects)):
                if single[place]:
                    summed[place] = alone[subjects == one][0]
        theirs = clipped(summed, norm).sum(0).numpy()
        assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs) + 1e-6


def reference(
    architecture: Perceptron,
    rows: np.ndarray,
    targets: np.ndarray,
    privacy: PrivateTraining,
    *,
    rate: float,
    seed: int,
) -> Vector:
    """DP-SGD (Abadi et al. 2016, algorithm 1) in PyTorch, with floating-point noise from a seed."""
    source = torch.Generator().manual_seed(seed)
    current = torch.tensor(architecture.begin(1)["parameters"], dtype=torch.float64)
    x, y = torch.tensor(rows), torch.tensor(targets)
    for _ in range(privacy.steps):
        taken = torch.rand(len(x), generator=source) < privacy.sampling_rate
        total = clipped(per_row(architecture, current, x[taken], y[taken]), privacy.clipping_norm).sum(0)
        noise = torch.randn(total.shape, generator=source, dtype=torch.float64)
        total = total + privacy.noise_multiplier * privacy.clipping_norm * noise
        current = current - rate * total / (privacy.sampling_rate * privacy.expected_subjects)
    return np.asarray(current.numpy())


def accuracy(architecture: Perceptron, parameters: Vector, rows: np.ndarray, targets: np.ndarray) -> float:
    scores = forward(architecture.network(parameters), rows)
    told = scores.argmax(axis=1) if scores.shape[1] > 1 else scores[:, 0] > 0
    return float(np.mean(told == targets))


@pytest.mark.parametrize(
    ("data", "layers", "output", "least"),
    [(load_breast_cancer, (8, 1), "sigmoid", 0.9), (load_digits, (16, 10), "softmax", 0.75)],
)
def test_it_learns_as_a_reference_does_with_the_same_noise_sampling_and_steps(
    data: Any, layers: tuple[int, ...], output: str, least: float
) -> None:
    features, classes = data(return_X_y=True)
    rows, targets = StandardScaler().fit_transform(features), classes.astype(float)
    n, width = rows.shape
    architecture = Perceptron(width, layers, "tanh", output)
    privacy = PrivateTraining(1.5, 1.0, 0.15, 60, float(n))
    start = architecture.begin(1)["parameters"]
    table = Table.from_rows(rows, targets, np.arange(n), np.zeros(n, dtype=bool))
    work = TrainWork(
        "neural_network",
        Scaling((0.0,) * width, (1.0,) * width),
        1,
        32,
        1.0,
        privacy,
        classes=int(classes.max()) + 1,
    )
    network = NEURAL_NETWORK.of(architecture.to_state(start), width)
    ours, theirs = [], []
    for seed in range(5):
        secret = Secret(random.Random(seed).randbytes)
        moved = network.train(table, start, work, np.random.default_rng(0), secret)
        ours.append(accuracy(architecture, start + moved.vector, rows, targets))
        theirs.append(
            accuracy(
                architecture,
                reference(architecture, rows, targets, privacy, rate=1.0, seed=seed),
                rows,
                targets,
            )
        )
    spread = float(np.hypot(np.std(ours, ddof=1), np.std(theirs, ddof=1)) / np.sqrt(5))
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * spread + 0.005, (ours, theirs)
    assert min(np.mean(ours), np.mean(theirs)) > least, (ours, theirs)


def test_several_classes_of_a_linear_model_learn_under_noise() -> None:
    features, classes = load_digits(return_X_y=True)
    n, width = features.shape
    rows = StandardScaler().fit_transform(features)
    table = Table.from_rows(rows, classes.astype(float), np.arange(n), np.zeros(n, dtype=bool))
    privacy = PrivateTraining(1.5, 1.0, 0.15, 60, float(n))
    scaling = Scaling((0.0,) * width, (1.0,) * width)
    work = TrainWork("logistic_regression", scaling, 1, 32, 1.0, privacy, classes=10)
    start = np.zeros((9, width + 1))
    moved = LOGISTIC_REGRESSION.train(
        table, start, work, np.random.default_rng(0), Secret(random.Random(1).randbytes)
    )
    scores = moved.vector.reshape(start.shape) @ scale_columns(rows, scaling)
    told = np.vstack([np.zeros(n), scores]).argmax(axis=0)
    assert np.mean(told == classes) > 0.8
