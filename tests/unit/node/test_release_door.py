"""What a computation gives leaves only as its task asks for it, whatever the computation says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Task
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Dtype, Plain
from heliosdb.node.guards import (
    cast_real,
    check_contribution,
    check_guard,
    check_size,
    make_private,
    told_usage,
)
from tests.unit.node.door_tasks import MOST, PRIVATE, VECTOR, answering, statistics, training


@pytest.mark.parametrize(
    ("task", "contribution"),
    [
        pytest.param(statistics(3.0), Contribution(VECTOR, 1.0, Plain()), id="plain under a budget"),
        pytest.param(
            statistics(3.0), Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(2.9))), id="less noise"
        ),
        pytest.param(
            statistics(3.0), Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(30.0))), id="charged less"
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 80.0, AlreadyPrivate(Mechanism(2.0, 0.5, 11))),
            id="more steps",
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 80.0, AlreadyPrivate(Mechanism(2.0, 0.4, 10))),
            id="a lower rate claimed",
        ),
        pytest.param(
            statistics(None, None),
            Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(3.0))),
            id="noise that nobody asked for",
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 79.0, AlreadyPrivate(Mechanism(2.0, 0.5, 10))),
            id="the true count as weight",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 200.0, ClippedSum(MOST, Mechanism(3.0))),
            id="the row count as weight",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(0.0, Mechanism(3.0))),
            id="no sensitivity",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(MOST / 2.0, Mechanism(3.0))),
            id="half of the sensitivity",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(math.nan, Mechanism(3.0))),
            id="a sensitivity that is no number",
        ),
        pytest.param(
            training(PRIVATE),
            Contribution(VECTOR, 80.0, ClippedSum(MOST, Mechanism(2.0, 0.5, 10))),
            id="a sum where the step adds its noise",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR.astype(np.float32), 1.0, ClippedSum(MOST, Mechanism(3.0))),
            id="a sum that was rounded to float32",
        ),
        pytest.param(
            statistics(3.0),
            Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(3.0)), stays=make_state(rows=VECTOR)),
            id="something that stays of the rows",
        ),
    ],
)
def test_a_contribution_that_is_not_guarded_as_asked_does_not_leave(
    task: Task, contribution: Contribution
) -> None:
    with pytest.raises(FederatedError) as raised:
        check_guard(task, contribution)
    assert raised.value.code is ErrorCode.INTERNAL


def test_contributions_guarded_as_asked_pass() -> None:
    check_guard(statistics(None, None), Contribution(VECTOR, 200.0, Plain()))
    check_guard(statistics(None, None), Contribution(VECTOR, 200.0, Plain(), stays=make_state(rows=VECTOR)))
    check_guard(statistics(3.0), Contribution(VECTOR, 1.0, ClippedSum(MOST, Mechanism(3.0))))
    for vector in (VECTOR, VECTOR.astype(np.float32)):
        check_guard(training(PRIVATE), Contribution(vector, 80.0, AlreadyPrivate(Mechanism(2.0, 0.5, 10))))


@pytest.mark.parametrize(
    ("vector", "weight"),
    [([np.nan], 1.0), ([np.inf], 1.0), ([1.0], 0.0), ([1.0], -1.0), ([1.0], np.nan), ([1.0], np.inf)],
)
def test_what_is_not_finite_does_not_leave(vector: list[float], weight: float) -> None:
    task = answering(statistics(None, None), len(vector))
    with pytest.raises(FederatedError) as raised:
        check_size(task, Contribution(np.array(vector), weight, Plain()))
    assert raised.value.code is ErrorCode.UPDATE_REJECTED


@pytest.mark.parametrize(
    ("asked", "vector"),
    [
        (Dtype.FLOAT64, np.zeros(3)),
        (Dtype.FLOAT64, np.zeros((2, 1))),
        (Dtype.FLOAT64, np.zeros(2, dtype=np.uint64)),
        (Dtype.UINT64, np.zeros(2)),
        (Dtype.UINT32, np.zeros(2, dtype=np.uint64)),
    ],
)
def test_what_is_not_of_the_size_and_type_that_was_asked_for_does_not_leave(
    asked: Dtype, vector: np.ndarray
) -> None:
    task = answering(training(None, None), 2, asked)
    check_size(task, Contribution(np.ones(2, dtype=asked.value), 1.0, Plain()))
    with pytest.raises(FederatedError, match="size and type") as raised:
        check_size(task, Contribution(vector, 1.0, Plain()))
    assert raised.value.code is ErrorCode.INTERNAL


def test_a_vector_travels_in_the_type_that_was_asked_for_or_not_at_all() -> None:
    check_size(answering(training(None, None), 2, Dtype.FLOAT32), Contribution(VECTOR, 1.0, Plain()))
    assert cast_real(VECTOR, Dtype.FLOAT64) is VECTOR
    assert cast_real(VECTOR, Dtype.FLOAT32).dtype == np.float32
    with pytest.raises(FederatedError, match="not finite"):
        cast_real(np.array([1e39]), Dtype.FLOAT32)


@pytest.mark.parametrize("usage", [Usage(-1.0, 0.0, 0.0), Usage(1.0, np.nan, 0.0), Usage(1.0, 0.0, np.inf)])
def test_time_and_memory_that_cannot_be_do_not_leave(usage: Usage) -> None:
    task = answering(statistics(None, None), VECTOR.size)
    check_size(task, Contribution(VECTOR, 1.0, Plain(), Usage(1.0, 0.5, 1e8)))
    with pytest.raises(FederatedError) as raised:
        check_size(task, Contribution(VECTOR, 1.0, Plain(), usage))
    assert raised.value.code is ErrorCode.INTERNAL


def test_a_contribution_passes_that_is_what_its_task_asks_for() -> None:
    size = statistics(3.0).work.size
    check_contribution(statistics(3.0), Contribution(np.zeros(size), 1.0, ClippedSum(MOST, Mechanism(3.0))))


def test_under_a_budget_time_and_memory_are_not_told() -> None:
    usage = Usage(0.0123, 0.0042, 1e8)
    answer = Contribution(VECTOR, 1.0, Plain(), usage)
    assert told_usage(statistics(None, None), answer) == usage
    assert told_usage(statistics(3.0), answer) is None


def test_a_clipped_sum_gets_noise_of_its_mechanism_and_others_none() -> None:
    plain = Contribution(np.zeros(20_000), 1.0, Plain())
    assert make_private(plain) is plain.vector
    noisy = make_private(Contribution(np.zeros(20_000), 1.0, ClippedSum(2.0, Mechanism(3.0))))
    assert noisy.std() == pytest.approx(6.0, rel=0.05)
    assert make_private(replace(plain, guard=ClippedSum(2.0, Mechanism(3.0)))).tobytes() != noisy.tobytes()
