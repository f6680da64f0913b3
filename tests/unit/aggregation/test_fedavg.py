"""Federated averaging: the weighted mean, the same bits in any order, and what it refuses."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.aggregation import WeightedGathering, check_fits, protocol, strategy
from heliosdb.aggregation.fedavg import FEDAVG
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import NoSettings
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Total, Update
from heliosdb.domain.vector import Vector


def update(node: str, vector: list[float] | np.ndarray, weight: float = 1.0) -> Update:
    return Update(NodeName(node), np.asarray(vector), weight)


def averaged(parameters: Vector, updates: list[Update]) -> Vector:
    gathering = WeightedGathering(parameters.size)
    for one in updates:
        gathering.take(one)
    combined, memory = FEDAVG.combine(parameters, NO_STATE, gathering.result(), NoSettings())
    assert memory == NO_STATE
    return combined


def test_combines_by_the_weighted_mean() -> None:
    combined = averaged(np.array([1.0, 1.0]), [update("a", [1.0, 0.0], 3), update("b", [0.0, 4.0], 1)])
    assert combined.tolist() == [1.75, 2.0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_order_of_arrival_does_not_change_a_bit(seed: int, nodes: int) -> None:
    rng = np.random.default_rng(seed)
    updates = [update(f"node_{i}", rng.normal(size=7), float(rng.uniform(0.1, 99))) for i in range(nodes)]
    parameters = rng.normal(size=7)
    expected = averaged(parameters, updates)
    random.Random(seed).shuffle(updates)
    assert averaged(parameters, updates).tobytes() == expected.tobytes()


def test_long_vectors_are_the_same_as_short_ones() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(5, 100_003))
    updates = [update(f"n{i}", vector, 1.0 + i) for i, vector in enumerate(vectors)]
    combined = averaged(np.zeros(100_003), updates)
    expected = np.average(vectors, axis=0, weights=np.arange(1.0, 6.0))
    assert np.allclose(combined, expected, rtol=1e-13, atol=1e-15)
    tail = [update(u.node, u.vector[-5:], u.weight) for u in updates]
    assert averaged(np.zeros(5), tail).tobytes() == combined[-5:].tobytes()


def test_the_largest_weights_that_may_be_combine() -> None:
    updates = [update("a", [2.0], ROWS.most), update("b", [4.0], ROWS.most)]
    assert averaged(np.zeros(1), updates).tolist() == [3.0]


def test_neither_parameters_nor_updates_are_changed() -> None:
    parameters, one = np.array([1.0]), update("a", [2.0])
    averaged(parameters, [one])
    assert parameters.tolist() == [1.0]
    assert one.vector.tolist() == [2.0]


@pytest.mark.parametrize(
    ("total", "reason"),
    [
        (Total(np.zeros(2), 0.0, 0), "no update"),
        (Total(np.zeros(3), 1.0, 1), r"shape is \(3,\), not \(2,\)"),
        (Total(np.zeros((1, 2)), 1.0, 1), r"shape is \(1, 2\)"),
        (Total(np.array([1.0, 1.7e308]), 1.0, 1), "larger than the largest number"),
        (Total(np.array([1.0, np.nan]), 1.0, 1), "larger than the largest number"),
    ],
)
def test_a_sum_that_cannot_be_averaged_is_refused(total: Total, reason: str) -> None:
    with pytest.raises(FederatedError, match=reason) as caught:
        FEDAVG.combine(np.full(2, 1.7e308), NO_STATE, total, NoSettings())
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_single_updates_are_not_what_it_sees() -> None:
    with pytest.raises(TypeError):
        FEDAVG.combine(np.zeros(1), NO_STATE, [update("a", [1.0])], NoSettings())


def test_strategies_are_found_whatever_their_case() -> None:
    assert strategy("FedAvg") is strategy("fedavg") is FEDAVG
    with pytest.raises(FederatedError) as caught:
        strategy("fedavgs")
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    assert caught.value.hint is not None
    assert "fedavg" in caught.value.hint


def test_what_must_see_each_update_fits_open_protocols_alone() -> None:
    class Each:
        name, sees = "each", "each"

    class Closed:
        name, is_open = "closed", False

    check_fits(FEDAVG, protocol("plain"))
    check_fits(FEDAVG, Closed())  # type: ignore[arg-type]
    check_fits(Each(), protocol("plain"))  # type: ignore[arg-type]
    with pytest.raises(FederatedError, match="closed shows only their sum") as caught:
        check_fits(Each(), Closed())  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert caught.value.hint is not None
