"""Predictions in ordinary SQL call the model's own function, and columns keep their names."""

from __future__ import annotations

import pytest
from pglast import parse_sql

from federated_sql import rewrite

CALL = "federated_predict('m', a => 1)"
OURS = 'federated_model."m"( a => 1)'
NAMED = OURS + " AS federated_predict"


def changed(text: str) -> str:
    rewritten = rewrite(text)
    assert rewritten is not None
    assert set(rewritten.tags) == {None}
    parse_sql(rewritten.text)
    return rewritten.text


@pytest.mark.parametrize(
    ("call", "ours"),
    [
        (CALL, OURS),
        ("federated_predict('m', a := 1)", 'federated_model."m"( a := 1)'),
        ("public.federated_predict('m', a => 1)", OURS),
        ('"public" . "federated_predict" (\'m\', a => 1)', 'federated_model."m" ( a => 1)'),
        ("FEDERATED_PREDICT('m', a => 1)", OURS),
        ("federated_predict($$m$$, a => 1)", OURS),
        ("federated_predict(E'\\x6d', a => 1)", OURS),
        ("federated_predict('it''s \"m\"', a => 1)", 'federated_model."it\'s ""m"""( a => 1)'),
        ("federated_predict('m@v1', a => 1)", 'federated_model."m@v1"( a => 1)'),
        ("federated_predict('m@3', a => 1)", 'federated_model."m@3"( a => 1)'),
        (f"federated_predict('{'m' * 60}@v1', a => 1)", f'federated_model."{"m" * 60}@v1"( a => 1)'),
        ("federated_predict('größe', é => 'ü')", "federated_model.\"größe\"( é => 'ü')"),
        (
            "federated_predict(/* which */ 'm' -- this\n, a => (1), b => f(x, y))",
            'federated_model."m"(/* which */  a => (1), b => f(x, y))',
        ),
        (
            "federated_predict('m', a => federated_predict('n', b => 1))",
            'federated_model."m"( a => federated_model."n"( b => 1))',
        ),
        ("federated_predict('m', a => $1)", 'federated_model."m"( a => $1)'),
    ],
)
def test_a_call_with_named_features_calls_the_models_function(call: str, ours: str) -> None:
    assert changed(f"SELECT {call} AS p") == f"SELECT {ours} AS p"


JSON = "pg_catalog.jsonb_build_object("


@pytest.mark.parametrize(
    ("call", "ours"),
    [
        ("federated_predict(name, a => x, b := y)", "federated_predict(name, {}'a', x, 'b', y))"),
        ("federated_predict($1, a => 1)", "federated_predict($1, {}'a', 1))"),
        ("federated_predict('m' || 'n', a => 1)", "federated_predict('m' || 'n', {}'a', 1))"),
        ("federated_predict('m'::text, a => 1)", "federated_predict('m'::text, {}'a', 1))"),
        ("federated_predict(('m'), a => 1)", "federated_predict(('m'), {}'a', 1))"),
        ("public.federated_predict(name, a => 1)", "public.federated_predict(name, {}'a', 1))"),
        ("federated_predict('', a => 1)", "federated_predict('', {}'a', 1))"),
        (f"federated_predict('{'m' * 64}', a => 1)", f"federated_predict('{'m' * 64}', {{}}'a', 1))"),
        (f"federated_predict('{'ü' * 31}@v', a => 1)", f"federated_predict('{'ü' * 31}@v', {{}}'a', 1))"),
        ("federated_predict_class('m', a => 1)", "federated_predict_class('m', {}'a', 1))"),
        ("federated_predict_proba(name, a => 1)", "federated_predict_proba(name, {}'a', 1))"),
        ("federated_predict(n, A => 1, \"A\" => 2)", "federated_predict(n, {}'a', 1, 'A', 2))"),
        ("federated_predict(n, größe => 1, \"it's\" => 2)", "federated_predict(n, {}'größe', 1, 'it''s', 2))"),
        ("federated_predict(n, a => $1, b => ( $2 ))", "federated_predict(n, {}'a', $1::text, 'b', ( $2 )::text))"),
        ("federated_predict(n, a => $1 + 1)", "federated_predict(n, {}'a', $1 + 1))"),
        ("federated_predict(n, a /* = */ => -- x\n 1 -- y\n)", "federated_predict(n, {}'a', -- x\n 1) -- y\n)"),
        (
            "federated_predict(n, a => federated_predict('m', a => federated_predict(k, b => $1)))",
            "federated_predict(n, {}'a', federated_model.\"m\"( a => federated_predict(k, {}'b', $1::text)))))",
        ),
        ("federated_predict(f(x, y => 1), a => (1, 2))", "federated_predict(f(x, y => 1), {}'a', (1, 2)))"),
    ],
)  # fmt: skip
def test_a_model_that_is_no_functions_name_gets_its_features_as_json(call: str, ours: str) -> None:
    assert changed(f"SELECT {call}") == f"SELECT {ours.replace('{}', JSON)}"


