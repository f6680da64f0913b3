"""The forms of a prediction: by version, by row, by class, and for all rows of a query."""

from __future__ import annotations

import math

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.versions_support import execute, finish_run, value
from tests.support.cluster import Cluster


@pytest.fixture
def trained(catalog: psycopg.Connection, daemon: psycopg.Connection) -> psycopg.Connection:
    """The catalog with two versions, the first tagged, and a table of patients that analysts may read."""
    finish_run(catalog, daemon, link="logistic")
    finish_run(catalog, daemon, intercept=1.25)
    execute(catalog, "TAG FEDERATED MODEL risk VERSION 1 AS 'old'")
    catalog.execute(
        "CREATE TABLE patients (id integer, age numeric, smoker boolean, note text);"
        "INSERT INTO patients VALUES (1, 10, true, 'x'), (2, 0.1, false, 'y'), (3, NULL, NULL, NULL);"
        "GRANT SELECT ON patients TO federated_analyst; CREATE TABLE secrets (age float8)"
    )
    return catalog


@pytest.fixture
def analyst(cluster: Cluster, federated_database: str, trained: psycopg.Connection) -> psycopg.Connection:
    """An analyst's connection."""
    return cluster.connect(federated_database, user="an_analyst")


OLD = 1 / (1 + math.exp(-7.25))
ROWS = [(1, 8.25), (2, 1.25 + 0.5 * 0.1), (3, 1.25 + 0.5 * 40 + 2 * 0.5)]


def test_every_form_takes_a_version(analyst: psycopg.Connection) -> None:
    given = """'{"age": 10, "smoker": true}'::jsonb"""
    for call, expected in (
        (f"federated_predict('risk', {given})", 8.25),
        (f"federated_predict('risk@2', {given})", 8.25),
        (f"federated_predict('risk@002', {given})", 8.25),
        (f"federated_predict('risk@old', {given})", OLD),
        (f"predict('risk@1', {given})", OLD),
        ("predict('risk@old', ARRAY[10, 1])", OLD),
        ("predict('risk@1', ARRAY[10, 1]::numeric[])", OLD),
        ("predict('risk', ARRAY[10, 1]::real[])", 8.25),
        ("predict('risk@old', p) FROM patients AS p WHERE id = 1", OLD),
        ("predict('risk', ROW(p.*)::patients) FROM patients AS p WHERE id = 1", 8.25),
        ("predict('risk', s) FROM (SELECT 10 AS age, 'ignored' AS other) AS s", 1.25 + 5 + 1),
        ("predict('risk', NULL::patients)", None),
        (f"federated_predict_class('risk@old', {given})", "1"),
        ("federated_predict_class('risk@1', '{\"age\": -10, \"smoker\": false}')", "0"),
        ("federated_predict_class('risk@1', NULL)", None),
        (f"federated_predict_proba('risk@old', {given})", {"0": 1 - OLD, "1": OLD}),
        ("federated_predict_proba('risk@old', NULL)", None),
    ):
        found = value(analyst, call)
        assert found == expected or found == pytest.approx(expected, rel=1e-14), call


