"""What an update counts that was trained from an older model."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.aggregation.fedavg import FEDAVG
from heliosdb.aggregation.gathering import WeightedGathering
from heliosdb.aggregation.staleness import discount, discounted
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from heliosdb.parts.strategies import MeanSettings


def update(*values: float, dtype: str = "float64", name: str = "a", weight: float = 3.0) -> Update:
    return Update(NodeName(name), np.array(values, dtype=dtype), weight)


def test_an_update_counts_the_less_the_staler_it_is() -> None:
    assert [discount(staleness) for staleness in (0, 3, 8)] == [1.0, 0.5, 1.0 / 3.0]


def test_what_is_not_stale_is_left_as_it_is() -> None:
    fresh = update(0.1, -7.3)

    assert discounted(fresh, 0) is fresh


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stale_update_is_shorter_of_the_same_type_and_weight(dtype: str) -> None:
    stale = discounted(update(2.0, -4.0, dtype=dtype), 3)

    assert stale.vector.dtype == np.dtype(dtype)
    assert (stale.vector.tolist(), stale.weight) == ([1.0, -2.0], 3.0)


def test_a_round_of_stale_updates_is_a_shorter_step_and_not_made_up_for() -> None:
    gathering = WeightedGathering(1)
    for name in "ab":
        gathering.take(discounted(update(1.0, name=name), 3))

    moved, _ = FEDAVG.combine(np.zeros(1), NO_STATE, gathering.result(), MeanSettings())

    assert moved.tolist() == [0.5]
