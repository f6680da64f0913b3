"""Pairs of survivors that a score puts in order: as counted one by one."""

from __future__ import annotations

import time
from itertools import permutations

import numpy as np
import pytest

from heliosdb.algorithms.concordance import count_pairs


def counted_one_by_one(times: np.ndarray, events: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Harrell's definition, over all ordered pairs."""
    ordered = comparable = 0.0
    for first, other in permutations(range(len(times)), 2):
        is_known = times[first] < times[other] or (times[first] == times[other] and not events[other])
        if events[first] and is_known:
            comparable += 1.0
            ordered += np.heaviside(scores[first] - scores[other], 0.5)
    return ordered, comparable


@pytest.mark.parametrize("seed", range(30))
def test_pairs_are_counted_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(0, 60))
    times = rng.integers(0, rng.integers(1, 40), rows) * 1.0
    events = (rng.random(rows) < rng.random()) * 1.0
    scores = rng.integers(0, rng.integers(1, 40), rows) * 1.0
    found = count_pairs(times, events, scores)
    assert (found.ordered, found.comparable) == counted_one_by_one(times, events, scores)


def test_a_perfect_order_a_reversed_one_and_none() -> None:
    times, scores = np.array([1.0, 2.0, 3.0, 1e300]), np.array([1e300, 2.0, -1e300, -np.inf])
    found = count_pairs(times, np.ones(4), scores)
    assert (found.ordered, found.comparable) == (6.0, 6.0)
    assert count_pairs(times, np.ones(4), -scores).ordered == 0.0
    assert count_pairs(times, np.ones(4), np.zeros(4)).ordered == 3.0
    assert count_pairs(times, np.zeros(4), scores).comparable == 0.0
    assert count_pairs(np.ones(4), np.ones(4), scores).comparable == 0.0


def test_many_rows_take_no_square_of_their_number() -> None:
    rng, rows = np.random.default_rng(0), 100_000
    times, scores = rng.random(rows), rng.random(rows)
    began = time.process_time()
    found = count_pairs(times, np.ones(rows), scores)
    assert time.process_time() - began < 10.0
    assert found.comparable == rows * (rows - 1) / 2
    assert found.ordered / found.comparable == pytest.approx(0.5, abs=0.01)
