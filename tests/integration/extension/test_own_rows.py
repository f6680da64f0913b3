"""federated_evaluate over a query: the figures of every kind of model on the caller's own rows, as oracles have them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from psycopg import errors
from sklearn import metrics

from federated_sql import rewrite
from heliosdb.algorithms.concordance import count_pairs
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from tests.integration.extension.own_rows_support import (
    ENCODING,
    ROWS,
    World,
    evaluate,
    forest,
    linear,
    network,
    of_two_classes,
    predicted,
    softmax,
    values,
)
from tests.integration.extension.versions_support import execute
from tests.support.cluster import Cluster
from tests.support.publication import publish_prediction

NEWTON = ", optimizer = 'newton'"
LABELS = ", target_classes = ['x', 'y', 'z']"
COUNTED = ", weights = 'share', offset = 'exposure'"


@pytest.fixture(scope="module")
def shared_world(cluster: Cluster) -> Iterator[World]:
    """A model of each kind, for tests that change none of them."""
    with cluster.connect(cluster.create_database("federated_template")) as session:
        execute(session, "CREATE FEDERATED WORKSPACE open WITH (min_nodes = 3)")
        made = World(cluster, session)
        for name, algorithm, target, prediction, options in (
            ("odds", "logistic_regression", "ill", linear("logistic"), ""),
            ("net", "logistic_regression", "ill", network(), ""),
            ("forest", "logistic_regression", "ill", forest([[0.2], [0.5], [0.75]], "logistic"), ""),
            ("weighted", "logistic_regression", "ill", linear("logistic"), ", weights = 'share'" + NEWTON),
            ("sort", "logistic_regression", "kind", softmax(), LABELS),
            (
                "tree",
                "logistic_regression",
                "kind",
                forest([[0.5, 0.3], [0.1, 0.8], [0.4, 0.2]], "softmax"),
                LABELS,
            ),
            ("half", "logistic_regression", "cost", linear("logistic"), ", target_classes = ['0.1', '-2.5']"),
            ("price", "linear_regression", "cost", linear("identity"), ""),
            ("counts", "poisson_regression", "visits", linear("exp"), COUNTED + NEWTON),
            ("hazard", "cox_regression", "months", linear("exp"), ", event = 'died'" + NEWTON),
        ):
            made.publish(name, algorithm, target, prediction, options)
        yield made


@pytest.fixture
def world(shared_world: World) -> World:
    """The same, with no notice heard."""
    shared_world.notices.clear()
    shared_world.details.clear()
    return shared_world


def test_two_classes(world: World) -> None:
    found = world.evaluate("odds")
    expected = of_two_classes(world.columns["ill"], predicted(world, "odds"))
    assert values(found) == pytest.approx({"rows": ROWS, "rows_left_out": 0} | expected, rel=1e-9, abs=1e-9)
    assert found["rows"] == (ROWS, None, None, None)
    for name in expected:
        value, error, low, high = found[name]
        assert None not in (value, error, low, high)
        assert low < value < high, name  # type: ignore[operator]
        assert 2.5 * error < high - low < 5.5 * error, name  # type: ignore[operator]
    assert world.notices == []


def test_the_same_seed_gives_the_same_intervals_and_versions_are_named(world: World) -> None:
    world.publish("again", "logistic_regression", "ill", linear("logistic"))
    publish_prediction(
        world.cluster, world.session.info.dbname, "again", linear("logistic"), encoding=ENCODING
    )
    execute(world.session, "TAG FEDERATED MODEL again VERSION 1 AS 'first'")
    found = world.evaluate("again", resamples=200)
    for reference in ("again@first", "again@1", "again@001", "again@2"):
        assert world.evaluate(reference, resamples=200, seed=0) == found
    other = world.evaluate("again", resamples=200, seed=-1)
    assert values(other) == values(found)
    assert other["auc"][1:] != found["auc"][1:]
    narrow = world.evaluate("again", resamples=200, confidence=0.5)
    assert found["auc"][2] < narrow["auc"][2] < narrow["auc"][3] < found["auc"][3]  # type: ignore[operator]
    without = world.evaluate("again", resamples=0)
    assert values(without) == values(found)
    assert {figures[1:] for figures in without.values()} == {(None, None, None)}


@pytest.mark.parametrize("model", ["net", "forest"])
def test_what_numpy_computes(world: World, model: str) -> None:
    found = values(world.evaluate(model, resamples=0))
    expected = of_two_classes(world.columns["ill"], predicted(world, model))
    # Networks sum in float32, in another order for one row than for many.
    assert found == pytest.approx({"rows": ROWS, "rows_left_out": 0} | expected, rel=1e-5, abs=1e-5)


def test_more_rows_than_a_block(world: World) -> None:
    many = "SELECT a, b, ill FROM own, generate_series(1, 60)"
    found, once = (
        values(world.evaluate("net", many, resamples=0)),
        values(world.evaluate("net", resamples=0)),
    )
    assert found.pop("rows") == 60 * once.pop("rows")  # type: ignore[operator]
    assert found == pytest.approx(once)


def test_several_classes_by_their_labels(world: World) -> None:
    y = world.columns["kind"]
    for name in ("sort", "tree"):
        p = np.array(
            [
                [share[label] for label in "xyz"]
                for (share,) in world.session.execute(
                    "SELECT federated_predict_proba(%s, jsonb_build_object('a', a, 'b', b)) FROM own ORDER BY id",
                    [name],
                )
            ]
        )
        guess = np.array(["x", "y", "z"])[p.argmax(axis=1)]
        shares = np.array([np.mean(y == label) for label in "xyz"])
        averaged = {"average": "macro", "zero_division": 0.0}
        expected = {
            "rows": ROWS, "rows_left_out": 0,
            "loss": metrics.log_loss(y, p), "base_loss": -(shares * np.log(shares)).sum(),
            "accuracy": metrics.accuracy_score(y, guess),
            "precision": metrics.precision_score(y, guess, **averaged),
            "recall": metrics.recall_score(y, guess, **averaged),
            "f1_score": metrics.f1_score(y, guess, **averaged),
            "brier": np.square(p - (y[:, None] == np.array(["x", "y", "z"]))).sum(axis=1).mean(),
        }  # fmt: skip
        assert values(world.evaluate(name, resamples=0)) == pytest.approx(expected), name


def test_a_number(world: World) -> None:
    predicted, y = 0.25 + world.a - 0.5 * world.b, world.columns["cost"]
    found = world.evaluate("price")
    assert values(found) == pytest.approx(
        {
            "rows": ROWS, "rows_left_out": 0, "loss": metrics.mean_squared_error(y, predicted), "base_loss": np.var(y),
            "rmse": metrics.root_mean_squared_error(y, predicted), "mae": metrics.mean_absolute_error(y, predicted),
            "r2": metrics.r2_score(y, predicted),
        }
    )  # fmt: skip
    # The standard error of a mean is known.
    errors_of_rows = np.square(y - predicted)
    assert found["loss"][1] == pytest.approx(errors_of_rows.std() / math.sqrt(ROWS), rel=0.1)


def test_counts_with_weights_and_an_offset(world: World) -> None:
    score, y, w = 0.25 + world.a - 0.5 * world.b, world.columns["visits"], world.columns["share"]
    for query, mean, weight in (
        ("SELECT * FROM own", np.exp(score + world.columns["exposure"]), w),
        ("SELECT a, b, visits, share FROM own", np.exp(score), w),
        ("SELECT a, b, visits, exposure FROM own", np.exp(score + world.columns["exposure"]), None),
    ):
        weighted = {"sample_weight": weight}
        assert values(world.evaluate("counts", query, resamples=0)) == pytest.approx(
            {
                "rows": ROWS, "rows_left_out": 0, "loss": metrics.mean_squared_error(y, mean, **weighted),
                "base_loss": np.average(np.square(y - np.average(y, weights=weight)), weights=weight),
                "rmse": metrics.root_mean_squared_error(y, mean, **weighted),
                "mae": metrics.mean_absolute_error(y, mean, **weighted), "r2": metrics.r2_score(y, mean, **weighted),
                "mean_poisson_deviance": metrics.mean_poisson_deviance(y, mean, **weighted),
            }
        )  # fmt: skip
    assert world.notices == ['the query has no column "exposure": predictions are for an offset of 0']


def test_weighted_rows_are_as_many_equal_ones(world: World) -> None:
    found = values(world.evaluate("weighted", resamples=0))
    expected = of_two_classes(world.columns["ill"], predicted(world, "odds"), world.columns["share"])
    assert found == pytest.approx({"rows": ROWS, "rows_left_out": 0} | expected, rel=1e-8, abs=1e-9)
    repeated = "SELECT a, b, ill FROM own, generate_series(1, share)"
    again = values(world.evaluate("weighted", repeated, resamples=0))
    assert again.pop("rows") == world.columns["share"].sum()
    del found["rows"]
    assert again == pytest.approx(found)


def test_survivors(world: World) -> None:
    found = world.evaluate("hazard", resamples=200)
    pairs = count_pairs(
        world.columns["months"], world.columns["died"].astype(float), predicted(world, "hazard")
    )
    assert values(found) == pytest.approx(
        {"rows": ROWS, "rows_left_out": 0, "c_index": pairs.ordered / pairs.comparable}
    )
    value, error, low, high = found["c_index"]
    assert low < value < high  # type: ignore[operator]
    assert 0.01 < error < 0.03  # type: ignore[operator]


def test_what_lacks_a_value_is_left_out_and_counted(world: World) -> None:
    query = (
        "SELECT CASE WHEN id % 7 <> 0 THEN a END AS a, b, CASE WHEN id % 5 <> 0 THEN ill END AS ill,"
        " CASE WHEN id % 3 <> 0 THEN 1 END AS share FROM own"
    )
    found = values(world.evaluate("weighted", query, resamples=0))
    number = np.arange(ROWS)
    kept = (number % 5 != 0) & (number % 3 != 0)
    # A feature that is NULL counts as in predictions.
    calls = "SELECT federated_model.odds(a => CASE WHEN id % 7 <> 0 THEN a END, b => b) FROM own ORDER BY id"
    p = np.array([one for (one,) in world.session.execute(calls)])
    expected = {"rows": kept.sum(), "rows_left_out": (~kept).sum()} | of_two_classes(
        world.columns["ill"][kept], p[kept]
    )
    assert found == pytest.approx(expected)


def test_whole_subjects_are_drawn(world: World) -> None:
    # Ten equal rows of each subject say no more than one does.
    tenfold = "SELECT * FROM own, generate_series(1, 10) ORDER BY id"
    once = world.evaluate("price")["loss"][1]
    by_row = world.evaluate("price", tenfold)["loss"][1]
    by_subject = world.evaluate("price", tenfold, subject="id")
    assert by_row == pytest.approx(once / math.sqrt(10), rel=0.15)  # type: ignore[operator]
    assert by_subject["loss"][1] == pytest.approx(once, rel=0.15)
    assert by_subject["subjects"] == (ROWS, None, None, None)
    assert by_subject["rows"][0] == 10 * ROWS


def test_undefined_figures_are_null_with_the_reason(world: World) -> None:
    details = world.details
    found = world.evaluate("odds", "SELECT -5 AS a, b, false AS ill FROM own", resamples=0)
    undefined = {"precision", "recall", "f1_score", "auc", "calibration_intercept", "calibration_slope"}
    assert {name for name, figures in found.items() if figures[0] is None} == undefined
    assert world.notices == ['not every figure of federated model "odds" is known']
    assert "auc is not defined: the rows are of one class" in details[0]
    assert "precision is not defined: no row is predicted positive" in details[0]

    apart = world.evaluate("odds", "SELECT a, b, a > 0.5 * b AS ill FROM own", resamples=100)
    assert (apart["auc"][0], apart["calibration_slope"]) == (1.0, (None, None, None, None))
    assert (
        "calibration_slope is not defined: the probabilities separate the classes, or are all the same"
        in details[1]
    )

    alike = world.evaluate("price", "SELECT a, b, 0.1::float8 AS cost FROM own", resamples=100)
    assert (alike["r2"][0], alike["base_loss"][0]) == (None, None)
    assert "r2 is not defined: the targets are all the same" in details[2]

    few = world.evaluate("odds", "SELECT a, b, id = 3 AS ill FROM own WHERE id < 20", resamples=400)
    without = details[3].split("auc is not defined in ")[1].split(" of 400")[0]
    assert 0.2 * 400 < int(without) < 0.5 * 400
    assert few["auc"][2] is not None
    # Where auc is not defined for want of a class, nor is what corrects the probabilities.
    assert details[3].count(f"is not defined in {without} of 400") == 4


@pytest.mark.parametrize(
    ("query", "options", "what"),
    [
        ("SELECT * FROM own LIMIT 1", {}, "one row"),
        ("SELECT *, 'x' AS ward FROM own", {"subject": "ward"}, "one subject"),
    ],
)
def test_of_one_row_or_subject_there_is_no_interval(
    world: World, query: str, options: dict[str, str], what: str
) -> None:
    found = world.evaluate("price", query, **options)
    assert found["mae"][0] is not None
    assert {figures[1:] for figures in found.values()} == {(None, None, None)}
    assert f"of {what} there are no intervals" in world.details[0]
    world.details.clear()
    world.evaluate("price", query, resamples=0, **options)
    assert not any("intervals" in detail for detail in world.details)


def test_features_that_the_query_has_not_are_named(world: World) -> None:
    missing = world.evaluate("odds", "SELECT a, NULL::float8 AS b, ill FROM own", resamples=0)
    assert world.notices == []
    assert world.evaluate("odds", 'SELECT a, b AS "B", ill FROM own', resamples=0) == missing
    world.evaluate("counts", "SELECT b, visits FROM own", resamples=0)
    assert world.notices == [
        "features that the query has not count as missing",
        "features that the query has not count as missing",
        'the query has no column "exposure": predictions are for an offset of 0',
    ]
    assert [detail for detail in world.details if detail] == ["They are b.", "They are a."]


def test_a_row_whose_prediction_is_not_a_number_is_left_out(world: World) -> None:
    query = "SELECT CASE WHEN id < 5 THEN 'NaN' ELSE a END AS a, b, ill FROM own"
    found = world.evaluate("odds", query, resamples=0)
    assert (found["rows"][0], found["rows_left_out"][0]) == (ROWS - 5, 5)
    with pytest.raises(errors.NoDataFound) as caught:
        world.evaluate("odds", "SELECT 'NaN'::float8 AS a, ill FROM own", resamples=0)
    assert "a prediction that is a number" in (caught.value.diag.message_detail or "")


def test_huge_values_have_figures(world: World) -> None:
    found = world.evaluate("price", "SELECT a, b, 1e308 * (id % 2) AS cost FROM own", resamples=100)
    assert all(figure is None or math.isfinite(figure) for figures in found.values() for figure in figures)
    sure = values(world.evaluate("odds", "SELECT 1e300 * a AS a, b, ill FROM own WHERE a <> 0", resamples=0))
    assert 0 < sure["loss"] < 745  # type: ignore[operator]


def test_class_labels_of_any_type_of_column(world: World) -> None:
    expected = world.evaluate("odds", resamples=0)
    for target in (
        "ill::integer", "ill::integer::numeric", "ill::integer::text", "ill::integer::char(5)", "ill::integer::real"
    ):  # fmt: skip
        found = world.evaluate("odds", f"SELECT a, b, {target} AS ill FROM own ORDER BY id", resamples=0)
        assert found == expected, target
    real = "SELECT a, b, CASE WHEN ill THEN -2.5 ELSE 0.1 END::real AS cost FROM own ORDER BY id"
    assert world.evaluate("half", real, resamples=0) == expected


@pytest.mark.parametrize(
    ("arguments", "sqlstate", "message"),
    [
        ("'odds', NULL", "22004", "the query must not be null"),
        ("NULL, 'SELECT 1'", "22004", "the name of a federated model must not be null"),
        ("'nothing', 'SELECT 1'", "42704", 'federated model "nothing" does not exist'),
        ("'odds@9', 'SELECT 1'", "42704", 'federated model "odds" has no version "9"'),
        ("'odds', 'SELECT a, b FROM own'", "42703", 'the query has no column "ill", the target of federated model "odds"'),
        ("'odds', 'SELECT ill FROM own'", "42703", 'the query has no column that is a feature of federated model "odds"'),
        ("'odds', 'SELECT a, a, ill FROM own'", "42702", 'the query has more than one column "a"'),
        ("'odds', 'SELECT * FROM own', subject => 'nobody'", "42703", 'the query has no column "nobody", which subject names'),
        ("'odds', 'SELECT a, ill, NULL::text AS who FROM own', subject => 'who'", "22023",
         "the column that names a row's subject must not be null"),
        ("'odds', 'SELECT a, 2 AS ill FROM own'", "22023", "the target must be one of the model's classes in every row"),
        ("'odds', 'SELECT a, ''maybe'' AS ill FROM own'", "22023", "the target must be one of the model's classes in every row"),
        ("'odds', 'SELECT a, ill FROM own WHERE false'", "P0002",
         'the query has no row by which federated model "odds" can be judged'),
        ("'odds', 'SELECT a, NULL::boolean AS ill FROM own'", "P0002",
         'the query has no row by which federated model "odds" can be judged'),
        ("'odds', 'SELECT * FROM own', resamples => NULL", "22004", "resamples, confidence and seed must not be null"),
        ("'odds', 'SELECT * FROM own', resamples => -1", "22023", "resamples must be from 0 to 100000, not -1"),
        ("'odds', 'SELECT * FROM own', resamples => 30", "22023",
         "30 resamples are too few for an interval at a confidence of 0.95"),
        ("'odds', 'SELECT * FROM own', confidence => 'NaN'", "22023", "confidence must be more than 0 and less than 1, not NaN"),
        ("'odds', 'SELECT * FROM own', confidence => 1", "22023", "confidence must be more than 0 and less than 1, not 1"),
        ("'odds', 'SELECT a, ill FROM nowhere'", "42P01", 'relation "nowhere" does not exist'),
        ("'odds', 'SELECT 1/(id - 7) AS a, ill FROM own'", "22012", "division by zero"),
        ("'odds', 'SELECT 1; DROP TABLE own'", "42P11", "cannot open multi-query plan as cursor"),
        ("'odds', 'SELECT a, ill FROM own) AS q; DROP TABLE own; --'", "42601", None),
        ("'odds', 'SELECT a, ill FROM own) AS q, (SELECT 2'", "42601", None),
        ("'odds', 'DELETE FROM own RETURNING a, ill'", None, None),
        ("'odds', 'WITH d AS (DELETE FROM own RETURNING a, ill) SELECT * FROM d'", None, None),
        ("'odds', ''", None, None),
        ("'price', 'SELECT a, ''1'' AS cost FROM own'", "42804", 'column "cost" of the query is of type text'),
        ("'counts', 'SELECT a, -1 AS visits FROM own'", "22023", "the target, a count, must be 0 or more in every row"),
        ("'counts', 'SELECT a, visits, 0 AS share FROM own'", "22023", "a row's weight must be more than 0"),
        ("'hazard', 'SELECT a, months FROM own'", "42703", 'the query has no column "died", the event of federated model "hazard"'),
        ("'hazard', 'SELECT a, months, 2 AS died FROM own'", "22023",
         "the event column must be true or false, or 0 or 1, in every row"),
        ("'hazard', 'SELECT a, -months AS months, died FROM own'", "22023",
         "the target, a survival time, must be 0 or more in every row"),
    ],
)  # fmt: skip
def test_bad_arguments_get_one_clear_error(
    world: World, arguments: str, sqlstate: str | None, message: str | None
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        world.session.execute(f"SELECT * FROM federated_evaluate({arguments})")  # type: ignore[arg-type]
    assert sqlstate is None or caught.value.sqlstate == sqlstate
    assert message is None or caught.value.diag.message_primary == message
    assert "Traceback" not in str(caught.value)
    assert world.session.execute("SELECT count(*) FROM own").fetchall() == [(ROWS,)]


@pytest.fixture
def analyst(world: World) -> Iterator[psycopg.Connection]:
    """A connection of an analyst, beside `shared_world`."""
    with world.cluster.connect(world.session.info.dbname, user="an_analyst") as connection:
        yield connection


def test_a_query_has_the_callers_names_and_rights(world: World, analyst: psycopg.Connection) -> None:
    query = "SELECT * FROM own ORDER BY id"
    for model in ("odds", "net"):
        assert evaluate(analyst, model, query, resamples=0) == world.evaluate(model, resamples=0)
    analyst.execute("SET search_path = public, pg_temp")
    analyst.execute(
        "CREATE TEMP TABLE mine AS SELECT id AS row, a, id AS found, ill AS source, ill FROM own LIMIT 9"
    )
    assert evaluate(analyst, "net", "SELECT * FROM mine", resamples=0)["rows"][0] == 9
    world.session.execute("CREATE TABLE hidden AS SELECT * FROM own")
    with pytest.raises(errors.InsufficientPrivilege, match="permission denied for table hidden"):
        evaluate(analyst, "odds", "SELECT * FROM hidden")


def test_a_batch_that_numpy_computes_may_have_any_columns(world: World) -> None:
    query = "SELECT 7 AS row, a, 'x'::char(5) AS padded, 'y'::bpchar AS free, 1::numeric(9, 2) AS n FROM own ORDER BY id LIMIT 5"
    batch = "SELECT a, prediction FROM federated_predict_batch('net', %s) AS (row int, a float8, padded char(5), free bpchar, n numeric(9, 2), prediction float8)"
    found = world.session.execute(batch, [query]).fetchall()
    expected = world.session.execute(
        "SELECT a, federated_model.net(a => a) FROM own ORDER BY id LIMIT 5"
    ).fetchall()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_feature_may_be_named_as_anything(world: World) -> None:
    encoding = Encoding((ColumnEncoding("row"), ColumnEncoding("row 0")))
    execute(
        world.session,
        "CREATE FEDERATED MODEL odd IN WORKSPACE open WITH (algorithm = 'logistic_regression',"
        " features = ['row', 'row 0'], target = 'ill')",
    )
    publish_prediction(world.cluster, world.session.info.dbname, "odd", network(), encoding=encoding)
    renamed = 'SELECT a AS row, b AS "row 0", ill FROM own ORDER BY id'
    assert world.evaluate("odd", renamed, resamples=0) == world.evaluate("net", resamples=0)


@pytest.mark.parametrize("model", ["odds", "net"])
def test_who_may_not_predict_may_not_evaluate(world: World, analyst: psycopg.Connection, model: str) -> None:
    with world.session.transaction(force_rollback=True):
        world.session.execute(
            f"REVOKE EXECUTE ON FUNCTION federated_model.{model}(float8, float8) FROM federated_analyst"  # type: ignore[arg-type]
        )
        world.session.execute("SET LOCAL ROLE an_analyst")
        with pytest.raises(
            errors.InsufficientPrivilege, match=f"permission denied for function federated_model.{model}"
        ):
            world.evaluate(model)
    database = world.session.info.dbname
    for user in ("an_auditor", "a_nobody"):
        with (
            world.cluster.connect(database, user=user) as other,
            pytest.raises(errors.InsufficientPrivilege),
        ):
            evaluate(other, model, "SELECT 1 AS a, true AS ill")


@pytest.mark.parametrize("model", ["odds", "hazard"])
def test_a_timeout_takes_effect_and_leaves_nothing(world: World, model: str) -> None:
    session = world.session
    query = "SELECT o.* FROM own AS o, generate_series(1, 50)"
    session.execute("SET statement_timeout = '1500ms'")
    try:
        before = session.execute("SELECT clock_timestamp()").fetchall()[0][0]
        with pytest.raises(errors.QueryCanceled):
            world.evaluate(model, query, resamples=100_000)
        after = session.execute("SELECT clock_timestamp()").fetchall()[0][0]
    finally:
        session.execute("RESET statement_timeout")
    assert (after - before).total_seconds() < 60
    assert session.execute("SELECT count(*) FROM pg_cursors WHERE name LIKE 'federated%'").fetchall() == [
        (0,)
    ]
    assert world.evaluate(model, resamples=0)["rows"][0] == ROWS


def test_of_too_many_rows_there_is_an_error(world: World) -> None:
    with pytest.raises(errors.ProgramLimitExceeded, match="more than the 250000 rows") as caught:
        world.evaluate("hazard", "SELECT 1 AS a, 2 AS months, true AS died FROM generate_series(1, 260000)")
    assert "random sample" in str(caught.value.diag.message_hint)


def test_a_column_list_is_refused(world: World) -> None:
    with pytest.raises(errors.FeatureNotSupported, match="over a query takes no column list"):
        world.session.execute(rewrite("SELECT federated_evaluate('odds', 'SELECT 1') AS (auc float8)").text)  # type: ignore[arg-type]
    listed = "SELECT federated_evaluate('odds', 'SELECT 1', resamples => 0) AS (auc float8)"
    with pytest.raises(errors.FeatureNotSupported, match="over a query takes no column list"):
        world.session.execute(rewrite(listed).text)  # type: ignore[arg-type]


def test_nothing_is_charged_and_nothing_kept(world: World) -> None:
    counts = "SELECT (SELECT count(*) FROM federated.event), (SELECT count(*) FROM federated.ledger)"
    before = world.session.execute(counts).fetchall()
    world.evaluate("odds", resamples=0)
    assert world.session.execute(counts).fetchall() == before
