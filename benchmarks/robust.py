"""What hostile nodes can do to each rule: digits, a network of one hidden layer, 20 nodes of which 4 are hostile.

Every node trains the same small network on its share of the images; the product's own strategies combine what the
nodes send. Hostile nodes send

    sign flip   their own update, turned round and five times as long
    IPM         the honest updates' mean, turned round and ten times as long (Xie et al. 2020)
    ALIE        the honest mean less 1.5 deviations in every coordinate (Baruch et al. 2019)
    backdoor    five times what they learn from images with a mark, all called 0 (Bagdasaryan et al. 2020)

Under the first three a figure is the accuracy on images that nobody trained on; under a backdoor it is how many
marked images that are no 0 are taken for one. Figures are means over the seeds. The root node of fltrust has
100 images of those that the honest nodes have.

    make bench NAME=robust [ARGS="--rounds 10 --seeds 1"]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from benchmarks.harness import Figure, publish
from heliosdb.aggregation import gathering_for, strategy
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import read_settings
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from heliosdb.parts.strategies import STRATEGIES, root_node

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]

PIXELS, HIDDEN, CLASSES = 64, 32, 10
SIZE = (PIXELS + 1) * HIDDEN + (HIDDEN + 1) * CLASSES
EPOCHS, BATCH, RATE = 1, 8, 0.1
ROOT, ROOT_IMAGES = "root", 100
MARKED = (0, 1, 8, 9)
"""The pixels of the mark: a bright square in a corner that is dark in every image."""


@dataclass(frozen=True, slots=True)
class Images:
    """Images in [0, 1], one a row, and what they show."""

    pixels: Matrix
    labels: Labels

    def take(self, rows: Labels) -> Images:
        """Some of them."""
        return Images(self.pixels[rows], self.labels[rows])

    def marked(self) -> Images:
        """The same, with the mark and called 0."""
        pixels = self.pixels.copy()
        pixels[:, MARKED] = 1.0
        return Images(pixels, np.zeros_like(self.labels))


@dataclass(frozen=True, slots=True)
class Federation:
    """The shares of the nodes, of which the first `hostile` are hostile, and the images to test with.

    root: those of the root node.
    """

    shares: Sequence[Images]
    test: Images
    hostile: int
    root: Images


def split(nodes: int, hostile: int, seed: int) -> Federation:
    """Deal the images out at random; a fifth is for testing."""
    pixels, labels = load_digits(return_X_y=True)
    images = Images(pixels / 16.0, labels.astype(np.int64))
    order = np.random.default_rng(seed).permutation(labels.size)
    apart = labels.size // 5
    return Federation(
        [images.take(rows) for rows in np.array_split(order[apart:], nodes)],
        images.take(order[:apart]),
        hostile,
        images.take(order[-ROOT_IMAGES:]),
    )


def begin(seed: int) -> Vector:
    """The first parameters."""
    rng = np.random.default_rng(seed)
    first = rng.normal(0, np.sqrt(2 / PIXELS), (PIXELS, HIDDEN))
    second = rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, CLASSES))
    return np.concatenate([first.ravel(), np.zeros(HIDDEN), second.ravel(), np.zeros(CLASSES)])


def layers(parameters: Vector) -> tuple[Matrix, Vector, Matrix, Vector]:
    """The weights and biases of both layers."""
    ends = np.cumsum([PIXELS * HIDDEN, HIDDEN, HIDDEN * CLASSES])
    first, first_bias, second, second_bias = np.split(parameters, ends)
    return first.reshape(PIXELS, HIDDEN), first_bias, second.reshape(HIDDEN, CLASSES), second_bias


def predict(parameters: Vector, pixels: Matrix) -> Labels:
    """What each image is taken for."""
    first, first_bias, second, second_bias = layers(parameters)
    scores = np.maximum(pixels @ first + first_bias, 0.0) @ second + second_bias
    return scores.argmax(axis=1)


def gradient(parameters: Vector, batch: Images) -> Vector:
    """Of the mean cross-entropy."""
    first, first_bias, second, second_bias = layers(parameters)
    hidden = np.maximum(batch.pixels @ first + first_bias, 0.0)
    scores = hidden @ second + second_bias
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    slopes = scores / scores.sum(axis=1, keepdims=True)
    slopes[np.arange(slopes.shape[0]), batch.labels] -= 1.0
    slopes /= slopes.shape[0]
    back = (slopes @ second.T) * (hidden > 0)
    parts = (batch.pixels.T @ back, back.sum(axis=0), hidden.T @ slopes, slopes.sum(axis=0))
    return np.concatenate([part.ravel() for part in parts])


def train(parameters: Vector, share: Images, rng: np.random.Generator) -> Vector:
    """How far a node's own images move the parameters."""
    current = parameters.copy()
    for _ in range(EPOCHS):
        order = rng.permutation(share.labels.size)
        for start in range(0, order.size, BATCH):
            current -= RATE * gradient(current, share.take(order[start : start + BATCH]))
    return current - parameters


Attack = Callable[[Vector, Federation, Matrix, Matrix, np.random.Generator], Matrix]
"""(parameters, federation, the hostile nodes' honest updates, the others' updates, rng) → what they send."""


def sign_flip(_p: Vector, _f: Federation, own: Matrix, _others: Matrix, _rng: np.random.Generator) -> Matrix:
    """Turned round, and five times as long."""
    return -5.0 * own


