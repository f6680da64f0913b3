"""Trees whose splits are drawn before a row is read: what a run under a privacy budget grows.

What always holds: edges and splits follow from what round 0 released, the run's seed and a tree's number
alone; so they tell nothing of any row, and all that a tree has to ask rows for is what its leaves add up to.

Totally random trees (Geurts, Ernst and Wehenkel 2006, "Extremely randomized trees", with K = 1): a node
splits an input drawn at random at an edge drawn at random. Under a budget they leave the whole of it to the
leaves, each of which is then worth more than a split that was chosen from noise: Maddock et al. 2022,
"Federated boosted decision trees with differential privacy", and docs/decisions/0072.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.trees.bins import Ragged
from heliosdb.algorithms.trees.grown import LEAF, Trees
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector

Numbers = NDArray[np.int64]

_HALF = np.array([0.5])


def normal_edges(scaling: Scaling, levels: Sequence[int], flags: Sequence[bool], bins: int) -> Ragged:
    """Return the edges of bins that would hold as many values each, if values were normal with the means and
    deviations of round 0.

    levels: of each input, how many levels its category has, else 0. flags: which inputs are 0 or 1. An input
    whose spread is lost beside its mean has fewer edges, or none.
    """
    points = np.array([NormalDist().inv_cdf(place / bins) for place in range(1, bins)])
    described = zip(scaling.means, scaling.scales, levels, flags, strict=True)
    return Ragged.of([_edges(points, *one) for one in described])


def _edges(points: Vector, mean: float, scale: float, levels: int, is_flag: bool) -> Vector:
    if levels:
        return np.arange(levels - 1, dtype=np.float64) + 0.5
    if is_flag:
        return _HALF
    edges: Vector = np.unique(mean + scale * points)
    return edges


@dataclass(frozen=True, slots=True)
class Drawing:
    """What trees are drawn from. edges: of the inputs' bins. levels: see `normal_edges`. depth: of every
    leaf. seed: of the run."""

    edges: Ragged
    levels: Sequence[int]
    depth: int
    seed: int

    def added(self, trees: Trees, count: int) -> Trees:
        """Return the trees with so many more, whose leaves say 0.

        Where no input has an edge, they are a single leaf.
        """
        usable = np.flatnonzero(self.edges.counts > 0)
        depth = self.depth if usable.size else 0
        for _ in range(count):
            trees = self._with_tree(trees, depth, usable)
        return trees

    def _with_tree(self, trees: Trees, depth: int, usable: Numbers) -> Trees:
        rng, levels = np.random.default_rng((self.seed, trees.count)), np.array(self.levels)
        inner, nodes = 2**depth - 1, 2 ** (depth + 1) - 1
        feature = np.full(nodes, LEAF, dtype=np.int32)
        split, left = np.zeros(nodes, dtype=np.int32), np.zeros(nodes, dtype=np.int32)
        missing_left = np.zeros(nodes, dtype=np.uint8)
        if inner:
            chosen = usable[rng.integers(usable.size, size=inner)]
            feature[:inner] = chosen
            split[:inner] = (rng.random(inner) * self.edges.counts[chosen]).astype(np.int32)
            left[:inner] = trees.size + 2 * np.arange(inner) + 1
            missing_left[:inner] = rng.integers(2, size=inner)
        of_categories = np.flatnonzero(feature >= 0)
        of_categories = of_categories[levels[feature[of_categories]] > 0]
        split[of_categories] = len(trees.subsets) + np.arange(of_categories.size)
        subsets = rng.integers(256, size=(of_categories.size, trees.subsets.shape[1])).astype(np.uint8)
        return Trees(
            np.concatenate([trees.tree, np.full(nodes, trees.count, dtype=np.int32)]),
            np.concatenate([trees.feature, feature]),
            np.concatenate([trees.split, split]),
            np.concatenate([trees.left, left]),
            np.concatenate([trees.missing_left, missing_left]),
            np.concatenate([trees.values, np.zeros((nodes, trees.values.shape[1]))]),
            np.concatenate([trees.subsets, subsets]),
            np.concatenate([trees.cover, np.zeros(nodes)]),
        )
