"""Federated averaging: the weighted mean, the same bits in any order, and what it refuses."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.aggregation import (
    FedAvg,
    OversizedUpdateError,
    Update,
    check_norm,
    check_update,
    names,
    norm,
    register,
    strategy,
    total,
)
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.ids import NodeName


def update(node: str, vector: list[float] | np.ndarray, weight: float = 1.0) -> Update:
    return Update(NodeName(node), np.asarray(vector), weight)


def test_combines_by_the_weighted_mean() -> None:
    combined = FedAvg().combine(
        np.array([1.0, 1.0]), [update("a", [1.0, 0.0], 3), update("b", [0.0, 4.0], 1)]
    )
    assert combined.tolist() == [1.75, 2.0]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_order_of_arrival_does_not_change_a_bit(seed: int, nodes: int) -> None:
    rng = np.random.default_rng(seed)
    updates = [update(f"node_{i}", rng.normal(size=7), float(rng.uniform(0.1, 99))) for i in range(nodes)]
    parameters = rng.normal(size=7)
    expected = FedAvg().combine(parameters, updates)
    random.Random(seed).shuffle(updates)
    assert FedAvg().combine(parameters, updates).tobytes() == expected.tobytes()


def test_long_vectors_are_the_same_as_short_ones() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(5, 100_003))
    updates = [update(f"n{i}", vector, 1.0 + i) for i, vector in enumerate(vectors)]
    combined = FedAvg().combine(np.zeros(100_003), updates)
    expected = np.average(vectors, axis=0, weights=np.arange(1.0, 6.0))
    assert np.allclose(combined, expected, rtol=1e-13, atol=1e-15)
    tail = [update(u.node, u.vector[-5:], u.weight) for u in updates]
    assert FedAvg().combine(np.zeros(5), tail).tobytes() == combined[-5:].tobytes()


def test_the_largest_weights_that_may_be_combine() -> None:
    updates = [update("a", [2.0], ROWS.most), update("b", [4.0], ROWS.most)]
    assert FedAvg().combine(np.zeros(1), updates).tolist() == [3.0]


def test_a_norm_is_known_where_its_square_is_no_double() -> None:
    assert norm(np.array([3e200, 4e200])) == pytest.approx(5e200)
    assert norm(np.array([3e-200, -4e-200])) == pytest.approx(5e-200)
    assert norm(np.zeros(3)) == norm(np.zeros(0)) == 0.0
    with pytest.raises(
        OversizedUpdateError, match=re.escape("its norm 5e+200 is larger than max_update_norm 10000")
    ):
        check_norm(update("a", [3e200, 4e200], 1.0), 1e4)


def test_neither_parameters_nor_updates_are_changed() -> None:
    parameters, one = np.array([1.0]), update("a", [2.0])
    FedAvg().combine(parameters, [one])
    assert parameters.tolist() == [1.0]
    assert one.vector.tolist() == [2.0]


@pytest.mark.parametrize(
    ("vector", "weight", "reason"),
    [
        (np.array([1.0, math.nan]), 1.0, "1 of its 2 values are not finite"),
        (np.array([math.inf, -math.inf]), 1.0, "2 of its 2 values are not finite"),
        (np.array([1.0]), 1.0, "shape is (1,), not (2,)"),
        (np.array([[1.0, 2.0]]), 1.0, "shape is (1, 2), not (2,)"),
        (np.array([1.0, 2.0], dtype=np.float32), 1.0, "float32, not float64"),
        (np.array([1, 2]), 1.0, "int64, not float64"),
        (np.array([1.0, 2.0]), 0.0, "weight is 0.0"),
        (np.array([1.0, 2.0]), -5.0, "weight is -5.0"),
        (np.array([1.0, 2.0]), math.nan, "weight is nan"),
        (np.array([1.0, 2.0]), math.inf, "weight is inf"),
    ],
)
def test_rejects_a_hostile_update_with_its_reason(vector: np.ndarray, weight: float, reason: str) -> None:
    hostile = Update(NodeName("mallory"), vector, weight)
    for refuse in (
        lambda: check_update(hostile, 2),
        lambda: FedAvg().combine(np.zeros(2), [update("a", [1.0, 1.0]), hostile]),
    ):
        with pytest.raises(FederatedError) as caught:
            refuse()
        assert caught.value.code is ErrorCode.UPDATE_REJECTED
        assert '"mallory"' in caught.value.message
        assert reason in caught.value.message


def test_a_node_counts_once() -> None:
    with pytest.raises(FederatedError, match="two updates"):
        FedAvg().combine(np.zeros(1), [update("a", [1.0]), update("b", [1.0]), update("a", [9.0])])


def test_no_update_is_no_round() -> None:
    for combine in (lambda: FedAvg().combine(np.zeros(1), []), lambda: total([])):
        with pytest.raises(FederatedError) as caught:
            combine()
        assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_sums_take_no_notice_of_weights_or_order() -> None:
    updates = [update("b", [0.1, 1e16], 7), update("a", [0.2, 1.0], 1), update("c", [0.3, -1e16], 3)]
    assert total(updates).tobytes() == total(updates[::-1]).tobytes()
    assert total(updates)[0] == pytest.approx(0.6)


def test_a_sum_over_vectors_of_different_length_is_refused() -> None:
    with pytest.raises(FederatedError, match="shape"):
        total([update("a", [1.0]), update("b", [1.0, 2.0])])


def test_the_registry_finds_whatever_the_case_and_never_overwrites() -> None:
    assert strategy("FedAvg") is strategy("fedavg")
    assert "fedavg" in names()
    with pytest.raises(ValueError, match="registered already"):
        register(FedAvg())
    with pytest.raises(FederatedError) as caught:
        strategy("krum")
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    assert caught.value.hint is not None
    assert "fedavg" in caught.value.hint