@pytest.mark.parametrize("model", ["n", "'m'"])
def test_features_beyond_the_arguments_of_one_function_are_joined(model: str) -> None:
    given = ", ".join(f"f{number} => {number}" for number in range(101))
    parts = [
        ", ".join(f"'f{number}', {number}" for number in range(start, min(start + 50, 101)))
        for start in (0, 50, 100)
    ]
    joined = ") OPERATOR(pg_catalog.||)  ".join(JSON + part for part in parts)
    assert (
        changed(f"SELECT federated_predict({model}, {given})")
        == f"SELECT federated_predict({model}, {joined}))"
    )


def test_100_features_are_more_than_a_models_function_has() -> None:
    given = ", ".join(f"f{number} => {number}" for number in range(100))
    assert changed(f"SELECT federated_predict('m', {given})").startswith(
        "SELECT federated_predict('m', pg_catalog."
    )


def test_a_model_of_99_features_is_a_function() -> None:
    given = ", ".join(f"f{number} => {number}" for number in range(99))
    assert changed(f"SELECT federated_predict('m', {given})").startswith(
        'SELECT federated_model."m"( f0 => 0'
    )


@pytest.mark.parametrize("clause", ["WITH ORDINALITY", "AS f (v) , t"])
def test_a_call_in_from_keeps_its_name_where_it_could_not_be_given_back(clause: str) -> None:
    assert changed(f"SELECT * FROM ROWS FROM ({CALL}, g(1)) {clause}") == (
        f"SELECT * FROM ROWS FROM (federated_predict('m', {JSON}'a', 1)), g(1)) {clause}"
    )


