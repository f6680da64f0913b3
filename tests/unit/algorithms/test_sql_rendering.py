"""The generated SQL expression, evaluated by a small reader of its grammar, against numpy."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, scale_inputs, sigmoid
from heliosdb.algorithms.sql import float8_literal, quote_identifier, render_prediction
from heliosdb.domain.task import Scaling

FEATURES = ("age", 'b"p', "Chol; --")
SCALING = Scaling((48.5, 94.6, 189.1), (13.1, 13.8, 34.6))
TOKEN = re.compile(
    r"""'(?P<number>[^']+)'::float8|"(?P<name>(?:[^"]|"")+)"|(?P<other>pg_catalog\.tanh|coalesce|[-+*(),]|\s+)"""
)


def evaluate(expression: str, row: dict[str, float | None]) -> float:
    """Evaluate a rendered expression; anything outside its small grammar fails."""
    python, at = [], 0
    while at < len(expression):
        token = TOKEN.match(expression, at)
        assert token is not None, expression[at:]
        at = token.end()
        if token["number"] is not None:
            python.append(repr(float(token["number"])))
        elif token["name"] is not None:
            python.append(f"row[{token['name'].replace(chr(34) * 2, chr(34))!r}]")
        else:
            python.append(token["other"].replace("pg_catalog.", ""))

    def coalesce(a: float | None, b: float) -> float:
        return b if a is None else a

    value = eval("".join(python), {"row": row, "tanh": math.tanh, "coalesce": coalesce})
    assert isinstance(value, float)
    return value


def by_numpy(name: str, row: list[float | None], scaling: Scaling, parameters: np.ndarray) -> float:
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
    rendered = render_prediction("logistic_regression", FEATURES, SCALING, parameters)
    expected = by_numpy("logistic_regression", row, SCALING, parameters)
    assert evaluate(rendered, dict(zip(FEATURES, row, strict=True))) == pytest.approx(
        expected, rel=1e-12, abs=1e-13
    )


@given(st.lists(st.one_of(st.none(), st.floats(0, 300)), min_size=3, max_size=3))
def test_value_equals_numpy(row: list[float | None]) -> None:
    scaling = Scaling(SCALING.means, SCALING.scales, 152.1, 77.0)
    parameters = np.array([0.3, -0.2, 0.5, 0.01])
    rendered = LINEAR_REGRESSION.render_prediction(FEATURES, scaling, parameters)
    expected = by_numpy("linear_regression", row, scaling, parameters)
    assert evaluate(rendered, dict(zip(FEATURES, row, strict=True))) == pytest.approx(
        expected, rel=1e-12, abs=1e-11
    )


def test_a_feature_far_from_zero_for_its_spread_loses_no_digits() -> None:
    scaling = Scaling((1.7e9,), (100.0,))
    parameters = np.array([1.5, 0.25])
    rendered = LINEAR_REGRESSION.render_prediction(("t",), scaling, parameters)
    for value in (1.7e9 + 1 / 3, 1.7e9 - 250.125):
        expected = by_numpy("linear_regression", [value], scaling, parameters)
        assert evaluate(rendered, {"t": value}) == pytest.approx(expected, rel=1e-12)


def test_each_feature_is_referenced_exactly_once() -> None:
    rendered = render_prediction("logistic_regression", FEATURES, SCALING, np.ones(4))
    for feature in FEATURES:
        assert rendered.count(quote_identifier(feature)) == 1


def test_null_is_the_mean() -> None:
    parameters = np.array([1.0, -2.0, 0.5, 0.3])
    rendered = render_prediction("logistic_regression", FEATURES, SCALING, parameters)
    at_mean = evaluate(rendered, dict(zip(FEATURES, SCALING.means, strict=True)))
    assert evaluate(rendered, dict.fromkeys(FEATURES)) == at_mean == pytest.approx(1 / (1 + math.exp(-0.3)))


@pytest.mark.parametrize("value", [1e300, -1e300])
def test_no_argument_overflows_the_probability(value: float) -> None:
    rendered = render_prediction("logistic_regression", ("x",), Scaling((0.0,), (1.0,)), np.array([2.0, 0.0]))
    assert evaluate(rendered, {"x": value}) in (0.0, 1.0)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_literal_reads_back_to_the_same_bits(value: float) -> None:
    literal = float8_literal(value)
    assert literal.startswith("'")
    assert literal.endswith("'::float8")
    assert float(literal[1:-9]).hex() == value.hex()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_is_not_finite_is_not_rendered(value: float) -> None:
    with pytest.raises(FederatedError) as caught:
        render_prediction("logistic_regression", ("x",), Scaling((0.0,), (1.0,)), np.array([value, 0.0]))
    assert caught.value.code is ErrorCode.INTERNAL


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_cannot_be_quoted_is_refused(name: str) -> None:
    with pytest.raises(FederatedError) as caught:
        quote_identifier(name)
    assert caught.value.code is ErrorCode.INVALID_NAME


def test_quoting_leaves_no_way_out_of_the_identifier() -> None:
    assert quote_identifier('a"; DROP TABLE x; --') == '"a""; DROP TABLE x; --"'
    assert quote_identifier("Größe") == '"Größe"'


def test_an_algorithm_that_is_not_built_has_no_expression() -> None:
    with pytest.raises(FederatedError) as caught:
        render_prediction("random_forest", ("x",), Scaling((0.0,), (1.0,)), np.zeros(2))
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    assert LOGISTIC_REGRESSION.name in str(caught.value.hint)
