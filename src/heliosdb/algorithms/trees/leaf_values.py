"""What the leaves of complete trees say of sums with noise in them.

What always holds: all of it follows from released sums. A leaf that was given fewer rows than a leaf is to
have, as counted with noise, says what the nearest node above it that has enough says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.private_learner import PrivateLearner
from heliosdb.domain.vector import Matrix, Vector

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LeavesRead:
    """values: what leaves say, (leaves, outputs). cover: how many rows there are about in each, at least 1.
    shift: how far the scores move with which boosting begins."""

    values: Matrix
    cover: Vector
    shift: float


def read_leaves(
    learner: PrivateLearner, sums: Array, deviation: float, *, least: float, rate: float, begins: bool
) -> LeavesRead:
    """Read the sums of a round.

    sums: (channels, trees, leaves of a tree). deviation: of the noise of each. least: rows of a leaf. rate:
    of boosting. begins: whether there are no trees before these.
    """
    channels, trees, leaves = sums.shape
    flat = sums.reshape(channels, -1)
    own = learner.read(flat, np.full(trees * leaves, deviation))
    cover = np.maximum(own.weight * learner.rows_of_weight, 1.0)
    filled, noise = _with_enough(learner, sums, deviation, least)
    found = learner.read(filled.reshape(channels, -1), noise.ravel())
    # Every tree has all rows: over trees their sums' noise is averaged.
    whole = learner.read(
        flat.sum(axis=1, keepdims=True) / trees, np.array([deviation * math.sqrt(leaves / trees)])
    )
    if not learner.boosts:
        return LeavesRead(learner.shares(found, whole), cover, 0.0)
    shift = float(learner.steps(whole, 1.0)[0, 0]) if begins else 0.0
    # To second order, what the gradients are once scores have moved.
    found = replace(found, parts=found.parts + found.weight * shift)
    # Trees that do not wait for each other take a whole step together at most.
    return LeavesRead(learner.steps(found, min(rate, 1.0 / trees)), cover, shift)


def _with_enough(learner: PrivateLearner, sums: Array, deviation: float, least: float) -> tuple[Array, Array]:
    """Return for each leaf the sums of the nearest node, itself or above it, with `least` rows, else the
    root; and their noise: (channels, trees, leaves), (trees, leaves)."""
    chosen, noise = sums, np.full(sums.shape[1:], deviation)
    enough, width = _has(learner, sums, least), 1
    while width < sums.shape[2]:
        width *= 2
        joined = sums.reshape(*sums.shape[:2], -1, width).sum(axis=3)
        above = np.repeat(joined, width, axis=2)
        chosen = np.where(enough, chosen, above)
        noise = np.where(enough, noise, deviation * math.sqrt(width))
        enough = enough | _has(learner, above, least)
    return chosen, noise


def _has(learner: PrivateLearner, sums: Array, least: float) -> NDArray[np.bool_]:
    read = learner.read(sums.reshape(len(sums), -1), np.zeros(1))
    has: NDArray[np.bool_] = (read.weight * learner.rows_of_weight >= least).reshape(sums.shape[1:])
    return has


def with_cover(trees: Trees, leaves: Numbers, cover: Vector) -> Trees:
    """Return the trees with what went to these leaves, and to all nodes above them but for the roots."""
    found = trees.cover.copy()
    found[leaves] = cover
    first = trees.tree[leaves[0]]
    for node in np.flatnonzero((trees.feature >= 0) & (trees.tree >= first))[::-1]:
        left = trees.left[node]
        found[node] = found[left] + found[left + 1]
    fresh = trees.roots()
    found[fresh[trees.tree[fresh] >= first]] = 0.0
    return replace(trees, cover=found)