@pytest.mark.parametrize(
    "call",
    [
        "federated_predict(n, a => 1, a => 2)",
        'federated_predict(n, a => 1, "a" => 2)',
        "federated_predict(n, VARIADIC a => 1)",
        "federated_predict_class('m')",
        "federated_predict('m', '{}'::jsonb)",
        "federated_predict('m')",
        "federated_predict()",
        "federated_predict(*)",
        "federated_predict(model => 'm', a => 1)",
        "federated_predict('m', 1, a => 1)",
        "federated_predict(DISTINCT 'm', a => 1)",
        "federated_predict('m', a => 1) OVER ()",
        "federated_predict('m', a => 1) FILTER (WHERE true)",
        "federated_predict('m', a => 1 ORDER BY 1)",
        "other.federated_predict('m', a => 1)",
        "\"FEDERATED_PREDICT\"('m', a => 1)",
        "federated_predict_batch('m', query => 'SELECT 1')",
        "'federated_predict(''m'', a => 1)'",
        "$$federated_predict('m', a => 1)$$",
    ],
)
def test_any_other_call_is_left_alone(call: str) -> None:
    assert rewrite(f"SELECT {call}") is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT {}", "SELECT {as}"),
        ("SELECT {}, {} FROM t", "SELECT {as}, {as} FROM t"),
        ("SELECT {} p, {} AS q", "SELECT {ours} p, {ours} AS q"),
        ("SELECT ({}) FROM t", "SELECT ({ours}) AS federated_predict FROM t"),
        ("SELECT {}::numeric(4, 2), 1", "SELECT {ours}::numeric(4, 2) AS federated_predict, 1"),
        (
            "SELECT {}::text::timestamp with time zone",
            "SELECT {ours}::text::timestamp with time zone AS federated_predict",
        ),
        ("SELECT CAST({} AS int)", "SELECT CAST({ours} AS int) AS federated_predict"),
        ('SELECT {} COLLATE "C"', 'SELECT {ours} COLLATE "C" AS federated_predict'),
        ("SELECT ({})[1]", "SELECT ({ours})[1] AS federated_predict"),
        (
            "SELECT CASE WHEN a IS DISTINCT FROM b THEN 0 ELSE {} END FROM t",
            "SELECT CASE WHEN a IS DISTINCT FROM b THEN 0 ELSE {ours} END AS federated_predict FROM t",
        ),
        ("SELECT CASE WHEN true THEN {} END", "SELECT CASE WHEN true THEN {ours} END"),
        ("SELECT {} + 1, -{}, NOT {}", "SELECT {ours} + 1, -{ours}, NOT {ours}"),
        ("SELECT round({}), coalesce({}, 0)", "SELECT round({ours}), coalesce({ours}, 0)"),
        ("SELECT ({}).x", "SELECT ({ours}).x"),
        ("SELECT (SELECT {})", "SELECT (SELECT {as})"),
        ("SELECT ARRAY[{}]", "SELECT ARRAY[{ours}]"),
        ("SELECT x FROM t WHERE {} > 0.5", "SELECT x FROM t WHERE {ours} > 0.5"),
        ("SELECT x FROM t GROUP BY {} ORDER BY {}", "SELECT x FROM t GROUP BY {ours} ORDER BY {ours}"),
        ("SELECT DISTINCT {} FROM t", "SELECT DISTINCT {as} FROM t"),
        ("SELECT * FROM (SELECT {} FROM t) s", "SELECT * FROM (SELECT {as} FROM t) s"),
        ("WITH p AS (SELECT {}) SELECT * FROM p", "WITH p AS (SELECT {as}) SELECT * FROM p"),
        ("SELECT {} UNION ALL SELECT {}", "SELECT {as} UNION ALL SELECT {as}"),
        ("VALUES ({})", "VALUES ({ours})"),
        (
            "INSERT INTO t SELECT {} ON CONFLICT DO NOTHING",
            "INSERT INTO t SELECT {as} ON CONFLICT DO NOTHING",
        ),
        ("INSERT INTO t VALUES ({}) RETURNING {}", "INSERT INTO t VALUES ({ours}) RETURNING {as}"),
        ("UPDATE t SET x = {} WHERE {} > 0", "UPDATE t SET x = {ours} WHERE {ours} > 0"),
        ("DELETE FROM t WHERE {} > 0 RETURNING x, {}", "DELETE FROM t WHERE {ours} > 0 RETURNING x, {as}"),
        ("CREATE VIEW v AS SELECT {}", "CREATE VIEW v AS SELECT {as}"),
        ("CREATE TABLE t AS SELECT {} WITH NO DATA", "CREATE TABLE t AS SELECT {as} WITH NO DATA"),
        ("EXPLAIN (COSTS off) SELECT {}", "EXPLAIN (COSTS off) SELECT {as}"),
        ("PREPARE p AS SELECT {}", "PREPARE p AS SELECT {as}"),
        ("CREATE MATERIALIZED VIEW v AS SELECT {}", "CREATE MATERIALIZED VIEW v AS SELECT {as}"),
        (
            "MERGE INTO t USING s ON {} > 0 WHEN MATCHED AND {} > 1 THEN UPDATE SET x = {}",
            "MERGE INTO t USING s ON {ours} > 0 WHEN MATCHED AND {ours} > 1 THEN UPDATE SET x = {ours}",
        ),
        ("SELECT t.from, {} FROM t", "SELECT t.from, {as} FROM t"),
        (
            "SELECT t.order, ({}), x AS from FROM t",
            "SELECT t.order, ({ours}) AS federated_predict, x AS from FROM t",
        ),
        (
            "SELECT CASE t.from WHEN 1 THEN 2 ELSE {} END FROM t",
            "SELECT CASE t.from WHEN 1 THEN 2 ELSE {ours} END AS federated_predict FROM t",
        ),
        ("SELECT sum({}) OVER (ORDER BY {}) FROM t", "SELECT sum({ours}) OVER (ORDER BY {ours}) FROM t"),
        ("ALTER TABLE t ADD CHECK ({} > 0)", "ALTER TABLE t ADD CHECK ({ours} > 0)"),
        ("COPY (SELECT {}) TO STDOUT", "COPY (SELECT {as}) TO STDOUT"),
        ("DECLARE c CURSOR FOR SELECT {}", "DECLARE c CURSOR FOR SELECT {as}"),
        ("SELECT * FROM {}", "SELECT * FROM {as}"),
        ("SELECT * FROM {} AS p", "SELECT * FROM {ours} AS p"),
        ("SELECT * FROM {} p(x), t", "SELECT * FROM {ours} p(x), t"),
        ("SELECT * FROM t, LATERAL {}", "SELECT * FROM t, LATERAL {as}"),
        ("SELECT 'é', {}, 'ü' FROM größe", "SELECT 'é', {as}, 'ü' FROM größe"),
        ("SELECT 1; SELECT {}; SELECT 2", "SELECT 1; SELECT {as}; SELECT 2"),
    ],
)
def test_a_column_keeps_the_name_it_had(query: str, expected: str) -> None:
    text = query.replace("{}", CALL)
    assert changed(text) == expected.replace("{as}", NAMED).replace("{ours}", OURS)