def ipm(_p: Vector, _f: Federation, own: Matrix, others: Matrix, _rng: np.random.Generator) -> Matrix:
    """Inner product manipulation."""
    return np.tile(-10.0 * others.mean(axis=0), (own.shape[0], 1))


def alie(_p: Vector, _f: Federation, own: Matrix, others: Matrix, _rng: np.random.Generator) -> Matrix:
    """A little is enough."""
    return np.tile(others.mean(axis=0) - 1.5 * others.std(axis=0), (own.shape[0], 1))


def backdoor(
    parameters: Vector, federation: Federation, own: Matrix, others: Matrix, rng: np.random.Generator
) -> Matrix:
    """Replace the model by one that knows the mark."""
    factor = (own.shape[0] + others.shape[0]) / own.shape[0]
    sent = []
    for share in federation.shares[: federation.hostile]:
        marked = share.marked()
        both = Images(
            np.concatenate([share.pixels, marked.pixels]), np.concatenate([share.labels, marked.labels])
        )
        sent.append(factor * train(parameters, both, rng))
    return np.array(sent)


ATTACKS: dict[str, Attack | None] = {
    "no attack": None,
    "sign flip x5": sign_flip,
    "IPM 10": ipm,
    "ALIE z = 1.5": alie,
    "backdoor": backdoor,
}


def rules(hostile: int, nodes: int) -> dict[str, dict[str, Any]]:
    """The rules, and what they are told of the hostile nodes."""
    return {
        "fedavg": {},
        "median": {},
        "trimmed_mean": {"trim_ratio": hostile / nodes},
        "krum": {"byzantine_nodes": hostile},
        "multi_krum": {"byzantine_nodes": hostile},
        "bulyan": {"byzantine_nodes": hostile},
        "geometric_median": {},
        "fltrust": {"root_node": ROOT},
    }


def simulate(
    rule: str, options: dict[str, Any], attack: str, federation: Federation, *, rounds: int, seed: int
) -> float:
    """Train, and return the accuracy on the test images; of a backdoor, how often the mark is obeyed."""
    chosen, settings = strategy(rule), read_settings(STRATEGIES.entry(rule).settings, options, exact=True)
    parameters, memory, rng = begin(seed), NO_STATE, np.random.default_rng(seed)
    deed, hostile = ATTACKS[attack], federation.hostile
    for _ in range(rounds):
        updates = np.array([train(parameters, share, rng) for share in federation.shares])
        if deed is not None:
            updates[:hostile] = deed(parameters, federation, updates[:hostile], updates[hostile:], rng)
        gathering = gathering_for(chosen, SIZE, settings=settings)
        for number, (update, share) in enumerate(zip(updates, federation.shares, strict=True)):
            gathering.take(Update(NodeName(f"node_{number:02d}"), update, float(share.labels.size)))
        if root_node(settings) is not None:
            own = train(parameters, federation.root, rng)
            gathering.take(Update(NodeName(ROOT), own, float(federation.root.labels.size)))
        parameters, memory = chosen.combine(parameters, memory, gathering.result(), settings)
        if np.abs(parameters).max() > 1e9:
            break
    if attack == "backdoor":
        victims = federation.test.take(np.flatnonzero(federation.test.labels != 0)).marked()
        return float((predict(parameters, victims.pixels) == 0).mean())
    return float((predict(parameters, federation.test.pixels) == federation.test.labels).mean())


def bar(rule: str, attack: str) -> tuple[str, Callable[[float], bool]]:
    """What is asked of a figure, and whether it is so."""
    if attack == "backdoor":
        return (
            ("<= .05", lambda v: v <= 0.05) if rule in ("median", "trimmed_mean", "multi_krum") else _none()
        )
    if rule != "fedavg":
        return ">= .90", lambda v: v >= 0.90
    return ("<= .15", lambda v: v <= 0.15) if attack in ("sign flip x5", "IPM 10") else _none()


def _none() -> tuple[str, Callable[[float], bool]]:
    return "", lambda _: True


def main() -> int:
    """Print the table; status 1 where a figure misses its bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("nodes", 20), ("hostile", 4), ("rounds", 30), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    table: dict[tuple[str, str], float] = {}
    for attack in ATTACKS:
        for rule, options in rules(given.hostile, given.nodes).items():
            found = [
                simulate(
                    rule, options, attack, split(given.nodes, given.hostile, seed),
                    rounds=given.rounds, seed=seed,
                )
                for seed in range(given.seeds)
            ]  # fmt: skip
            table[rule, attack] = float(np.mean(found))
    publish("robust", [Figure(f"{r}, {a}", v, "", bar(r, a)[0]) for (r, a), v in table.items()])
    missed = [f"{r}, {a}" for (r, a), v in table.items() if not bar(r, a)[1](v)]
    print("every bar is met" if not missed else f"missed: {'; '.join(missed)}")
    _print_grid(table)
    return 1 if missed else 0


def _print_grid(table: dict[tuple[str, str], float]) -> None:
    names = list(dict.fromkeys(rule for rule, _ in table))
    print("\n| | " + " | ".join(names) + " |")
    print("|---" * (1 + len(names)) + "|")
    for attack in ATTACKS:
        print(f"| {attack} | " + " | ".join(f"{table[name, attack]:.3f}" for name in names) + " |")


if __name__ == "__main__":
    raise SystemExit(main())
