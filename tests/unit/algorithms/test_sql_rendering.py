"""Predictions as numbers, evaluated by a small oracle, against numpy; as SQL they are tested on a server."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms import algorithm
from heliosdb.algorithms.families import sigmoid
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, scale_inputs
from heliosdb.algorithms.sql import LinearPrediction
from heliosdb.domain.findings import Findings
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Scaling

SCALING = Scaling((48.5, 94.6, 189.1), (13.1, 13.8, 34.6))


def evaluate(prediction: LinearPrediction, row: Sequence[float | None]) -> float:
    """Compute what the class says a prediction is."""
    score = prediction.intercept
    parts = (prediction.slopes, prediction.fills, prediction.shifts)
    for value, slope, fill, shift in zip(row, *parts, strict=True):
        score += slope * ((fill if value is None else value) - shift)
    if prediction.link == "logistic":
        return 0.5 * (1.0 + math.tanh(0.5 * score))
    return prediction.target_mean + prediction.target_scale * score


def by_numpy(name: str, row: Sequence[float | None], scaling: Scaling, parameters: np.ndarray) -> float:
    features = np.array([[math.nan if v is None else v for v in row]])
    score = scale_inputs(features, scaling) @ parameters
    if name == "logistic_regression":
        return float(sigmoid(score)[0])
    return float(scaling.target_mean + scaling.target_scale * score[0])


@given(
    st.lists(st.one_of(st.none(), st.floats(-1000, 1000)), min_size=3, max_size=3),
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
)
def test_probability_equals_numpy(row: list[float | None], weights: list[float]) -> None:
    parameters = np.array(weights)
    prediction = LOGISTIC_REGRESSION.make_prediction(SCALING, parameters)
    expected = by_numpy("logistic_regression", row, SCALING, parameters)
    assert evaluate(prediction, row) == pytest.approx(expected, rel=1e-12, abs=1e-13)


@given(st.lists(st.one_of(st.none(), st.floats(0, 300)), min_size=3, max_size=3))
def test_value_equals_numpy(row: list[float | None]) -> None:
    scaling = Scaling(SCALING.means, SCALING.scales, 152.1, 77.0)
    parameters = np.array([0.3, -0.2, 0.5, 0.01])
    prediction = LINEAR_REGRESSION.make_prediction(scaling, parameters)
    expected = by_numpy("linear_regression", row, scaling, parameters)
    assert evaluate(prediction, row) == pytest.approx(expected, rel=1e-12, abs=1e-11)


def test_a_feature_far_from_zero_for_its_spread_loses_no_digits() -> None:
    scaling = Scaling((1.7e9,), (100.0,))
    parameters = np.array([1.5, 0.25])
    prediction = LINEAR_REGRESSION.make_prediction(scaling, parameters)
    for value in (1.7e9 + 1 / 3, 1.7e9 - 250.125):
        expected = by_numpy("linear_regression", [value], scaling, parameters)
        assert evaluate(prediction, [value]) == pytest.approx(expected, rel=1e-12)


def test_a_missing_feature_is_the_mean() -> None:
    prediction = LOGISTIC_REGRESSION.make_prediction(SCALING, np.array([1.0, -2.0, 0.5, 0.3]))
    at_mean = evaluate(prediction, SCALING.means)
    assert evaluate(prediction, [None] * 3) == at_mean == pytest.approx(1 / (1 + math.exp(-0.3)))


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_is_not_finite_has_no_prediction(value: float, place: int) -> None:
    parameters = np.zeros(2)
    parameters[place] = value
    with pytest.raises(FederatedError) as caught:
        LOGISTIC_REGRESSION.make_prediction(Scaling((1.0,), (1.0,)), parameters)
    assert caught.value.code is ErrorCode.INTERNAL


def test_parts_of_a_prediction_that_do_not_fit_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="one slope, fill and shift"):
        LinearPrediction(0.0, (1.0, 2.0), (0.0,), (0.0,), "identity")
    with pytest.raises(ValueError, match="zip"):
        LINEAR_REGRESSION.make_prediction(SCALING, np.zeros(3))


def test_an_algorithm_that_is_not_built_has_no_prediction() -> None:
    with pytest.raises(FederatedError) as caught:
        algorithm("oracle").predict(NO_STATE, Findings(Scaling((0.0,), (1.0,))))
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    assert LOGISTIC_REGRESSION.name in str(caught.value.hint)