@pytest.mark.parametrize(
    "query",
    [
        "CALL {}",
        "CREATE FUNCTION f() RETURNS float8 LANGUAGE sql RETURN {}",
        "CREATE FUNCTION f() RETURNS float8 LANGUAGE sql BEGIN ATOMIC SELECT {}; END",
        "CREATE FUNCTION f() RETURNS float8 LANGUAGE sql AS $$ SELECT {} $$",
        "DO $$ BEGIN PERFORM {}; END $$",
        "SELECT {} FROM",
        "SELECT {} AS (a float8)",
        "NOT SQL AT ALL {}",
        "SELECT {}" + " + 1" * 5000,
    ],
)
def test_on_any_doubt_the_statement_is_left_alone(query: str) -> None:
    assert rewrite(query.replace("{}", CALL)) is None


def test_a_doubtful_statement_does_not_spoil_its_neighbours() -> None:
    text = f"SELECT {CALL} FROM; SELECT {CALL}; STOP FEDERATED TRAINING m"
    rewritten = rewrite(text)
    assert rewritten is not None
    assert rewritten.tags == (None, None, "STOP FEDERATED TRAINING")
    assert rewritten.text.startswith(f"SELECT {CALL} FROM; SELECT {NAMED}; CALL")


@pytest.mark.parametrize(
    "call",
    [
        """federated_predict('m', features => '{"a": 1}'::jsonb)""",
        """federated_predict_class('m', features := '{"a": 1}')""",
    ],
)
def test_the_functions_own_parameter_by_its_name_is_left_alone(call: str) -> None:
    assert rewrite(f"SELECT {call}") is None


def test_a_feature_called_features_beside_another_is_a_feature() -> None:
    rewritten = rewrite("SELECT federated_predict('m', features => 1, a => 2)")
    assert rewritten is not None
    assert rewritten.text.startswith('SELECT federated_model."m"(')
    assert "features => 1, a => 2)" in rewritten.text


ROW = '(SELECT federated_predict FROM federated_row."m"( {}) AS federated_predict)'
JOINED = "federated_prediction.federated_predict"
JOIN = ', LATERAL federated_row."m"({}) AS federated_prediction (federated_predict)'


@pytest.mark.parametrize(
    ("from_", "rest"),
    [
        ("FROM patients AS p", ""),
        ("FROM patients p", " WHERE p.id > 1"),
        ("FROM p", ""),
        ("FROM clinic.p", " LIMIT 1"),
        ("FROM a JOIN b AS p ON a.x = p.x", ""),
        ("FROM a, LATERAL (SELECT 1) AS s, v AS p", " ORDER BY 1"),
    ],
)
def test_a_call_with_a_tables_row_has_the_models_function_for_rows_in_from(from_: str, rest: str) -> None:
    text = f"SELECT federated_predict('m', p) {from_}"
    assert changed(text + rest) == f"SELECT {JOINED} {from_}{JOIN.format('p')}{rest}"


