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
        # As likely as the other: the first, as an evaluation has it.
        ("federated_predict_class('risk@1', '{\"age\": -0.5, \"smoker\": false}')", "0"),
        ("federated_predict_class('risk@1', NULL)", None),
        (f"federated_predict_proba('risk@old', {given})", {"0": 1 - OLD, "1": OLD}),
        ("federated_predict_proba('risk@old', NULL)", None),
    ):
        found = value(analyst, call)
        assert found == expected or found == pytest.approx(expected, rel=1e-14), call


BAD_ARGUMENTS = [
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
]  # fmt: skip


def test_bad_arguments_get_one_clear_error(analyst: psycopg.Connection, subtests: pytest.Subtests) -> None:
    for call, sqlstate, message in BAD_ARGUMENTS:
        with subtests.test(call=call):
            with pytest.raises(psycopg.Error) as caught:
                analyst.execute(f"SELECT {call}")  # type: ignore[arg-type]
            assert sqlstate is None or caught.value.sqlstate == sqlstate
            assert message is None or caught.value.diag.message_primary == message
            assert "Traceback" not in str(caught.value)
            assert value(analyst, "count(*) FROM patients") == 3


def test_without_features_all_of_them_are_missing(analyst: psycopg.Connection) -> None:
    means = 1.25 + 0.5 * 40 + 2 * 0.5
    for call, expected in (
        ("federated_predict('risk')", means),
        ("federated_predict('risk', '{}')", means),
        ("federated_model.risk()", means),
        ("federated_predict_class('risk@old')", "1"),
    ):
        assert value(analyst, call) == expected, call
    assert value(analyst, "federated_predict_proba('risk@old')")["1"] > 0.99
    with pytest.raises(errors.UndefinedObject, match='federated model "nothing" does not exist'):
        analyst.execute("SELECT federated_predict('nothing')")


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
        "statement FROM federated._describe_batch('risk', 'SELECT 1', '[{\"name\": \"age\", \"type\": 23}]')",
    )
    assert (
        text
        == "SELECT q.*, federated_model.risk(age => federated._as_number(q.age)) AS prediction FROM (SELECT 1\n) AS q"
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


ROW_FUNCTIONS = (
    "SELECT proname::text || '(' || pg_get_function_arguments(oid) || ')' FROM pg_proc"
    " WHERE pronamespace = 'federated_row'::regnamespace ORDER BY 1"
)


def row_functions(session: psycopg.Connection, *names: str) -> bool:
    """Whether these names, and no others, have their forms for JSON and for arrays."""
    found = [signature for (signature,) in session.execute(ROW_FUNCTIONS).fetchall()]
    return found == sorted(
        f"{name}({form})"
        for name in names
        for form in ("anyelement", "double precision[]", "jsonb", "jsonb, boolean")
    )


@pytest.mark.parametrize(
    "call", ["predict('risk', p)", "predict('risk@old', p)", "predict('risk', ARRAY[id, 1]::float8[])",
             "federated_predict('risk', jsonb_build_object('age', id, 'smoker', true))"]
)  # fmt: skip
def test_a_model_and_its_features_are_not_looked_up_for_each_row(
    trained: psycopg.Connection, call: str
) -> None:
    trained.execute("INSERT INTO patients SELECT i, i, true FROM generate_series(4, 200) AS i")
    scans = (
        "coalesce(sum(seq_scan + idx_scan), 0)::int FROM pg_stat_xact_all_tables"
        " WHERE schemaname = 'federated' AND relname IN ('model', 'version')"
    )
    with trained.transaction():
        before = value(trained, scans)
        assert value(trained, f"count({call}) FROM patients AS p") == 200
        assert value(trained, scans) - before < 10


def test_rows_of_any_type_are_predicted_in_one_session(
    trained: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    trained.execute(
        "CREATE TABLE others (smoker integer, age text, age2 numeric); INSERT INTO others VALUES (1, ' 10', 3)"
    )
    for query, expected in (
        ("predict('risk', p) FROM patients AS p WHERE id = 1", 8.25),
        ("predict('risk', o) FROM others AS o", 8.25),
        ("predict('risk', s) FROM (SELECT true AS age, 'f' AS smoker) AS s", 1.75),
        (
            "predict('risk', s) FROM (SELECT 10::smallint AS age, 't'::text AS smoker, NULL AS note) AS s",
            8.25,
        ),
        ("predict('risk', s) FROM (SELECT NULL::float8 AS age, 0.0 AS smoker) AS s", 21.25),
        ("predict('risk', s) FROM (SELECT '-Infinity'::float8 AS age) AS s", -math.inf),
        ("predict('risk', s) FROM (SELECT -1e-5 AS age, false AS smoker) AS s", 1.25 - 5e-6),
        ("predict('risk', s) FROM (SELECT .1::float8 AS age, false AS smoker) AS s", 1.25 + 0.5 * 0.1),
        ("predict('risk', ROW(NULL, NULL, NULL, NULL)::patients)", 22.25),
    ):
        assert value(trained, query) == pytest.approx(expected, rel=1e-15), query
    trained.execute("SET extra_float_digits = -15")
    row = "FROM (SELECT 1.2345678901234567::float8 AS age, false AS smoker) AS s"
    assert value(trained, f"predict('risk', s) = federated_model.risk(age => age, smoker => smoker) {row}")
    trained.execute("RESET extra_float_digits")
    assert math.isnan(value(trained, "predict('risk', s) FROM (SELECT 'NaN'::float8 AS age) AS s"))
    trained.execute("ALTER TABLE patients ALTER age TYPE text, DROP smoker")
    assert value(trained, "predict('risk', p) FROM patients AS p WHERE id = 1") == 7.25
    for given, sqlstate in (("'x'", "22P02"), ("ARRAY[1]", "22023"), ("1e400", "22003")):
        with pytest.raises(psycopg.Error) as caught:
            value(trained, f"predict('risk', s) FROM (SELECT {given} AS age) AS s")
        assert caught.value.sqlstate == sqlstate, given


def test_another_version_is_seen_in_the_transaction_that_makes_it_current(
    trained: psycopg.Connection,
) -> None:
    query = "predict('risk', p) FROM patients AS p WHERE id = 1"
    with trained.transaction(force_rollback=True):
        assert value(trained, query) == 8.25
        execute(trained, "ROLLBACK FEDERATED MODEL risk TO VERSION 'old'")
        assert value(trained, query) == pytest.approx(OLD, rel=1e-15)
    assert value(trained, query) == 8.25


def test_forms_for_rows_follow_their_model(trained: psycopg.Connection, analyst: psycopg.Connection) -> None:
    assert row_functions(trained, "risk", "risk@1", "risk@2", "risk@old")
    execute(trained, "ALTER FEDERATED MODEL risk RENAME TO hazard")
    assert row_functions(trained, "hazard", "hazard@1", "hazard@2", "hazard@old")
    assert value(analyst, "predict('hazard@old', p) FROM patients AS p WHERE id = 1") == pytest.approx(OLD)
    assert value(analyst, "federated_predict('hazard', '{\"age\": 10, \"smoker\": true}')") == 8.25
    trained.execute("DELETE FROM federated.tag")
    assert row_functions(trained, "hazard", "hazard@1", "hazard@2")
    execute(trained, "DROP FEDERATED MODEL hazard")
    assert row_functions(trained)


def test_what_has_no_form_for_rows_is_predicted_all_the_same(
    trained: psycopg.Connection, analyst: psycopg.Connection
) -> None:
    """A dump of an earlier release brings models without them."""
    trained.execute(
        "DROP FUNCTION federated_row.risk(jsonb, boolean), federated_row.risk(float8[]),"
        ' federated_row."risk@old"(jsonb, boolean), federated_row."risk@old"(float8[])'
    )
    assert value(analyst, "predict('risk', p) FROM patients AS p WHERE id = 1") == 8.25
    assert value(analyst, "predict('risk@old', ARRAY[10, 1])") == pytest.approx(OLD)
    assert value(analyst, "predict('risk', s) FROM (SELECT 10 AS age, 'ignored' AS other) AS s") == 7.25
    with pytest.raises(errors.UndefinedColumn, match="the row has no feature"):
        analyst.execute("SELECT predict('risk', s) FROM (SELECT 1 AS other) AS s")


def test_a_name_that_would_be_cut_is_no_other_models(
    trained: psycopg.Connection, daemon: psycopg.Connection
) -> None:
    name = "n" * 63
    execute(trained, f"CREATE FEDERATED MODEL {name} IN WORKSPACE clinics WITH"
                     " (algorithm = 'linear_regression', features = ['age', 'smoker'], target = 'y')")  # fmt: skip
    finish_run(trained, daemon, name)
    assert value(trained, f"predict('{name}', ARRAY[10, 1])") == 7.25
    with pytest.raises(errors.UndefinedObject, match="does not exist"):
        trained.execute(f"SELECT predict('{name}n', ARRAY[10, 1])")  # type: ignore[arg-type]


def test_nobody_without_the_role_calls_a_form_for_rows(
    cluster: Cluster, federated_database: str, trained: psycopg.Connection
) -> None:
    trained.execute("GRANT SELECT ON patients TO PUBLIC")
    with cluster.connect(federated_database, user="a_nobody") as nobody:
        for call in ("predict('risk', p)", "federated_row.risk(to_jsonb(p), true)"):
            with pytest.raises(errors.InsufficientPrivilege):
                nobody.execute(f"SELECT {call} FROM patients AS p")  # type: ignore[arg-type]


def test_names_in_the_callers_search_path_do_not_take_part_in_a_prediction(
    trained: psycopg.Connection,
) -> None:
    trained.execute(
        "CREATE SCHEMA mine; CREATE FUNCTION mine.other(jsonb, text) RETURNS text LANGUAGE sql RETURN '99';"
        "CREATE OPERATOR mine.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = mine.other);"
        "CREATE FUNCTION mine.float8(text) RETURNS float8 LANGUAGE sql RETURN 99;"
        "SET search_path = mine, public, pg_catalog"
    )
    assert value(trained, "predict('risk', p) FROM patients AS p WHERE id = 1") == 8.25
    assert value(trained, 'federated_row.risk(\'{"age": 10, "smoker": true}\', false)') == 8.25
