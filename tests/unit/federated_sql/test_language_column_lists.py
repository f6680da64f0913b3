"""A column list behind a scalar call is moved as it was typed; what is no such list is left alone."""

from __future__ import annotations

import pytest
from pglast import parse_sql

from federated_sql import rewrite

RECORDS = "pg_catalog.jsonb_to_recordset(federated._evaluate_columns("
LIST = "federated_evaluate('m') AS (a FLOAT, b JSONB)"
MOVED = RECORDS + "'m', columns => ARRAY['a', 'b'])) AS {}(a FLOAT, b JSONB)"
OURS = MOVED.format("federated_evaluate")


def changed(text: str) -> str:
    rewritten = rewrite(text)
    assert rewritten is not None
    assert set(rewritten.tags) == {None}
    parse_sql(rewritten.text)
    return rewritten.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"SELECT {LIST}", f"SELECT federated_evaluate.* FROM {OURS}"),
        (f"SELECT {LIST};", f"SELECT federated_evaluate.* FROM {OURS};"),
        (f"SELECT {LIST} FROM t", f"SELECT federated_evaluate.* FROM t, LATERAL {OURS}"),
        (f"SELECT x, {LIST}, y FROM t WHERE x", f"SELECT x, federated_evaluate.*, y FROM t, LATERAL {OURS} WHERE x"),
        (f"SELECT {LIST} ORDER BY 1", f"SELECT federated_evaluate.* FROM {OURS} ORDER BY 1"),
        (f"SELECT {LIST} -- c\nLIMIT 1", f"SELECT federated_evaluate.* FROM {OURS} -- c\nLIMIT 1"),
        (f"SELECT {LIST} INTO x", f"SELECT federated_evaluate.* INTO x FROM {OURS}"),
        (f"SELECT {LIST} INTO x FROM t", f"SELECT federated_evaluate.* INTO x FROM t, LATERAL {OURS}"),
        (f"SELECT {LIST} UNION SELECT 1", f"SELECT federated_evaluate.* FROM {OURS} UNION SELECT 1"),
        (
            f"SELECT {LIST} FROM a JOIN b ON conflict, c JOIN d ON c.x IS DISTINCT FROM d.x GROUP BY 1",
            f"SELECT federated_evaluate.* FROM a JOIN b ON conflict, c JOIN d ON c.x IS DISTINCT FROM d.x, LATERAL {OURS}"
            " GROUP BY 1",
        ),
        (
            f"INSERT INTO t SELECT {LIST} FROM a JOIN b ON c ON CONFLICT DO NOTHING",
            f"INSERT INTO t SELECT federated_evaluate.* FROM a JOIN b ON c, LATERAL {OURS} ON CONFLICT DO NOTHING",
        ),
        (f"INSERT INTO t SELECT {LIST} RETURNING a", f"INSERT INTO t SELECT federated_evaluate.* FROM {OURS} RETURNING a"),
        (f"CREATE TABLE t AS SELECT {LIST} WITH NO DATA", f"CREATE TABLE t AS SELECT federated_evaluate.* FROM {OURS} WITH NO DATA"),
        (f"CREATE VIEW v AS SELECT {LIST} FROM t WITH CHECK OPTION",
         f"CREATE VIEW v AS SELECT federated_evaluate.* FROM t, LATERAL {OURS} WITH CHECK OPTION"),
        (f"EXPLAIN SELECT {LIST}", f"EXPLAIN SELECT federated_evaluate.* FROM {OURS}"),
        (f"SELECT * FROM (SELECT {LIST}) s", f"SELECT * FROM (SELECT federated_evaluate.* FROM {OURS}) s"),
        (f"WITH s AS (SELECT {LIST}) TABLE s", f"WITH s AS (SELECT federated_evaluate.* FROM {OURS}) TABLE s"),
        (
            f"SELECT {LIST}, {LIST}",
            f"SELECT federated_evaluate.*, federated_evaluate_1.* FROM {OURS}, LATERAL {MOVED.format('federated_evaluate_1')}",
        ),
        (
            f"SELECT {LIST} FROM federated_evaluate",
            f"SELECT federated_evaluate_1.* FROM federated_evaluate, LATERAL {MOVED.format('federated_evaluate_1')}",
        ),
        ("SELECT federated_evaluate() AS (\"A'\" INT)",
         "SELECT federated_evaluate.* FROM " + RECORDS + "columns => ARRAY['A'''])) AS federated_evaluate(\"A'\" INT)"),
        ("SELECT Federated_Evaluate ($1) (A numeric(4, 2), größe \"char\"[])",
         "SELECT federated_evaluate.* FROM " + RECORDS + "$1, columns => ARRAY['a', 'größe'])) AS"
         " federated_evaluate(A numeric(4, 2), größe \"char\"[])"),
        (
            "SELECT federated_evaluate(federated_predict('m', a => 1)) AS (a FLOAT), federated_predict('m', a => 1)",
            "SELECT federated_evaluate.*, federated_model.\"m\"( a => 1) AS federated_predict FROM "
            + RECORDS + "federated_model.\"m\"( a => 1), columns => ARRAY['a'])) AS federated_evaluate(a FLOAT)",
        ),
        (f"SELECT * FROM {LIST}", "SELECT * FROM " + MOVED.format("federated_evaluate ")),
        ("SELECT * FROM federated_evaluate('m') e (a FLOAT)", f"SELECT * FROM {RECORDS}'m', columns => ARRAY['a'])) e (a FLOAT)"),
        ("SELECT * FROM federated_evaluate('m') AS e(a FLOAT) JOIN t ON true",
         f"SELECT * FROM {RECORDS}'m', columns => ARRAY['a'])) AS e(a FLOAT) JOIN t ON true"),
        ("SELECT * FROM federated_evaluate('m')(a FLOAT)",
         f"SELECT * FROM {RECORDS}'m', columns => ARRAY['a'])) AS federated_evaluate(a FLOAT)"),
        (
            f"SELECT {LIST} FROM federated_evaluate('m') AS (a FLOAT)",
            f"SELECT federated_evaluate_1.* FROM {RECORDS}'m', columns => ARRAY['a'])) AS federated_evaluate (a FLOAT), LATERAL "
            + MOVED.format("federated_evaluate_1"),
        ),
    ],
)  # fmt: skip
def test_the_list_moves_behind_a_record_function(query: str, expected: str) -> None:
    assert changed(query) == expected


