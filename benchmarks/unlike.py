"""Nodes that have seen one class each: digits, 10 nodes, and the rules that were made for nodes unlike each other.

Node k has the images of digit k and no others. Each trains the small network of benchmarks/robust.py; the product's
own strategies combine, and what fedprox and scaffold add to the nodes' steps is the product's own, too. A figure is
the accuracy on images that nobody trained on, after so many rounds, as a mean over the seeds; the rate of the server
is the best of a few for the rules that have one.

    make bench NAME=unlike [ARGS="--rounds 20 --seeds 1"]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.harness import Figure, publish
from benchmarks.robust import BATCH, CLASSES, RATE, SIZE, Images, Vector, begin, gradient, predict, split
from heliosdb.aggregation import companions, gathering_for, strategy
from heliosdb.algorithms.local_terms import LocalTerms
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import read_settings
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from heliosdb.parts.strategies import STRATEGIES

EPOCHS = 5
RULES: dict[str, list[dict[str, Any]]] = {
    "fedavg": [{}],
    "fedprox": [{"proximal_term": mu} for mu in (0.01, 0.1, 1.0)],
    "scaffold": [{}],
    "fedadam": [{"server_learning_rate": rate} for rate in (0.01, 0.03, 0.1)],
}


def deal(seed: int) -> tuple[list[Images], Images]:
    """One class for each node, and the images to test with."""
    dealt = split(1, 0, seed)
    (known,) = dealt.shares
    return [known.take(np.flatnonzero(known.labels == digit)) for digit in range(CLASSES)], dealt.test


def descend(start: Vector, share: Images, terms: LocalTerms, rng: np.random.Generator) -> tuple[Vector, int]:
    """How far a node moves, and in how many steps."""
    current, steps = start.copy(), 0
    for _ in range(EPOCHS):
        order = rng.permutation(share.labels.size)
        for batch in np.array_split(order, max(1, order.size // BATCH)):
            moved = current - RATE * gradient(current, share.take(batch))
            current, steps = terms.apply(moved, start, RATE), steps + 1
    return current - start, steps


def simulate(rule: str, options: dict[str, Any], rounds: int, seed: int) -> float:
    """Train, and return the accuracy."""
    chosen, settings = strategy(rule), read_settings(STRATEGIES.entry(rule).settings, options, exact=True)
    shares, test = deal(seed)
    parameters, memory, rng = begin(seed), NO_STATE, np.random.default_rng(seed)
    told = chosen.local(settings)
    variates = [np.zeros(SIZE) for _ in shares]
    for _ in range(rounds):
        gathering = gathering_for(chosen, SIZE * (1 + len(companions(chosen))), settings=settings)
        for node, share in enumerate(shares):
            terms = LocalTerms(float(told.get("proximal_term", 0.0)))
            if "control_variates" in told:
                terms = LocalTerms(correction=memory.get("control", np.zeros(SIZE)) - variates[node])
            moved, steps = descend(parameters, share, terms, rng)
            if terms.correction is not None:
                variates[node] = -moved / (steps * RATE) - terms.correction
                moved = np.concatenate([moved, variates[node]])
            gathering.take(Update(NodeName(f"node_{node}"), moved, float(share.labels.size)))
        parameters, memory = chosen.combine(parameters, memory, gathering.result(), settings)
    return float((predict(parameters, test.pixels) == test.labels).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("rounds", 40), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    figures = []
    for rule, choices in RULES.items():
        for options in choices:
            found = [simulate(rule, options, given.rounds, seed) for seed in range(given.seeds)]
            said = ", ".join(f"{name} {value:g}" for name, value in options.items())
            figures.append(Figure(f"{rule} {said}".strip(), float(np.mean(found)), ""))
    publish("unlike", figures)


if __name__ == "__main__":
    main()
