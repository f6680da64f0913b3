"""How good convolutional networks are beside pooled ones in plain PyTorch: ten nodes, rows dealt at random and by class.

The nodes are rows in one process: what they compute and what is averaged is the product's code, without
databases and daemons. ARGS: --private for DP-SGD at ε = 4 and 8 beside the same in PyTorch, with the same noise
multiplier; --synthetic for 3,000 images of 28 x 28 instead of the digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, publish
from heliosdb.algorithms.convolution import Convolution
from heliosdb.algorithms.network_training import Descent, load_torch, train_network
from heliosdb.algorithms.private_layered import train_layers
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import PARAMETERS, PrivateTraining, TrainWork
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.task import Scaling
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.privacy.accountant import Accountant
from heliosdb.privacy.mechanisms import Secret

Rows = NDArray[np.float64]

_NODES, _ROUNDS, _LOCAL_EPOCHS, _BATCH, _RATE = 10, 35, 5, 24, 0.03
_POOLED_EPOCHS, _POOLED_BATCH, _SEEDS = 60, 64, 3
_PRIVATE_STEPS, _PRIVATE_BATCH, _NORM, _DELTA = 200, 256, 1.0, 1e-5


@dataclass(frozen=True, slots=True)
class Images:
    """name; sides of the square images; rows, scaled, of the training and of the test, and their classes."""

    name: str
    side: int
    rows: Rows
    classes: Rows
    test: Rows
    truth: Rows

    @property
    def network(self) -> Convolution:
        """A network of the default blocks."""
        settings = ConvolutionSettings(
            input_shape=(1, self.side, self.side), layers=(10,), output_activation="softmax"
        )
        return Convolution.of(self.side**2, settings)

    def accuracy(self, parameters: Any) -> float:
        """Of the test's rows."""
        told = self.network.sums(np.asarray(parameters, dtype=np.float64), self.test).argmax(axis=1)
        return float(np.mean(told == self.truth))


def load_digits() -> Images:
    """scikit-learn's 1,797 images of 8 x 8; a fifth is the test."""
    from sklearn.datasets import load_digits as load

    rows, classes = load(return_X_y=True)
    return _split("digits", 8, rows, classes)


def draw_shapes() -> Images:
    """3,000 images of 28 x 28 of ten classes: a pattern of strokes each, moved, and noise."""
    rng = np.random.default_rng(11)
    patterns = np.zeros((10, 28, 28))
    for pattern in patterns:
        for _ in range(4):
            row, column, length = rng.integers(6, 18, 3)
            if rng.random() < 0.5:
                pattern[row : row + 2, column : column + length] = 1.0
            else:
                pattern[row : row + length, column : column + 2] = 1.0
    classes = rng.integers(0, 10, 3000)
    moves = rng.integers(-3, 4, (3000, 2))
    moved = [np.roll(patterns[one], tuple(by), (0, 1)) for one, by in zip(classes, moves, strict=True)]
    rows = np.array(moved) + rng.normal(0.0, 0.7, (3000, 28, 28))
    return _split("28 x 28", 28, rows.reshape(3000, -1), classes)


def _split(name: str, side: int, rows: Rows, classes: Rows) -> Images:
    order = np.random.default_rng(0).permutation(len(rows))
    held, kept = order[: len(rows) // 5], order[len(rows) // 5 :]
    scaled = (rows - rows[kept].mean()) / rows[kept].std()
    truth = classes.astype(np.float64)
    return Images(name, side, scaled[kept], truth[kept], scaled[held], truth[held])


def federated(images: Images, deal: str) -> float:
    """Train by ten nodes whose parameters are averaged."""
    network = images.network
    order = np.random.default_rng(1).permutation(len(images.rows))
    if deal == "by class":
        order = np.argsort(images.classes, kind="stable")
    parts = np.array_split(order, _NODES)
    # Nodes that have one class each pull far apart: they are averaged after each epoch.
    local, rounds = (1, 60) if deal == "by class" else (_LOCAL_EPOCHS, _ROUNDS)
    optimizer, rate = ("sgd", 0.1) if deal == "by class" else ("momentum", _RATE)
    descent = Descent(local, _BATCH, optimizer, rate)  # type: ignore[arg-type]
    current = network.begin(7)[PARAMETERS]
    for number in range(rounds):
        moved = [
            train_network(
                network, current, images.rows[part].astype(np.float32), images.classes[part],
                descent=descent, rng=np.random.default_rng((number, place)),
            )
            for place, part in enumerate(parts)
        ]  # fmt: skip
        weights = [len(part) for part in parts]
        current = np.average(moved, axis=0, weights=weights).astype(np.float32)
    return images.accuracy(current)


def _module(torch: Any, images: Images, seed: int = 0) -> Any:
    """The same network, written by somebody else."""
    nn, side = torch.nn, images.side // 4
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Unflatten(1, (1, images.side, images.side)),
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * side * side, 10),
    )  # fmt: skip


