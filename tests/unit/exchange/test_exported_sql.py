"""SQL for another engine computes what the catalog's own predictions are: NULLs, unknown values and extremes included."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.state import freeze
from heliosdb.exchange.portable import Portable
from heliosdb.exchange.sql_levels import DIALECTS
from heliosdb.exchange.sql_select import render_select
from heliosdb.scoring.network import Layer, forward, scale, sigmoid
from heliosdb.scoring.rows import encode_rows
from tests.support.encoded_model import COLUMNS, linear, slots
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

GOLDEN = Path(__file__).with_name("golden")
ROWS = extreme_rows()
MODELS = {
    "identity": linear_model("identity", SIMPLE),
    "logistic": linear_model("logistic", SIMPLE),
    "exp": linear_model("exp", SIMPLE),
    "softmax": softmax_linear(SIMPLE),
    "forest": trees("identity", boosts=False),
    "forest of two classes": trees("logistic", boosts=False),
    "forest of classes": trees("softmax", boosts=False),
    "boosting": trees("identity", boosts=True),
    "boosting of two classes": trees("logistic", boosts=True),
    "boosting of classes": trees("softmax", boosts=True, count=3),
}
TYPES = {
    ColumnKind.NUMBER: "DOUBLE", ColumnKind.BOOLEAN: "BOOLEAN", ColumnKind.CATEGORY: "VARCHAR", ColumnKind.TIME: "TIMESTAMP",
    ColumnKind.ARRAY: "DOUBLE[]",
}  # fmt: skip


def stored(
    columns: Sequence[ColumnEncoding], rows: Sequence[Mapping[str, Any]], session: Any, typed: bool
) -> Any:
    declared = ", ".join(f'"{one.column}" {TYPES[one.kind] if typed else ""}' for one in columns)
    session.execute(f"CREATE TABLE patients (id INTEGER, {declared})")
    filled = ", ".join(["?"] * (1 + len(columns)))
    session.executemany(
        f"INSERT INTO patients VALUES ({filled})",
        [[number, *(_plain(row[one.column]) for one in columns)] for number, row in enumerate(rows)],
    )
    return session


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if hasattr(value, "astimezone") else value


def computed(model: Portable, engine: str, rows: Sequence[Mapping[str, Any]] = ROWS) -> np.ndarray[Any, Any]:
    text = render_select(model, engine, "patients", ["id"])
    session = duckdb.connect() if engine == "duckdb" else sqlite3.connect(":memory:")
    found = stored(model.encoding.columns, rows, session, engine == "duckdb").execute(text).fetchall()
    session.close()
    values = np.array([row[1:] for row in sorted(found)], dtype=np.float64)
    return values if model.has_many_classes else values[:, 0]


def assert_close(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], tolerance: float = 1e-9) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    assert np.unique(wanted).size > 5


@pytest.mark.parametrize("engine", ["duckdb", "sqlite"])
@pytest.mark.parametrize("name", MODELS)
def test_an_engine_predicts_what_the_catalog_does(name: str, engine: str) -> None:
    assert_close(computed(MODELS[name], engine), expected(MODELS[name], ROWS))


@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid", "gelu"])
def test_a_network_is_what_it_is_in_double_precision(hidden: str) -> None:
    model = network("logistic", SIMPLE, hidden)
    inputs = encode_rows(np.array([slots(row, SIMPLE) for row in ROWS]), model.encoding)
    layers = [Layer.of(model.arrays[f"weight_{at}"], model.arrays[f"bias_{at}"], hidden) for at in range(3)]
    wanted = sigmoid(forward(layers, scale(inputs, model.arrays["means"], model.arrays["scales"]))[:, 0])
    for engine in ("duckdb", "sqlite"):
        assert_close(computed(model, engine), wanted)
    assert_close(computed(model, "duckdb"), expected(model, ROWS), 1e-5)


def test_several_classes_of_a_network_and_a_number() -> None:
    for link in ("softmax", "identity"):
        model = network(link, SIMPLE)
        assert_close(computed(model, "duckdb"), expected(model, ROWS), 1e-5)


def test_duckdb_reads_times_and_arrays() -> None:
    columns = tuple(one for one in COLUMNS if one.kind is not ColumnKind.INTERVAL)
    model = linear_model("identity", columns)
    assert_close(computed(model, "duckdb"), expected(model, ROWS))


def test_an_infinite_value_is_one_to_a_linear_model_and_missing_to_trees() -> None:
    rows = [{**ROWS[5], "age": value} for value in (math.inf, -math.inf, None)]
    logistic = computed(linear_model("logistic", (ColumnEncoding("age"),)), "duckdb", rows)
    assert set(logistic[:2]) == {0.0, 1.0} or (logistic[:2] < 1e-300).sum() == 1
    grown = computed(MODELS["forest"], "duckdb", rows)
    assert grown[0] == grown[1] == grown[2]


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"duckdb", "sqlite"}))
def test_other_dialects_are_as_written_down(dialect: str) -> None:
    columns = (
        ColumnEncoding("age"), ColumnEncoding("smoker", ColumnKind.BOOLEAN),
        ColumnEncoding('wa`r"d', ColumnKind.CATEGORY, "indicators", levels=("a\\b", "it's", "tab\t"), null_level=True),
    )  # fmt: skip
    shown = {
        "linear": render_select(_plain_linear(columns), dialect, "lake.patients", ["id", 'o`d"d']),
        "trees": render_select(trees("logistic", boosts=True, count=1, depth=2), dialect, "patients"),
        "softmax": render_select(softmax_linear((ColumnEncoding("age"),)), dialect, "patients"),
    }
    found = "".join(f"-- {name}\n{text}\n" for name, text in shown.items())
    assert _rounded(found) == _rounded((GOLDEN / f"{dialect}.sql").read_text())


def _rounded(text: str) -> str:
    """Numbers to 13 digits: how a machine adds up decides on the last ones of what is learned here."""
    return re.sub(r"\d+\.\d+(?=e0)", lambda found: f"{float(found[0]):.13g}", text)


def _plain_linear(columns: tuple[ColumnEncoding, ...]) -> Portable:
    encoding = Encoding(columns)
    return portable(linear("logistic", encoding), encoding)


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"duckdb", "postgres", "sqlite"}))
def test_what_an_engine_cannot_be_told_is_refused(dialect: str) -> None:
    for model in (
        network("logistic", SIMPLE),
        linear_model("identity", (ColumnEncoding("seen", ColumnKind.TIME),)),
        linear_model("identity", (ColumnEncoding("stay", ColumnKind.INTERVAL),)),
        linear_model("identity", (ColumnEncoding("v", ColumnKind.ARRAY, elements=2),)),
    ):
        with pytest.raises(FederatedError) as caught:
            render_select(model, dialect, "patients")
        assert caught.value.code is ErrorCode.NOT_SUPPORTED


def test_what_would_be_too_large_is_refused() -> None:
    large = network("logistic", SIMPLE)
    arrays = dict(large.arrays)
    arrays |= {"weight_0": np.ones((600, arrays["weight_0"].shape[1])), "bias_0": np.ones(600)}
    arrays |= {"weight_1": np.ones((4, 600)), "bias_1": np.ones(4)}
    content = {key: large.content[key] for key in ("link", "activations", "target_mean", "target_scale")}
    wide = portable(Prediction("network", content, freeze(arrays)), large.encoding)
    for model in (wide, trees("identity", boosts=False, count=900, depth=6)):
        with pytest.raises(FederatedError) as caught:
            render_select(model, "duckdb", "patients")
        assert caught.value.code is ErrorCode.PROGRAM_LIMIT


@pytest.mark.parametrize(
    ("dialect", "table", "keep"),
    [("oracle", "t", []), ("duckdb", "", []), ("duckdb", "a..b", []), ("duckdb", "a.b.c.d", []),
     ("duckdb", "t", ["heliosdb_c0"]), ("duckdb", "t", ["prediction"])],
)  # fmt: skip
def test_what_names_nothing_is_refused(dialect: str, table: str, keep: list[str]) -> None:
    with pytest.raises(FederatedError) as caught:
        render_select(MODELS["identity"], dialect, table, keep)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_label_cannot_end_the_comment_that_names_it() -> None:
    model = softmax_linear(SIMPLE)
    encoding = Encoding(SIMPLE, ("a\nDROP TABLE patients; --", "b\u2028c", "d"))
    evil = portable(
        Prediction(
            "softmax_linear",
            {k: model.content[k] for k in ("link", "slopes", "fills", "shifts", "intercepts")},
        ),
        encoding,
    )
    text = render_select(evil, "duckdb", "patients")
    assert not any(line.startswith("DROP") for line in text.splitlines())
    assert "\\u2028" in text
