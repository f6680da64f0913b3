"""Whatever rows come in, the SDK predicts what SQL does, and the server does all of the predicting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas
import polars
import psycopg
import pyarrow
import pytest

from heliosdb import AsyncFederatedLearning, FederatedLearning, FederatedLearningError
from heliosdb.sdk.session import Session
from tests.support.cluster import Cluster
from tests.support.encoded_model import ENCODING, linear, make_patients, reference, rows, softmax
from tests.support.publication import publish_prediction, publish_version

LABELS = ("none", "week", "longer")


@pytest.fixture(scope="module")
def catalog(cluster: Cluster, module_database: str) -> Iterator[psycopg.Connection]:
    """Models of every kind of column, of two numbers and of more features than a function has arguments."""
    with cluster.connect(module_database) as session:
        for statement in (
            "CREATE FEDERATED WORKSPACE clinics",
            "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
            " features = ['age', 'bmi'], target = 'y')",
            "CREATE FEDERATED MODEL wide IN WORKSPACE clinics WITH (algorithm = 'linear_regression', target = 'y',"
            f" features = [{', '.join(map(repr, WIDE))}])",
            "CREATE FEDERATED MODEL untrained IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
            " features = ['age'], target = 'y')",
        ):
            session.execute("CALL federated.execute(%s)", [statement])
        make_patients(session)
        publish_version(cluster, module_database, "risk", intercept=1.0, slopes=(0.5, 0.25))
        publish_version(cluster, module_database, "wide", intercept=0.0, slopes=tuple(map(float, range(150))))
        yield session


WIDE = [f"x{number}" for number in range(150)]


@pytest.fixture
def fl(cluster: Cluster, catalog: psycopg.Connection) -> Iterator[FederatedLearning]:
    """Somebody who may predict and do nothing else."""
    with FederatedLearning(cluster.dsn(catalog.info.dbname, user="an_analyst")) as client:
        yield client


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_rows_of_every_kind_of_column_are_predicted_as_numpy_does(
    cluster: Cluster, catalog: psycopg.Connection, fl: FederatedLearning, name: str
) -> None:
    prediction = softmax(3) if name == "softmax" else linear("logistic")
    encoding = replace(ENCODING, classes=LABELS if name == "softmax" else ())
    assert publish_prediction(cluster, catalog.info.dbname, "stay", prediction, encoding).obstacle is None
    expected = np.asarray(reference(prediction, rows()))
    by_row = expected.T.tolist() if expected.ndim == 2 and expected.shape[0] == 3 else expected.tolist()
    model = fl.model("stay")
    found = model.predict(rows())
    single = [model.predict(row) for row in rows()]
    if name == "softmax":
        assert all(list(row) == list(LABELS) for row in found)
        assert [set(row) for row in single] == [set(LABELS)] * len(rows())
        found, single = ([[row[label] for label in LABELS] for row in each] for each in (found, single))
    np.testing.assert_allclose(found, by_row, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(single, by_row, rtol=1e-9, atol=1e-12)


FRAME: dict[str, list[Any]] = {"id": [7, 8, 9], "age": [40.0, None, 61.5], "bmi": [20.5, 30.0, None]}
KINDS: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": lambda table: pandas.DataFrame(table).set_index("id"),
    "polars": polars.DataFrame,
    "arrow": pyarrow.table,
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_tables_are_predicted_as_their_rows_are(fl: FederatedLearning, kind: str) -> None:
    model = fl.model("risk")
    by_row = model.predict(
        [{"age": age, "bmi": bmi} for age, bmi in zip(FRAME["age"], FRAME["bmi"], strict=True)]
    )
    assert by_row == [
        model.predict({"age": a, "bmi": b}) for a, b in zip(FRAME["age"], FRAME["bmi"], strict=True)
    ]
    assert by_row[0] == 1.0 + 0.5 * 40.0 + 0.25 * 20.5
    table = KINDS[kind](FRAME)
    predicted = model.predict(table)
    assert type(predicted) is type(table)
    columns = predicted if kind == "pandas" else predicted.to_pandas()
    assert columns["prediction"].tolist() == by_row
    if kind == "pandas":
        assert predicted.index.tolist() == [7, 8, 9]
        assert table.join(predicted)["prediction"].tolist() == by_row


def test_a_hundred_thousand_rows_take_a_few_statements(
    fl: FederatedLearning, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    perform = Session._perform
    monkeypatch.setattr(
        Session, "_perform", lambda self, request: asked.append(request) or perform(self, request)
    )
    drawn = np.random.default_rng(1).normal(50, 10, size=(100_000, 2))
    predicted = fl.model("risk").predict(pandas.DataFrame(drawn, columns=["age", "bmi"]))
    assert len(asked) == 12
    # To the bit: the same numbers, and SQL adds up as numpy does.
    assert np.array_equal(predicted["prediction"].to_numpy(), 1.0 + drawn[:, 0] * 0.5 + drawn[:, 1] * 0.25)


def test_more_features_than_a_function_has_arguments(fl: FederatedLearning) -> None:
    drawn = np.random.default_rng(2).normal(size=(50, 150))
    predicted = fl.model("wide").predict(pandas.DataFrame(drawn, columns=WIDE))
    np.testing.assert_allclose(predicted["prediction"], drawn @ np.arange(150.0), rtol=1e-9)


def test_a_version_is_named_by_number_or_tag(
    cluster: Cluster, catalog: psycopg.Connection, fl: FederatedLearning
) -> None:
    publish_version(cluster, catalog.info.dbname, "risk", intercept=2.0, slopes=(0.5, 0.25))
    catalog.execute("CALL federated.execute('TAG FEDERATED MODEL risk VERSION 1 AS ''first''')")
    model = fl.model("risk")
    row = {"age": 1.0, "bmi": 0.0}
    assert [model.predict(row, version=version) for version in (None, 1, "first", 2)] == [2.5, 1.5, 1.5, 2.5]
    assert [model.predict([row], version=version) for version in (None, 1, "first", 2)] == [
        [2.5],
        [1.5],
        [1.5],
        [2.5],
    ]
    assert [version.tags for version in model.versions()] == [["first"], []]
    model_of_operator = FederatedLearning(cluster.dsn(catalog.info.dbname)).model("risk")
    model_of_operator.promote("first")
    assert model.predict(row) == 1.5


def test_nothing_in_nothing_out(fl: FederatedLearning) -> None:
    model = fl.model("risk")
    assert model.predict([]) == []
    empty = model.predict(pandas.DataFrame({"age": [], "bmi": []}))
    assert (empty.columns.tolist(), len(empty)) == (["prediction"], 0)
    assert model.predict([{}]) == [model.predict({})]


@pytest.mark.parametrize(
    ("model", "given", "sqlstate", "said"),
    [
        ("risk", {"height": 2}, "42703", 'has no feature "height"'),
        ("risk", [{"height": 2}], "42703", 'has no feature "height"'),
        ("risk", {"age": math.nan}, "22023", 'feature "age" is nan'),
        ("risk", [{"age": 1}, {"age": math.inf}], "22023", 'feature "age" in row 1 is inf'),
        ("risk", [{"age": "old"}], "22P02", "invalid input syntax"),
        ("risk", {"age": [1.0]}, "22023", "must be a number"),
        ("nobody", {"age": 1}, "42704", '"nobody" does not exist'),
        ("nobody", [{"age": 1}], "42704", '"nobody" does not exist'),
        ("untrained", {"age": 1}, "55000", "has no trained version"),
        ("untrained", [{"age": 1}], "55000", "has no trained version"),
        ("risk@none", [{"age": 1}], "42704", "none"),
    ],
)
def test_bad_input_is_one_clear_error(
    fl: FederatedLearning, model: str, given: Any, sqlstate: str, said: str
) -> None:
    with pytest.raises(FederatedLearningError, match=said) as refused:
        fl.model(model).predict(given)
    assert refused.value.sqlstate == sqlstate
    assert fl.model("risk").predict({"age": 0, "bmi": 0}) in (1.0, 2.0)


async def test_the_asyncio_twin_predicts_the_same(
    cluster: Cluster, catalog: psycopg.Connection, fl: FederatedLearning
) -> None:
    frame = pandas.DataFrame(FRAME)
    async with AsyncFederatedLearning(cluster.dsn(catalog.info.dbname, user="an_analyst")) as other:
        predicted = await other.model("risk").predict(frame)
        assert await other.model("risk").predict({"age": 1.0}) == fl.model("risk").predict({"age": 1.0})
        with pytest.raises(FederatedLearningError, match="does not exist"):
            await other.model("nobody").predict(frame)
    assert predicted.equals(fl.model("risk").predict(frame))


def test_what_is_no_database_of_the_product_says_so(cluster: Cluster) -> None:
    with pytest.raises(FederatedLearningError, match="is not in this database") as refused:
        FederatedLearning(cluster.dsn("template1")).models()
    assert refused.value.sqlstate == "3F000"
    with pytest.raises(FederatedLearningError) as refused:
        FederatedLearning("host=127.0.0.1 port=1 password=hunter2 connect_timeout=5").models()
    assert refused.value.sqlstate == "08001"
    assert "hunter2" not in str(refused.value)


def test_names_of_other_schemas_are_never_called(
    cluster: Cluster, catalog: psycopg.Connection, fl: FederatedLearning
) -> None:
    """Whoever may make a schema that stands on the caller's search_path makes no function that the SDK calls."""
    catalog.execute(
        "CREATE SCHEMA decoy; GRANT USAGE ON SCHEMA decoy TO PUBLIC;"
        "CREATE FUNCTION decoy.federated_predict(text, jsonb) RETURNS float8 LANGUAGE sql AS 'SELECT -1.0::float8';"
        "ALTER ROLE an_analyst SET search_path = decoy, public"
    )
    try:
        with FederatedLearning(cluster.dsn(catalog.info.dbname, user="an_analyst")) as caught:
            assert caught.model("risk").predict({"age": 0, "bmi": 0}) > 0
    finally:
        catalog.execute("ALTER ROLE an_analyst RESET search_path")