def _judge(torch: Any, module: Any, images: Images) -> float:
    with torch.no_grad():
        told = module(torch.tensor(images.test, dtype=torch.float32)).argmax(dim=1).numpy()
    return float(np.mean(told == images.truth))


def pooled(images: Images, seed: int) -> float:
    """Train PyTorch's own layers on all rows."""
    torch, _ = load_torch()
    module = _module(torch, images, seed)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.003)
    rows = torch.tensor(images.rows, dtype=torch.float32)
    classes = torch.tensor(images.classes, dtype=torch.int64)
    for _ in range(_POOLED_EPOCHS):
        for chosen in torch.randperm(len(rows)).split(_POOLED_BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(rows[chosen]), classes[chosen]).backward()
            optimizer.step()
    return _judge(torch, module, images)


def _noise_for(epsilon: float, rate: float) -> float:
    """The least noise multiplier by which all steps cost no more."""
    low, high = 0.3, 50.0
    for _ in range(30):
        middle = (low * high) ** 0.5
        spent = Accountant(_DELTA).epsilon(Mechanism(middle, rate, _PRIVATE_STEPS))
        low, high = (low, middle) if spent <= epsilon else (middle, high)
    return high


def private(images: Images, epsilon: float) -> tuple[float, float]:
    """Train on all rows by DP-SGD, by this product and by per-sample gradients of PyTorch; accuracies."""
    rate = _PRIVATE_BATCH / len(images.rows)
    noise = _noise_for(epsilon, rate)
    network, inputs = images.network, images.side**2
    privacy = PrivateTraining(noise, _NORM, rate, _PRIVATE_STEPS, float(len(images.rows)))
    scaling = Scaling((0.0,) * inputs, (1.0,) * inputs)
    work = TrainWork("cnn", scaling, 1, _PRIVATE_BATCH, 1.0, privacy, classes=10)
    table = Table.from_rows(
        images.rows, images.classes, np.arange(len(images.rows)), np.zeros(len(images.rows), dtype=bool)
    )
    start = network.begin(7)[PARAMETERS].astype(np.float64)
    made = train_layers(network.shape(), table, start, work=work, privacy=privacy, secret=Secret())
    return images.accuracy(start + made.vector), _private_by_torch(images, noise, rate)


def _private_by_torch(images: Images, noise: float, rate: float) -> float:
    torch, _ = load_torch()
    module = _module(torch, images)
    names = dict(module.named_parameters())
    rows = torch.tensor(images.rows, dtype=torch.float32)
    classes = torch.tensor(images.classes, dtype=torch.int64)

    def loss(parameters: Any, row: Any, target: Any) -> Any:
        scores = torch.func.functional_call(module, parameters, (row[None],))
        return torch.nn.functional.cross_entropy(scores, target[None])

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    for _ in range(_PRIVATE_STEPS):
        taken = torch.rand(len(rows)) < rate
        detached = {name: one.detach() for name, one in names.items()}
        found = each(detached, rows[taken], classes[taken])
        squares = sum((one.reshape(len(one), -1) ** 2).sum(dim=1) for one in found.values())
        factors = (_NORM / squares.sqrt()).clamp(max=1.0)
        with torch.no_grad():
            for name, one in names.items():
                total = torch.tensordot(factors, found[name], dims=1)
                total = total + noise * _NORM * torch.randn_like(total)
                one.sub_(total / (rate * len(rows)))
    return _judge(torch, module, images)


def figures(images: Images, *, is_private: bool) -> Iterator[Figure]:
    """Compare on one set of images."""
    if is_private:
        for epsilon in (4.0, 8.0):
            ours, peer = private(images, epsilon)
            yield Figure(f"{images.name}, epsilon {epsilon:g}", ours, "acc.")
            yield Figure(f"{images.name}, epsilon {epsilon:g}, PyTorch", peer, "acc.")
        return
    found = [pooled(images, seed) for seed in range(_SEEDS)]
    yield Figure(f"{images.name}, pooled PyTorch, mean of {_SEEDS} seeds", float(np.mean(found)), "acc.")
    yield Figure(f"{images.name}, pooled PyTorch, lowest", min(found), "acc.")
    for deal in ("iid", "by class"):
        yield Figure(f"{images.name}, {_NODES} nodes, {deal}", federated(images, deal), "acc.")


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--private", action="store_true")
    parser.add_argument("--synthetic", action="store_true")
    given = parser.parse_args()
    images = draw_shapes() if given.synthetic else load_digits()
    name = "images_28" if given.synthetic else "images"
    found = list(figures(images, is_private=given.private))
    publish(f"{name}_private" if given.private else name, found)


if __name__ == "__main__":
    main()
