"""A column list behind a call gives one row of named and typed columns, wherever a query may stand."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

EVALUATE = "federated_evaluate('m') AS (global_accuracy FLOAT, per_node_metrics JSONB)"
CHECK = "federated_compliance_check('w', 'HIPAA') AS (requirement TEXT, status TEXT)"
ONE = (0.75, {"a": 1})
TWO = [("encryption", "PASS"), ("audit", "FAIL")]


@pytest.mark.parametrize(
    ("query", "columns", "expected"),
    [
        (f"SELECT {EVALUATE}", ["global_accuracy", "per_node_metrics"], [ONE]),
        (f"SELECT 1 AS one, {EVALUATE}, 'x' AS x", ["one", "global_accuracy", "per_node_metrics", "x"], [(1, *ONE, "x")]),
        (f"SELECT {CHECK} ORDER BY 1", ["requirement", "status"], TWO[::-1]),
        (f"SELECT {CHECK} WHERE status = 'FAIL'", ["requirement", "status"], TWO[1:]),
        (f"SELECT {CHECK} LIMIT 1", ["requirement", "status"], TWO[:1]),
        (f"SELECT id, {CHECK} FROM customers WHERE id < 3 AND status = 'PASS' ORDER BY id",
         ["id", "requirement", "status"], [(1, *TWO[0]), (2, *TWO[0])]),
        (f"SELECT * FROM (SELECT {EVALUATE}) AS s", ["global_accuracy", "per_node_metrics"], [ONE]),
        (f"WITH s AS (SELECT {EVALUATE}) SELECT global_accuracy FROM s", ["global_accuracy"], [(0.75,)]),
        ("SELECT federated_evaluate(name) AS (global_recall INT) FROM regions ORDER BY 1", ["global_recall"], [(1,), (5,), (5,)]),
        ("SELECT federated_evaluate('a') AS (global_recall INT), federated_evaluate('abc') AS (global_recall INT)",
         ["global_recall", "global_recall"], [(1, 3)]),
        ("SELECT federated_evaluate('m')/**/AS-- c\n(\"Größe\" /* , */ numeric(4, 2), -- c\n global_recall\tINT -- )\n)",
         ["Größe", "global_recall"], [(3, 1)]),
        ("SELECT public.federated_evaluate(model => 'm') AS (global_accuracy FLOAT)", ["global_accuracy"], [(0.75,)]),
        (f"SELECT federated_evaluate.x, {EVALUATE} FROM customers AS federated_evaluate WHERE id = 1",
         ["x", "global_accuracy", "per_node_metrics"], [(0.1, *ONE)]),
        (f"SELECT {EVALUATE} UNION ALL SELECT 1, NULL", ["global_accuracy", "per_node_metrics"], [ONE, (1, None)]),
        (f"SELECT * FROM {CHECK}", ["requirement", "status"], TWO),
        (f"SELECT federated_compliance_check.status FROM {CHECK}", ["status"], [("PASS",), ("FAIL",)]),
        ("SELECT c.* FROM federated_compliance_check('w', 'GDPR') AS c (details TEXT)", ["details"], [("w",), ("GDPR",)]),
        ("SELECT c.* FROM federated_compliance_check('w', 'GDPR') c (details TEXT)", ["details"], [("w",), ("GDPR",)]),
        ("SELECT * FROM federated_security_audit('w') (check_name TEXT, recommendation TEXT)",
         ["check_name", "recommendation"], [("tls", "w")]),
        ("SELECT r.name, a.recommendation FROM regions r CROSS JOIN federated_security_audit(r.name) AS a (recommendation TEXT)"
         " WHERE r.region = 1", ["name", "recommendation"], [("north", "north")]),
        ("SELECT federated_data_quality_check('m') AS (node_name TEXT, feature_statistics JSONB)",
         ["node_name", "feature_statistics"], [("a", {"age": 1})]),
        ("SELECT federated_predict('m', x => 0.5), federated_evaluate('m') AS (global_accuracy FLOAT)",
         ["federated_predict", "global_accuracy"], [(0.5, 0.75)]),
    ],
)  # fmt: skip
def test_the_columns_are_those_of_the_list(
    plain: psycopg.Connection, query: str, columns: list[str], expected: list[tuple[object, ...]]
) -> None:
    cursor = plain.execute(query)
    assert [column.name for column in cursor.description or ()] == columns
    assert cursor.fetchall() == expected


def test_several_statements_in_one_message(plain: psycopg.Connection) -> None:
    cursor = plain.execute(f"SELECT 1; SELECT {EVALUATE}; SELECT * FROM {CHECK}; SELECT 2")
    found = [cursor.fetchall()]
    while cursor.nextset():
        found.append(cursor.fetchall())
    assert found == [[(1,)], [ONE], TWO, [(2,)]]


def test_a_view_and_a_table_can_be_made_of_it(plain: psycopg.Connection) -> None:
    plain.execute(f"CREATE VIEW v AS SELECT {EVALUATE}")
    plain.execute(f"CREATE TABLE t AS SELECT {CHECK} WITH DATA")
    plain.execute(f"INSERT INTO t SELECT {CHECK} ON CONFLICT DO NOTHING")
    assert plain.execute("SELECT * FROM v").fetchall() == [ONE]
    assert plain.execute("SELECT * FROM t").fetchall() == TWO * 2


def test_a_prepared_statement_with_an_untyped_parameter(plain: psycopg.Connection) -> None:
    query = "SELECT federated_evaluate(%s) AS (global_recall INT) WHERE %s > 0"
    for model, length in (("abc", 3), ("größe", 5)):
        assert plain.execute(query, (model, 1), prepare=True).fetchall() == [(length,)]


@pytest.mark.parametrize(
    ("typed", "state", "at"),
    [
        ("SELECT federated_evaluate('m') AS (global_acuracy FLOAT)", "42703", None),
        ("SELECT 'ü', federated_evaluate('m') AS (global_accuracy FLOTE)", "42704", "FLOTE"),
        ("SELECT federated_evaluate(nowhere) AS (global_accuracy FLOAT) FROM customers", "42703", "nowhere"),
        (
            "SELECT * FROM federated_evaluate('m', 1) AS (global_accuracy FLOAT)",
            "42883",
            "federated_evaluate",
        ),
        ("SELECT federated_evaluate('m', 1) AS (global_accuracy FLOAT)", "42883", "federated_evaluate"),
    ],
)
def test_errors_point_into_the_text_that_was_typed(
    plain: psycopg.Connection, typed: str, state: str, at: str | None
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        plain.execute(typed)
    assert caught.value.sqlstate == state
    position = caught.value.diag.statement_position
    assert position is None if at is None else typed[int(position or 0) - 1 :].startswith(at)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT federated_evaluate('m') AS (a FLOAT) + 1",
        "SELECT federated_evaluate('m') AS (a FLOAT) AS b",
        "UPDATE customers SET id = federated_evaluate('m') AS (a FLOAT)",
        "SELECT 1 WHERE federated_evaluate('m') AS (a FLOAT)",
        "SELECT other.federated_evaluate('m') AS (a FLOAT)",
        "SELECT federated_evaluate('m') AS (a)",
    ],
)
def test_a_list_elsewhere_is_the_servers_syntax_error(plain: psycopg.Connection, query: str) -> None:
    with pytest.raises(errors.SyntaxError):
        plain.execute(query)
