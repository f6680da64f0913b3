"""What a peer is asked to do, what is heard of it, and what it should have come to.

The model: logistic regression on scaled inputs and a column of ones, from zeros; a round is one gradient step over
all rows of a node, one local epoch of one batch, and the mean of the nodes' parameters by their rows.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Rows = tuple[NDArray[np.float64], Vector]
"""A node's inputs, (n, k), the last column of ones, and targets, (n,), 0 or 1."""


class Unavailable(Exception):
    """A peer could not be installed here."""


@dataclass(frozen=True, slots=True)
class Work:
    """rows: a directory with `node-0.npz` and so on, of `inputs` and `targets`."""

    nodes: int
    rounds: int
    parameters: int
    learning_rate: float
    rows: Path


@dataclass(frozen=True, slots=True)
class Heard:
    """When the rounds began, in seconds since some moment, by the peer's own log; the last parameters, (k,)."""

    starts: tuple[float, ...]
    parameters: Vector


def write_rows(directory: Path, nodes: Sequence[Rows]) -> None:
    """Write each node's rows down."""
    for number, (inputs, targets) in enumerate(nodes):
        np.savez(directory / f"node-{number}.npz", inputs=inputs, targets=targets)


def average(nodes: Sequence[Rows], rounds: int, learning_rate: float) -> Vector:
    """Return the parameters after so many rounds, (k,)."""
    parameters = np.zeros(nodes[0][0].shape[1])
    weights = np.array([float(len(targets)) for _, targets in nodes])
    for _ in range(rounds):
        moved = [parameters - learning_rate * _slope(rows, parameters) for rows in nodes]
        parameters = np.average(moved, axis=0, weights=weights)
    return parameters


def _slope(rows: Rows, parameters: Vector) -> Vector:
    inputs, targets = rows
    chances = 1.0 / (1.0 + np.exp(-(inputs @ parameters)))
    found: Vector = inputs.T @ (chances - targets) / len(targets)
    return found


def seconds_per_round(starts: Sequence[float]) -> float:
    """Return the median time from a round's start to the next one's; the first round, in which processes load what
    they need, is left out. ValueError for fewer than three rounds."""
    if len(starts) < 3:
        raise ValueError(f"three rounds at least are needed, {len(starts)} began")
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(starts[1:]))