def test_a_call_with_a_row_is_found_wherever_an_expression_stands() -> None:
    call, item = 'public.federated_predict($$m$$, "P")', JOIN.format('"P"')
    for text in (
        'SELECT {0}, avg({0} + 1) OVER () FROM t AS "P"{1} WHERE {0} > 0.5 AND NOT x ORDER BY {0}',
        'SELECT avg({0} + 1) FILTER (WHERE x) FROM t AS "P"{1} GROUP BY y HAVING max({0}) < 1',
        'SELECT * FROM (SELECT {0} FROM t AS "P"{1}) AS s',
        'WITH w AS (SELECT {0} FROM t AS "P"{1}) SELECT * FROM w',
        'INSERT INTO o SELECT {0} FROM t AS "P"{1} ON CONFLICT DO NOTHING',
        'SELECT "P".*, {0} FROM t AS "P"{1}',
    ):
        assert changed(text.format(call, "")) == text.format(JOINED, item)
    assert (
        changed(f'SELECT *, {call} FROM t AS "P" WHERE x')
        == f'SELECT "P".*, {JOINED} FROM t AS "P"{item} WHERE x'
    )


@pytest.mark.parametrize(
    "text",
    [
        "SELECT {} FROM ONLY patients AS p GROUP BY p.id",
        "SELECT avg({0} + 1) FROM t AS p GROUP BY {0} HAVING max({0}) < 1",
        "CREATE VIEW v AS SELECT id, {} AS y FROM t AS p",
        "DECLARE c CURSOR FOR SELECT {} FROM t AS p",
        "SELECT *, {} FROM t AS p, u",
        "SELECT {} FROM t AS p FOR UPDATE",
        "SELECT {}, federated_predict FROM t AS p",
    ],
)
def test_where_from_must_stay_as_it_is_a_subquery_asks_for_the_row(text: str) -> None:
    assert changed(text.format("federated_predict('m', p)")) == text.format(ROW.format("p"))


def test_each_row_of_each_select_is_asked_for_once_under_a_name_of_its_own() -> None:
    call = "federated_predict('{}', {})"
    text = f"SELECT {call.format('m', 'p')}, {call.format('n', 'p')}, federated_prediction FROM t AS p{{}} UNION SELECT {call.format('m', 'q')}, 1, 2 FROM t AS q{{}}"  # fmt: skip
    found = changed(text.format("", ""))
    assert found.count("LATERAL") == 3
    names = {f"federated_prediction_{number}" for number in (1, 2, 3)}
    assert all(found.count(f"{name}.federated_predict") == 1 and f" AS {name} (" in found for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT federated_predict('m', p) FROM (SELECT 1 AS a) AS p",
        "WITH p AS (SELECT 1) SELECT federated_predict('m', p) FROM p",
        "SELECT federated_predict('m', p) FROM t AS p (a, b)",
        "SELECT federated_predict('m', p) FROM f() AS p",
        "SELECT federated_predict('m', p) FROM (a JOIN b USING (x)) AS p",
        "SELECT (SELECT federated_predict('m', p)) FROM t AS p",
        "SELECT federated_predict('m', t.p) FROM t",
        "SELECT federated_predict('m', features) FROM t",
        "SELECT federated_predict($1, p) FROM t AS p",
        "SELECT federated_predict_class('m', p) FROM t AS p",
        "SELECT federated_predict('m', p, 1) FROM t AS p",
        "SELECT other.federated_predict('m', p) FROM t AS p",
    ],
)
def test_what_may_be_no_tables_row_stays_as_it_is(text: str) -> None:
    assert rewrite(text) is None or rewrite(text).text == text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("call", "ours"),
    [
        ("federated_explain('m', a => 1, b := x)", "federated_explain('m', {}'a', 1, 'b', x))"),
        ("public.federated_explain(n, a => $1)", "public.federated_explain(n, {}'a', $1::text))"),
        ("federated_certify('m', a => 1)", "federated_certify('m', {}'a', 1))"),
        ("FEDERATED_EXPLAIN('m@tag', \"A b\" => p.x)", "FEDERATED_EXPLAIN('m@tag', {}'A b', p.x))"),
        (
            "federated_explain('m', a => federated_predict('n', b => 1))",
            "federated_explain('m', {}'a', federated_model.\"n\"( b => 1)))",
        ),
        (
            "federated_predict_experiment('e', p.id::text, a => 1, b => $1)",
            "federated_predict_experiment('e', p.id::text, {}'a', 1, 'b', $1::text))",
        ),
    ],
)
def test_an_explanation_gets_its_named_features_as_json(call: str, ours: str) -> None:
    made = ours.replace("{}", JSON)
    assert changed(f"SELECT * FROM t AS p, {call} AS e") == f"SELECT * FROM t AS p, {made} AS e"
    assert changed(f"SELECT ({call}).feature") == f"SELECT ({made}).feature"