@pytest.mark.parametrize(
    ("function", "internal"),
    [
        ("federated_compliance_check", "_compliance_check_columns"),
        ("public.federated_security_audit", "_security_audit_columns"),
        ('"federated_data_quality_check"', "_data_quality_check_columns"),
    ],
)
def test_each_function_has_an_internal_one(function: str, internal: str) -> None:
    name = function.removeprefix("public.").strip('"')
    assert changed(f"SELECT {function}('w', 'HIPAA') AS (a TEXT)") == (
        f"SELECT {name}.* FROM pg_catalog.jsonb_to_recordset(federated.{internal}('w', 'HIPAA',"
        f" columns => ARRAY['a'])) AS {name}(a TEXT)"
    )


@pytest.mark.parametrize(
    "query",
    [
        "SELECT federated_evaluate('m')",
        "SELECT * FROM federated_evaluate('m')",
        "SELECT * FROM federated_evaluate('m') AS e",
        "SELECT * FROM federated_evaluate('m') AS e (a, b)",
        "SELECT * FROM federated_evaluate('m') WITH ORDINALITY AS e (a, b, c)",
        "SELECT federated_evaluate('m') OVER (PARTITION BY x)",
        "SELECT federated_evaluate('m') FILTER (WHERE x)",
        "SELECT federated_evaluate('m') AS a, (SELECT b) FROM t",
        "SELECT federated_evaluate('m') IN (SELECT x)",
        "SELECT federated_evaluate('m') AS (a FLOAT) + 1",
        "SELECT federated_evaluate('m') AS (a FLOAT) x",
        "SELECT federated_evaluate('m') AS x (a FLOAT)",
        "SELECT federated_evaluate('m') AS (a)",
        "SELECT federated_evaluate('m') AS ()",
        "SELECT federated_evaluate('m') AS (a FLOAT,)",
        "SELECT federated_evaluate('m') AS (select FLOAT)",
        "SELECT federated_evaluate('m') AS (a FLOAT",
        "SELECT federated_evaluate('m' AS (a FLOAT)",
        f"SELECT federated_evaluate('m') AS ({'a' * 64} FLOAT)",
        "SELECT federated_evaluate AS (a FLOAT)",
        "SELECT other.federated_evaluate('m') AS (a FLOAT)",
        "SELECT f('m') AS (a FLOAT)",
        "SELECT 1 WHERE federated_evaluate('m') AS (a FLOAT)",
        "SELECT * FROM ROWS FROM (federated_evaluate('m') AS (a FLOAT))",
        "INSERT INTO t VALUES (1) RETURNING federated_evaluate('m') AS (a FLOAT)",
        "UPDATE t SET x = federated_evaluate('m') AS (a FLOAT)",
        "CALL federated_evaluate('m') AS (a FLOAT)",
        f"SELECT '{LIST.replace(chr(39), chr(39) * 2)}'",
        f"DO $$ BEGIN PERFORM {LIST}; END $$",
        f"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT {LIST}; END",
    ],
)
def test_everything_else_is_left_alone(query: str) -> None:
    assert rewrite(query) is None


def test_positions_lead_back_to_the_text_that_was_typed() -> None:
    typed = "SELECT 'ü', federated_evaluate(wrong_argument) AS (a wrong_type) FROM t WHERE later"
    rewritten = rewrite(typed)
    assert rewritten is not None
    for word in ("wrong_argument", "wrong_type", "later"):
        position = rewritten.text.rindex(word) + 1
        assert rewritten.original_position(position) == typed.index(word) + 1
    for word in ("federated_evaluate.*", "pg_catalog", "federated._evaluate_columns"):
        position = rewritten.text.index(word) + 1
        assert rewritten.original_position(position) == typed.index("federated_evaluate") + 1
