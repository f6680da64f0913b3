"""Rows as slots become the inputs that the domain describes."""

from __future__ import annotations

import numpy as np
import pytest

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.scoring.kinds import find_kind, scale
from heliosdb.scoring.linear import score, softmax
from heliosdb.scoring.rows import count_slots, encode_rows

NAN = np.nan
SITE = ColumnEncoding(
    "site", ColumnKind.CATEGORY, "indicators", levels=("a", "b"), null_level=True, other_level=True
)
COLUMNS = (
    (ColumnEncoding("x"), [[1.5], [NAN], [np.inf]], [[1.5], [NAN], [NAN]]),
    (ColumnEncoding("x", missing_indicator=True), [[1.5], [NAN]], [[1.5, 0], [NAN, 1]]),
    (ColumnEncoding("x", form="log1p"), [[np.e - 1], [-1], [-2], [NAN]], [[1], [NAN], [NAN], [NAN]]),
    (
        ColumnEncoding("x", form="bins", edges=(1.0, 2.0), missing_indicator=True),
        [[1], [1.5], [2.5], [NAN]],
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [NAN, NAN, 1]],
    ),
    (
        SITE,
        [[0], [1], [2], [3], [NAN]],
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [NAN] * 3],
    ),
    (
        ColumnEncoding("v", ColumnKind.ARRAY, elements=2, missing_indicator=True),
        [[1, 2], [NAN, 2], [NAN, NAN]],
        [[1, 2, 0], [NAN, 2, 0], [NAN, NAN, 1]],
    ),
)


@pytest.mark.parametrize(("column", "slots", "inputs"), COLUMNS)
def test_a_column_becomes_its_inputs(
    column: ColumnEncoding, slots: list[list[float]], inputs: list[list[float]]
) -> None:
    encoding = Encoding((column,))
    assert count_slots(encoding) == len(slots[0])
    np.testing.assert_allclose(encode_rows(np.array(slots, dtype=float), encoding), inputs, rtol=1e-15)


def test_columns_stand_beside_each_other_and_rows_are_on_their_own() -> None:
    encoding = Encoding(tuple(column for column, _, _ in COLUMNS))
    rng = np.random.default_rng(1)
    slots = rng.integers(0, 4, size=(50, count_slots(encoding))).astype(float)
    slots[rng.random(slots.shape) < 0.2] = NAN
    together = encode_rows(slots, encoding)
    assert together.shape == (50, len(encoding.inputs))
    alone = np.concatenate([encode_rows(slots[i : i + 1], encoding) for i in range(50)])
    np.testing.assert_array_equal(together, alone)


def test_what_is_missing_is_the_mean_after_scaling() -> None:
    arrays = {"means": np.array([10.0, 0.0]), "scales": np.array([2.0, 1.0])}
    np.testing.assert_array_equal(scale(np.array([[14.0, NAN]]), arrays), [[2.0, 0.0]])


def test_probabilities_add_up_however_large_the_scores_are() -> None:
    shares = softmax(np.array([[1e300, 0.0, -1e300], [0.0, 0.0, 0.0], [-5000.0, -5001.0, -9000.0]]))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares[1], 1 / 3)
    assert shares[2, 0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_a_linear_prediction_by_each_link() -> None:
    inputs = np.array([[1.0, NAN], [0.0, 4.0]])
    content = {"slopes": [0.5, 1.0], "fills": [0.0, 3.0], "shifts": [1.0, 0.0], "intercept": 0.25}
    scores = np.array([3.25, 3.75])
    for link, expected in (
        ("logistic", 1 / (1 + np.exp(-scores))),
        ("exp", np.exp(scores)),
        ("identity", 10 + 2 * scores),
    ):
        made = content | {"link": link, "target_mean": 10.0, "target_scale": 2.0}
        np.testing.assert_allclose(score(made, {}, inputs), expected, rtol=1e-14)
    assert np.isfinite(score(content | {"link": "exp", "intercept": 1e9}, {}, inputs)).all()


def test_a_kind_that_is_not_listed_is_an_error() -> None:
    assert find_kind("linear") is score
    for kind in ("nothing", "linear.os", ""):
        with pytest.raises(FederatedError) as caught:
            find_kind(kind)
        assert caught.value.code is ErrorCode.NOT_SUPPORTED
