"""How much worse predictions become where a feature is shuffled: permutation importance (Breiman 2001).

What always holds: a feature is shuffled among held-out rows of one node, all its inputs together; what leaves
is, for each feature and shuffle, the sum over rows by how much the loss has grown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from heliosdb.domain.encoding import Encoding
from heliosdb.domain.vector import Matrix, Vector

SHUFFLES = 5

MOST_FEATURES = 1_000
"""Beyond so many features none is shuffled."""

MOST_PREDICTIONS, ENOUGH_ROWS = 2_000_000, 1_000
"""Of more than twice as many held-out rows as so many predictions allow, these are drawn at random, or enough
of them."""

LARGEST_GROWTH = 1e140
"""Of one row's loss, either way."""


def groups_of(n_features: int, encoding: Encoding | None) -> list[slice]:
    """Return which inputs are a feature's, for each feature that is shuffled."""
    if n_features > MOST_FEATURES:
        return []
    sizes = [1] * n_features if encoding is None else [len(one.inputs) for one in encoding.columns]
    ends = np.cumsum([0, *sizes]).tolist()
    return [slice(start, end) for start, end in pairwise(ends)]


def growths(
    features: Matrix,
    losses_of: Callable[[Matrix, Vector], Vector],
    targets: Vector,
    groups: Sequence[slice],
    rng: np.random.Generator,
) -> tuple[int, Matrix]:
    """Return how many rows were shuffled, and the sums of what losses grew by, (features, SHUFFLES).

    losses_of: (features, targets) → one loss a row.
    """
    most = max(ENOUGH_ROWS, MOST_PREDICTIONS // (SHUFFLES * max(1, len(groups))))
    if features.shape[0] > 2 * most:
        drawn = np.sort(rng.choice(features.shape[0], most, replace=False))
        features, targets = features[drawn], targets[drawn]
    rows, sums = features.shape[0], np.zeros((len(groups), SHUFFLES))
    if rows == 0 or not groups:
        return rows, sums
    before, shuffled = losses_of(features, targets), features.copy()
    for shuffle in range(SHUFFLES):
        order = rng.permutation(rows)
        for number, inputs in enumerate(groups):
            shuffled[:, inputs] = features[order, inputs]
            grown = losses_of(shuffled, targets) - before
            sums[number, shuffle] = np.clip(np.nan_to_num(grown), -LARGEST_GROWTH, LARGEST_GROWTH).sum()
            shuffled[:, inputs] = features[:, inputs]
    return rows, sums
