"""How much rows count for a tree."""

from __future__ import annotations

import numpy as np

from heliosdb.algorithms.trees.drawing import draws_of, row_hashes
from heliosdb.algorithms.trees.leaves import MOST_DRAWS


def hashes(count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return row_hashes(rng.normal(size=(count, 2)), np.zeros(count))


def test_a_forest_leaves_no_row_out_and_weighs_them_exponentially() -> None:
    weights = draws_of(hashes(200_000), 1, 0, 1.0, weighted=True)
    assert weights.min() == 1.0
    assert weights.max() == MOST_DRAWS
    for weight in (2, 4, 8):
        # Thirds of exponential weights of mean 1, rounded up.
        assert abs(np.mean(weights > weight) - np.exp(-weight / 3.0)) < 0.005
    others = draws_of(hashes(200_000), 1, 1, 1.0, weighted=True)
    assert abs(np.corrcoef(weights, others)[0, 1]) < 0.01


def test_a_share_of_the_rows_is_left_out_and_the_others_are_weighed_alike() -> None:
    weights = draws_of(hashes(200_000), 1, 0, 0.6, weighted=True)
    assert abs(np.mean(weights > 0) - 0.6) < 0.005
    assert abs(np.mean(weights[weights > 0] > 4) - np.exp(-4.0 / 3.0)) < 0.005
    plain = draws_of(hashes(200_000), 1, 0, 0.6)
    np.testing.assert_array_equal(plain, weights > 0)
