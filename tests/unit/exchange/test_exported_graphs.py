"""ONNX and PMML files compute what the catalog's own predictions are, in runtimes that know nothing of them."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pypmml
import pytest

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.exchange.onnx_inputs import NULL_TEXT
from heliosdb.exchange.onnx_model import render_onnx
from heliosdb.exchange.pmml import render_pmml
from heliosdb.exchange.pmml_inputs import field_names
from heliosdb.exchange.portable import Portable
from tests.support.encoded_model import COLUMNS, linear, rows, slots
from tests.support.portable import (
    SIMPLE,
    expected,
    extreme_rows,
    linear_model,
    network,
    portable,
    softmax_linear,
    trees,
)

ROWS = extreme_rows()
MODELS = {
    "identity": linear_model("identity", COLUMNS),
    "logistic": linear_model("logistic", COLUMNS),
    "exp": linear_model("exp", COLUMNS),
    "softmax": softmax_linear(COLUMNS),
    "forest": trees("identity", boosts=False),
    "forest of two classes": trees("logistic", boosts=False),
    "forest of classes": trees("softmax", boosts=False),
    "boosting": trees("identity", boosts=True),
    "boosting of two classes": trees("logistic", boosts=True),
    "boosting of classes": trees("softmax", boosts=True),
    **{
        f"network of {name}": network("logistic", COLUMNS, name)
        for name in ("relu", "tanh", "sigmoid", "gelu")
    },
    "network of classes": network("softmax", COLUMNS),
    "network of a number": network("identity", COLUMNS),
}


def fed(model: Portable, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as the graph takes them."""
    made: dict[str, Any] = {}
    for one in model.encoding.columns:
        if one.kind is ColumnKind.CATEGORY:
            texts = [NULL_TEXT if row[one.column] is None else row[one.column] for row in given]
            made[one.column] = np.array(texts, dtype=object)
        else:
            values = np.array([slots(row, [one]) for row in given])
            made[one.column] = values if one.kind is ColumnKind.ARRAY else values[:, 0]
    return made


def run_onnx(model: Portable, given: Sequence[Mapping[str, Any]] = ROWS) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(render_onnx(model), providers=["CPUExecutionProvider"])
    [found] = session.run(None, fed(model, given))
    return np.asarray(found)


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_predicts_what_the_catalog_does(name: str) -> None:
    model = MODELS[name]
    # numpy itself sums networks in float32.
    tolerance = 1e-5 if model.kind == "network" else 1e-9
    wanted = expected(model, ROWS)
    np.testing.assert_allclose(run_onnx(model), wanted, rtol=tolerance, atol=tolerance)
    assert np.unique(wanted).size > 5


def test_an_infinite_value_is_missing_to_trees() -> None:
    given = [{**ROWS[5], "age": value} for value in (math.inf, -math.inf, None)]
    found = run_onnx(MODELS["forest"], given)
    assert found[0] == found[1] == found[2]


def test_an_onnx_file_says_what_it_is_and_from_where() -> None:
    made = onnx.load_from_string(render_onnx(MODELS["softmax"]))
    about = {one.key: one.value for one in made.metadata_props}
    assert json.loads(about["heliosdb.classes"]) == ["no", "it's", 'per"haps']
    assert json.loads(about["heliosdb.card"]) == {"model": "stay"}
    assert json.loads(about["heliosdb.origin"])["workspace"] == "clinics"
    assert about["heliosdb.content_sha256"] == MODELS["softmax"].content_sha256


def test_a_feature_that_cannot_be_told_apart_is_refused() -> None:
    for column in (
        ColumnEncoding("prediction"),
        ColumnEncoding("a", ColumnKind.CATEGORY, "indicators", levels=("b", NULL_TEXT)),
    ):
        encoding = Encoding((column,))
        with pytest.raises(FederatedError) as caught:
            render_onnx(portable(linear("identity", encoding), encoding))
        assert caught.value.code is ErrorCode.NOT_SUPPORTED


# An evaluator of the standard that is not ours, on Java: PMML4S.
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="pypmml runs on Java")


def run_pmml(model: Portable, given: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, Any]:
    evaluator = pypmml.Model.fromString(render_pmml(model).decode())
    count = len(model.classes) if model.has_many_classes else 0
    names = [f"probability_{place}" for place in range(1, count + 1)] or ["prediction"]
    found = []
    for row in given:
        fields: dict[str, Any] = {}
        for one in model.encoding.columns:
            if one.kind is ColumnKind.CATEGORY:
                fields[one.column] = row[one.column]
            else:
                fields |= dict(zip(field_names(one), slots(row, [one]), strict=True))
        known = {name: value for name, value in fields.items() if value is not None and value == value}
        said = evaluator.predict(known)
        found.append([said[name] for name in names])
    values = np.array(found, dtype=np.float64)
    return values if count else values[:, 0]


@needs_java
@pytest.mark.parametrize(
    "name", ["identity", "logistic", "forest", "forest of two classes", "boosting", "boosting of two classes"]
)
def test_an_evaluator_of_pmml_predicts_what_the_catalog_does(name: str) -> None:
    found, wanted = run_pmml(MODELS[name], ROWS), expected(MODELS[name], ROWS)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@needs_java
def test_an_evaluator_of_pmml_predicts_rates_and_classes() -> None:
    # Where a score is beyond what exp can be of, evaluators differ: these rows are as data are.
    for model in (linear_model("exp", SIMPLE), softmax_linear((ColumnEncoding("bmi"), *SIMPLE[3:]))):
        np.testing.assert_allclose(run_pmml(model, rows()), expected(model, rows()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["network of relu", "boosting of classes", "forest of classes"])
def test_what_pmml_is_not_written_for_is_refused(name: str) -> None:
    with pytest.raises(FederatedError) as caught:
        render_pmml(MODELS[name])
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