@pytest.mark.parametrize(
    ("call", "sqlstate", "message"),
    [
        ("federated_predict('risk@9', '{}')", "42704", 'federated model "risk" has no version "9"'),
        ("federated_predict('risk@', '{}')", "42704", 'federated model "risk" has no version ""'),
        ("predict('risk@new', ARRAY[1, 2])", "42704", 'federated model "risk" has no version "new"'),
        ("predict('nothing@old', ARRAY[1, 2])", "42704", 'federated model "nothing" does not exist'),
        ("predict('@', ARRAY[1, 2])", "42704", 'federated model "" does not exist'),
        ("predict('risk', s) FROM (SELECT 1 AS other) AS s", "42703",
         'the row has no feature of federated model "risk"'),
        ("predict('risk', ROW(1, true))", "42703", 'the row has no feature of federated model "risk"'),
        ("predict('risk', s) FROM (SELECT 2 AS smoker) AS s", "22023",
         "the value of a boolean feature must be true, false, 1 or 0, not 2"),
        ("federated_predict('risk@old', '{\"aeg\": 1}')", "42703", 'federated model "risk@old" has no feature "aeg"'),
        ("federated_predict_class('nothing', '{}')", "42704", 'federated model "nothing" does not exist'),
        ("federated_predict_proba(NULL, '{}')", "22004", "the name of a federated model must not be null"),
        ("x FROM federated_predict_batch('nothing', 'SELECT 1/0') AS (x int)", "42704",
         'federated model "nothing" does not exist'),
        ("x FROM federated_predict_batch('risk', NULL) AS (x int)", "22004", "the query must not be null"),
        ("x FROM federated_predict_batch('risk', 'SELECT 1 AS b') AS (x int)", "42703",
         'the query has no column that is a feature of federated model "risk"'),
        ("x FROM federated_predict_batch('risk', 'SELECT * FROM secrets') AS (x int)", "42501",
         "permission denied for table secrets"),
        ("x FROM federated_predict_batch('risk', 'SELECT nothing') AS (x int)", "42703",
         'column "nothing" does not exist'),
        ("x FROM federated_predict_batch('risk', 'SELECT age FROM patients; DROP TABLE patients') AS (x int)", "42P11",
         "cannot open multi-query plan as cursor"),
        ("x FROM federated_predict_batch('risk', 'SELECT 1 AS age) AS q; DROP TABLE patients; --') AS (x int)", "42601",
         None),
        ("x FROM federated_predict_batch('risk', 'SELECT 1 AS age) AS q, (SELECT 2') AS (x int)", "42601", None),
        ("x FROM federated_predict_batch('risk', 'DELETE FROM patients RETURNING age') AS (x int)", None, None),
        ("x FROM federated_predict_batch('risk', 'WITH d AS (DELETE FROM patients RETURNING age) SELECT * FROM d')"
         " AS (x int)", None, None),
        ("x FROM federated_predict_batch('risk', '') AS (x int)", None, None),
        ("x FROM federated_predict_batch('risk', 'SELECT 1 AS age') AS (x int)", "42804", None),
    ],
)  # fmt: skip
def test_bad_arguments_get_one_clear_error(
    analyst: psycopg.Connection, call: str, sqlstate: str | None, message: str | None
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        analyst.execute(f"SELECT {call}")  # type: ignore[arg-type]
    assert sqlstate is None or caught.value.sqlstate == sqlstate
    assert message is None or caught.value.diag.message_primary == message
    assert "Traceback" not in str(caught.value)
    assert value(analyst, "count(*) FROM patients") == 3


def test_a_regression_has_no_classes(
    trained: psycopg.Connection, analyst: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    execute(trained, "CREATE FEDERATED MODEL cost IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
                     " features = ['age', 'smoker'], target = 'y')")  # fmt: skip
    finish_run(trained, daemon, "cost")
    for name in ("cost", "cost@1"):
        for function in ("federated_predict_class", "federated_predict_proba"):
            with pytest.raises(
                errors.ObjectNotInPrerequisiteState, match="predicts a number and has no classes"
            ):
                analyst.execute(f"SELECT {function}('{name}', '{{}}')")  # type: ignore[arg-type]


def test_a_batch_is_one_query_with_the_callers_rights_and_search_path(
    trained: psycopg.Connection, analyst: psycopg.Connection
) -> None:
    trained.execute(
        "CREATE SCHEMA clinic; ALTER TABLE patients SET SCHEMA clinic; GRANT USAGE ON SCHEMA clinic TO an_analyst"
    )
    analyst.execute("SET search_path = clinic, public")
    batch = "SELECT * FROM federated_predict_batch('{}', '{}') AS (id integer, age numeric, smoker boolean, p float8)"
    columns = "SELECT id, age, smoker FROM patients ORDER BY id"
    for query in (columns, f"{columns} ;\n", f"{columns} -- a comment", f"/* one */ {columns}"):
        rows = analyst.execute(batch.format("risk", query)).fetchall()  # type: ignore[arg-type]
        assert [(row[0], row[3]) for row in rows] == ROWS
    [first, *_] = analyst.execute(batch.format("risk@old", columns)).fetchall()  # type: ignore[arg-type]
    assert first[3] == pytest.approx(OLD, rel=1e-14)
    assert analyst.execute(
        "SELECT * FROM federated_predict_batch('risk', 'SELECT id, 1 AS smoker, (id = 1) AS age FROM patients')"
        " AS (id integer, smoker integer, age boolean, prediction float8) ORDER BY id"
    ).fetchall() == [(1, 1, True, 3.75), (2, 1, False, 3.25), (3, 1, False, 3.25)]
    assert analyst.execute(batch.format("risk", f"{columns} OFFSET 5")).fetchall() == []  # type: ignore[arg-type]
    # What surrounds the user's query is qualified: nothing in the caller's search_path can stand in for it.
    text = value(
        trained,
        "federated._describe_batch('risk', 'risk', 'SELECT 1', '[{\"name\": \"age\", \"type\": 23}]')",
    )
    assert (
        text
        == "SELECT q.*, federated_model.risk(age => q.age::pg_catalog.float8) AS prediction FROM (SELECT 1\n) AS q"
    )
    plan = trained.execute(f"EXPLAIN (VERBOSE) {text.replace('SELECT 1', 'SELECT 1 AS age')}").fetchall()
    assert "risk" not in str(plan)


def test_who_may_not_predict_learns_nothing(
    cluster: Cluster, federated_database: str, trained: psycopg.Connection
) -> None:
    with cluster.connect(federated_database, user="a_nobody") as nobody:
        for call in ("federated_predict_class('risk', '{}')", "federated_predict_proba('nothing', '{}')",
                     "predict('risk', ROW(1))", "compare_federated_models('risk', '1', '2')",
                     "federated_model_versions('nothing')", "federated_checkpoints('risk')"):  # fmt: skip
            with pytest.raises(errors.InsufficientPrivilege) as caught:
                nobody.execute(f"SELECT {call}")  # type: ignore[arg-type]
            assert "risk" not in str(caught.value)
            assert "nothing" not in str(caught.value)
