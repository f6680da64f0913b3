"""What updates gather to while they arrive: in any order, each node once, and only what may be combined."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.aggregation import EachGathering, SumGathering, WeightedGathering, check_update, gathering_for
from heliosdb.aggregation.fedavg import FEDAVG
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import OversizedUpdateError, Update, check_norm, norm
from heliosdb.domain.vector import Dtype

GATHERINGS = [lambda: SumGathering(2), lambda: WeightedGathering(2), lambda: EachGathering(2)]


def update(node: str, vector: list[float] | np.ndarray, weight: float = 1.0) -> Update:
    return Update(NodeName(node), np.asarray(vector), weight)


def test_sums_take_no_notice_of_weights_or_order() -> None:
    updates = [update("b", [0.1, 1e16], 7), update("a", [0.2, 1.0], 1), update("c", [0.3, -1e16], 3)]
    totals = []
    for _ in range(5):
        gathering = SumGathering(2)
        for one in updates:
            gathering.take(one)
        totals.append(gathering.result())
        random.Random(3).shuffle(updates)
    assert {(total.vector.tobytes(), total.weight, total.nodes, total.largest) for total in totals} == {
        (np.array([0.6, 1.0]).tobytes(), 11.0, 3, (NodeName("b"), 1e16))
    }


def test_weighted_sums_are_of_weight_times_vector() -> None:
    gathering = WeightedGathering(2)
    gathering.take(update("a", [1.0, 2.0], 3.0))
    gathering.take(update("b", [10.0, -20.0], 0.5))
    total = gathering.result()
    assert total.vector.tolist() == [8.0, -4.0]
    assert (total.weight, total.nodes) == (3.5, 2)
    assert total.largest == (NodeName("b"), pytest.approx(math.hypot(10, 20)))


def test_of_equally_long_updates_the_first_by_name_is_the_largest() -> None:
    for names in ("abc", "cba", "bca"):
        gathering = SumGathering(2)
        for name in names:
            gathering.take(update(name, [3.0, 4.0]))
        assert gathering.result().largest == (NodeName("a"), 5.0)


def test_single_updates_come_in_the_order_of_names() -> None:
    gathering = EachGathering()
    for name in "cab":
        gathering.take(update(name, [1.0, 2.0]))
    assert [one.node for one in gathering.result()] == ["a", "b", "c"]
    with pytest.raises(FederatedError, match="shape"):
        gathering.take(update("d", [1.0]))


def test_a_strategy_is_given_what_it_sees() -> None:
    assert isinstance(gathering_for(FEDAVG, 2), WeightedGathering)


def test_updates_of_single_precision_are_added_in_double() -> None:
    gathering = SumGathering(1, Dtype.FLOAT32)
    for name in "ab":
        gathering.take(update(name, np.array([3e38], dtype=np.float32)))
    total = gathering.result()
    assert total.vector.dtype == np.float64
    assert total.vector[0] == 2.0 * float(np.float32(3e38))


@pytest.mark.parametrize("make", GATHERINGS)
def test_a_node_counts_once(make: object) -> None:
    gathering = make()  # type: ignore[operator]
    gathering.take(update("a", [1.0, 1.0]))
    with pytest.raises(FederatedError, match="two updates") as caught:
        gathering.take(update("a", [9.0, 9.0]))
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


@pytest.mark.parametrize("make", GATHERINGS)
def test_no_update_is_no_result(make: object) -> None:
    with pytest.raises(FederatedError, match="There is no update") as caught:
        make().result()  # type: ignore[operator]
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_a_sum_beyond_the_largest_number_is_refused() -> None:
    gathering = SumGathering(1)
    for name in "ab":
        gathering.take(update(name, [1.7e308]))
    with pytest.raises(FederatedError, match="larger than the largest number"):
        gathering.result()


@pytest.mark.parametrize(
    ("vector", "weight", "reason"),
    [
        (np.array([1.0, math.nan]), 1.0, "1 of its 2 values is not finite"),
        (np.array([math.inf, -math.inf]), 1.0, "2 of its 2 values are not finite"),
        (np.array([1.0]), 1.0, "shape is (1,), not (2,)"),
        (np.array([[1.0, 2.0]]), 1.0, "shape is (1, 2), not (2,)"),
        (np.array([1.0, 2.0], dtype=np.float32), 1.0, "float32, not float64"),
        (np.array([1, 2]), 1.0, "int64, not float64"),
        (np.array([1.0, 2.0]), 0.0, "weight is 0.0"),
        (np.array([1.0, 2.0]), -5.0, "weight is -5.0"),
        (np.array([1.0, 2.0]), math.nan, "weight is nan"),
        (np.array([1.0, 2.0]), math.inf, "weight is inf"),
        (np.array([1.0, 2.0]), 2e12, "weight 2e+12 is more than 1e+12"),
    ],
)
def test_rejects_a_hostile_update_with_its_reason(vector: np.ndarray, weight: float, reason: str) -> None:
    hostile = Update(NodeName("mallory"), vector, weight)
    takers = [
        lambda: check_update(hostile, 2),
        *(lambda make=make: make().take(hostile) for make in GATHERINGS),
    ]
    for refuse in takers:
        with pytest.raises(FederatedError) as caught:
            refuse()
        assert caught.value.code is ErrorCode.UPDATE_REJECTED
        assert '"mallory"' in caught.value.message
        assert reason in caught.value.message


def test_an_update_is_of_the_type_that_its_work_says() -> None:
    check_update(update("a", np.array([1], dtype=np.uint64)), 1, Dtype.UINT64)
    check_update(update("a", np.array([1], dtype="<f4")), 1, Dtype.FLOAT32)
    with pytest.raises(FederatedError, match="float64, not uint64"):
        check_update(update("a", [1.0]), 1, Dtype.UINT64)
    with pytest.raises(FederatedError, match="not finite"):
        check_update(update("a", np.array([np.inf], dtype=np.float32)), 1, Dtype.FLOAT32)


def test_a_norm_is_known_where_its_square_is_no_double() -> None:
    assert norm(np.array([3e200, 4e200])) == pytest.approx(5e200)
    assert norm(np.array([3e-200, -4e-200])) == pytest.approx(5e-200)
    assert norm(np.zeros(3)) == norm(np.zeros(0)) == 0.0
    with pytest.raises(
        OversizedUpdateError, match=re.escape("its norm 5e+200 is larger than max_update_norm 10000")
    ):
        check_norm(norm(update("a", [3e200, 4e200], 1.0).vector), 1e4)


def test_a_norm_of_single_precision_is_taken_in_double() -> None:
    assert norm(np.full(1_000_000, 0.1, dtype=np.float32)) == pytest.approx(100.0, rel=1e-7)
