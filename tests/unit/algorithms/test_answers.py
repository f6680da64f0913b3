"""What can be an answer of rows: no honest one has a fault, whatever its values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms import Table
from heliosdb.algorithms.answers import evaluation_fault, statistics_fault
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.layout import COLUMN_DIGITS, DIGIT_BITS, SQUARE_DIGITS, SUM_DIGITS
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, LinearModel
from heliosdb.algorithms.works import EvaluateWork, StatisticsWork
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector
from heliosdb.node.guards import make_private

COLUMNS = ("age", "pressure", "outcome")

magnitudes = st.sampled_from(
    [0.0, 5e-324, 1e-300, 1e-160, 1e-150, 1e-20, 1.0, 3.7, 1e20, 1e140, 1e160, 1e280]
)
values = st.builds(
    lambda magnitude, factor, sign: sign * magnitude * factor,
    magnitudes,
    st.floats(1.0, 9.0),
    st.sampled_from([-1.0, 1.0]),
) | st.just(np.nan)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(0, 40))
    one = draw(values)
    column = st.just(one) | values
    features = np.array(draw(st.lists(st.tuples(column, column), min_size=rows, max_size=rows))).reshape(
        rows, 2
    )
    target = np.array(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=rows, max_size=rows)))
    codes = np.arange(rows, dtype=np.int64)
    return Table.from_rows(features, target.reshape(rows), codes, codes % 4 == 0)


@settings(max_examples=200)
@given(
    tables(), st.sampled_from(["logistic_regression", "linear_regression"]), st.none() | st.floats(0.01, 1e4)
)
def test_an_honest_answer_to_round_zero_has_no_fault(table: Table, name: str, noise: float | None) -> None:
    work = StatisticsWork(name, noise, classes=0 if name == "linear_regression" else 2)
    made = statistics(table, work)
    assert statistics_fault(make_private(made), made.weight, work, COLUMNS) is None


@settings(max_examples=100)
@given(tables(), st.sampled_from([LOGISTIC_REGRESSION, LINEAR_REGRESSION]), st.none() | st.floats(0.01, 1e4))
def test_an_honest_evaluation_has_no_fault(table: Table, model: LinearModel, noise: float | None) -> None:
    work = EvaluateWork(
        model.name, Scaling((0.0, 0.0), (1e20, 1e20)), noise, classes=0 if model.scales_target else 2
    )
    made = model.evaluate(table, np.array([0.5, -2.0, 0.1]), work)
    vector = make_private(made)
    if np.all(np.isfinite(vector)) and np.all(np.abs(vector) < 1e300):
        assert evaluation_fault(vector, made.weight, work) is None


def test_a_sum_whose_squares_lost_their_last_digits_has_no_fault() -> None:
    rng = np.random.default_rng(5)
    features = np.full((200_000, 2), 0.1) + rng.normal(0.0, 1e-9, (200_000, 2))
    codes = np.arange(200_000, dtype=np.int64)
    table = Table.from_rows(features, np.zeros(200_000), codes, codes < 0)
    made = statistics(table, StatisticsWork("logistic_regression", None, classes=2))
    assert (
        statistics_fault(
            made.vector, made.weight, StatisticsWork("logistic_regression", None, classes=2), COLUMNS
        )
        is None
    )


@pytest.mark.parametrize("name", ["logistic_regression", "linear_regression"])
def test_sums_without_a_fault_are_finite_over_as_many_nodes_as_there_may_be(name: str) -> None:
    digit = 2.0**DIGIT_BITS - 1.0
    # The last five digits are of values that no scaling may have.
    column = [1e12, *[0.0] * SUM_DIGITS, *[digit] * (SQUARE_DIGITS - 5), *[0.0] * 5]
    largest: Vector = np.array([1e12, *column * 2, *(column if name.startswith("lin") else [5e11])])
    assert (
        statistics_fault(
            largest,
            1e12,
            StatisticsWork(name, None, classes=0 if name == "linear_regression" else 2),
            COLUMNS,
        )
        is None
    )
    # Whole numbers are exact up to there.
    assert np.all(largest[np.arange(largest.size) % (len(column)) > 1] * 10_000.0 < 2.0**53)


@pytest.mark.parametrize(
    ("place", "number", "fault"),
    [
        (1, 5.0, "its count 5 is not of values among 4 rows"),
        (2, 0.5, "a digit of its sums is none"),
        (2, 2.0**DIGIT_BITS, "a digit of its sums is none"),
        (1 + SUM_DIGITS, 1.0, "its sum and its sum of squares are not of 4 values"),
        (2 + SUM_DIGITS, -1.0, "its sum and its sum of squares are not of 4 values"),
        (COLUMN_DIGITS, 1.0, "its values are larger than 1e+290"),
    ],
)
def test_sums_that_no_rows_have_are_a_fault(place: int, number: float, fault: str) -> None:
    table = Table.from_rows(
        np.array([[0.0, 1.0]] * 4), np.array([0.0, 1.0] * 2), np.arange(4), np.zeros(4, dtype=bool)
    )
    work = StatisticsWork("logistic_regression", None, classes=2)
    made = statistics(table, work)
    made.vector[place] = number
    assert statistics_fault(made.vector, made.weight, work, COLUMNS) == f"{fault} in column age"