@pytest.mark.parametrize(
    "ours",
    [
        "t AS p, federated_explain('m'{}, seed => 1) AS e",
        "t AS p JOIN LATERAL public.federated_explain('m'{}) AS e ON true",
        "t AS p, federated_certify('m'{}) AS e",
    ],
)
def test_an_explanation_in_from_takes_a_row_of_a_table_beside_it(ours: str) -> None:
    schema = "public." if "public." in ours else ""
    made = ours.replace("{}", f", {schema}federated_features('m', p)")
    assert changed(f"SELECT * FROM {ours.replace('{}', ', p')}") == f"SELECT * FROM {made}"


def test_an_explanation_in_a_select_list_takes_a_row_and_keeps_its_name() -> None:
    row = "federated_features('m@2', p)"
    assert changed("SELECT federated_explain('m@2', p) FROM t AS p") == (
        f"SELECT federated_explain('m@2', {row}) FROM t AS p"
    )


@pytest.mark.parametrize(
    "text",
    [
        "federated_explain(n, p) FROM t AS p",
        "federated_explain('m', q) FROM t AS p",
        "federated_explain('m', p) FROM (SELECT 1) AS p",
        "(SELECT federated_explain('m', p)) FROM t AS p",
        "* FROM t AS p, LATERAL (SELECT * FROM federated_explain('m', p)) AS e",
    ],
)
def test_what_may_be_no_row_is_explained_as_it_is_written(text: str) -> None:
    assert rewrite(f"SELECT {text}") is None


FOLLOWS = "experiment => 'e', experiment_key => p.k"


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (f"a => 1, b => $1, {FOLLOWS}", f"{JSON}'a', 1, 'b', $1::text), {FOLLOWS}"),
        (f"{FOLLOWS}, a => 1, b => 2", f"{FOLLOWS}, features => {JSON}'a', 1, 'b', 2)"),
        (f"p, {FOLLOWS}", f"federated_features('m', p), {FOLLOWS}"),
    ],
)
def test_a_prediction_that_follows_an_experiment_gets_its_features_as_json(given: str, ours: str) -> None:
    assert changed(f"SELECT federated_predict('m', {given}) FROM t AS p") == (
        f"SELECT federated_predict('m', {ours}) FROM t AS p"
    )


@pytest.mark.parametrize(
    "given",
    [
        f"'{{}}', {FOLLOWS}",
        f"features => '{{}}', {FOLLOWS}",
        FOLLOWS,
        "a => 1, experiment => 'e', b => 2, experiment_key => p.k",
    ],
)
def test_any_other_follower_stays_as_it_is(given: str) -> None:
    assert rewrite(f"SELECT federated_predict('m', {given}) FROM t AS p") is None


def test_one_name_of_the_two_alone_is_a_feature() -> None:
    assert changed("SELECT federated_predict('m', experiment => 1)") == (
        'SELECT federated_model."m"( experiment => 1) AS federated_predict'
    )


@pytest.mark.parametrize(
    "call",
    [
        "federated_explain('m')",
        "federated_explain('m', '{}')",
        "federated_explain('m', features => '{}')",
        "federated_explain('m', features => '{}', samples => 9, seed => 1)",
        "federated_explain('m', '{}', samples => 9)",
        "federated_explain(model => 'm', a => 1)",
        "federated_explain('m', a => 1, a => 2)",
        "federated_explain_model('m')",
        "federated_predict_experiment('e', 'k')",
        "federated_predict_experiment('e', 'k', '{}')",
        "federated_predict_experiment('e', 'k', features => '{}')",
        "federated_predict_experiment('e', a => 1)",
        "federated_predict_experiment('e', key => 'k', a => 1)",
        "other.federated_explain('m', a => 1)",
    ],
)
def test_any_other_explanation_stays_as_it_is(call: str) -> None:
    assert rewrite(f"SELECT * FROM {call}") is None
