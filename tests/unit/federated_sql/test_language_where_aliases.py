"""The alias of a prediction in WHERE: the text around stays, and what is not certain is left alone.

What the changed statements mean is shown on a server (tests/integration/rewriting).
"""

from __future__ import annotations

import pytest
from pglast import parse_sql

from federated_sql import Rewrite, rewrite

CALL = "federated_predict('m', a => x)"
OURS = 'federated_model."m"( a => x)'


def changed(text: str) -> Rewrite:
    rewritten = rewrite(text)
    assert rewritten is not None
    parse_sql(rewritten.text)
    return rewritten


def filtered(expression: str, scopes: str, where: str, ends: str) -> str:
    return f"LATERAL (SELECT FROM (SELECT {expression}) AS federated_alias, {scopes} WHERE {where}{ends}) AS federated_filter"


ROW = 'LATERAL (SELECT FROM (SELECT "t".*) AS federated_row'
END = ") AS federated_scope"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"SELECT {CALL} AS p FROM t WHERE p > 1", f"SELECT {OURS} AS p FROM t, {filtered(f'{OURS} AS p', ROW, 'p > 1', END)}"),
        (
            f"SELECT *, {CALL} \"P\" FROM s.t -- c\nWHERE \"P\" > 1 -- d\nORDER BY 1; SELECT 1",
            f'SELECT *, {OURS} "P" FROM s.t, LATERAL (SELECT FROM (SELECT {OURS} AS "P") AS federated_alias, {ROW} -- c\n'
            f'WHERE "P" > 1{END}) AS federated_filter -- d\nORDER BY 1; SELECT 1',
        ),
        (f"SELECT {CALL} AS p WHERE p > 1", f"SELECT {OURS} AS p FROM (SELECT FROM (SELECT {OURS} AS p) AS federated_alias"
         " WHERE p > 1) AS federated_filter"),
        ("SELECT federated_predict('m', '{}') AS p FROM t WHERE p > 1",
         f"""SELECT federated_predict('m', '{{}}') AS p FROM t, {filtered("federated_predict('m', '{}') AS p", ROW, "p > 1", END)}"""),
        (
            f"SELECT {CALL} AS p FROM \"Ö\" AS \"a\"\"b\" WHERE p > 1",
            f"SELECT {OURS} AS p FROM \"Ö\" AS \"a\"\"b\", "
            + filtered(f"{OURS} AS p", 'LATERAL (SELECT FROM (SELECT "a""b".*) AS federated_row', "p > 1", END),
        ),
        (
            f"INSERT INTO u SELECT {CALL} AS p FROM t WHERE p > 1 ON CONFLICT DO NOTHING",
            f"INSERT INTO u SELECT {OURS} AS p FROM t, {filtered(f'{OURS} AS p', ROW, 'p > 1', END)} ON CONFLICT DO NOTHING",
        ),
        (
            f"SELECT {CALL} AS p FROM t, federated_row, federated_alias WHERE p > 1",
            f"SELECT {OURS} AS p FROM t, federated_row, federated_alias, LATERAL (SELECT FROM (SELECT {OURS} AS p)"
            ' AS federated_alias_1, LATERAL (SELECT FROM (SELECT "t".*) AS federated_row_1, (SELECT "federated_row".*)'
            f' AS federated_row_2, (SELECT "federated_alias".*) AS federated_row_3 WHERE p > 1{END}) AS federated_filter',
        ),
    ],
)  # fmt: skip
def test_the_condition_moves_to_where_both_are_seen(query: str, expected: str) -> None:
    assert changed(query).text == expected


@pytest.mark.parametrize(
    "query",
    [
        "SELECT {} AS p FROM t",
        "SELECT {} AS p FROM t WHERE x > 1",
        "SELECT {} AS p FROM t WHERE t.p > 1",
        "SELECT {} AS p FROM t ORDER BY p",
        "SELECT {} AS p FROM t HAVING p > 1",
        "SELECT 1 AS p FROM t WHERE p > {}",
        "SELECT max({}) AS p FROM t WHERE p > 1",
        "SELECT f({}) AS p FROM t WHERE p > 1",
        "SELECT {} + f(x) AS p FROM t WHERE p > 1",
        "SELECT {} + other.round(x) AS p FROM t WHERE p > 1",
        "SELECT {} + (SELECT 1) AS p FROM t WHERE p > 1",
        "SELECT {} + round(x) OVER () AS p FROM t WHERE p > 1",
        "SELECT {} AS p, 2 AS p FROM t WHERE p > 1",
        "SELECT {} AS t FROM t WHERE t > 1",
        "SELECT {} AS p FROM s AS p WHERE p > 1",
        "SELECT {} AS p FROM t, other.t WHERE p > 1",
        "SELECT {} AS p FROM a JOIN b USING (id) WHERE p > 1 AND id > 1 AND EXISTS (SELECT id FROM c)",
        "SELECT {} AS p FROM a JOIN b USING (id) AS j WHERE p > 1",
        "SELECT * FROM a JOIN b USING (id), LATERAL (SELECT {} AS p FROM t WHERE p > 1) AS s",
        "SELECT {} AS p FROM a NATURAL JOIN b WHERE p > 1",
        "SELECT {} AS p FROM f(1) WHERE p > 1",
        "SELECT {} AS p FROM ROWS FROM (f(1)) WHERE p > 1",
        "SELECT {} AS p FROM t WHERE p > 1 FOR UPDATE",
        "SELECT * FROM (SELECT {} AS p FROM t WHERE p > 1) AS s FOR SHARE",
        "SELECT (SELECT {} AS p FROM t WHERE p > 1) FROM a JOIN b USING (id)",
        "SELECT (SELECT {} AS p FROM t WHERE p > 1) FROM t",
        "SELECT count(*), (SELECT {} AS p FROM t WHERE p > 1) FROM a",
        "SELECT a.x, (SELECT {} AS p FROM t WHERE p > 1) FROM a GROUP BY x",
        "SELECT * FROM a JOIN b ON (SELECT {} AS p FROM t WHERE p > 1) > 0",
        "SELECT * FROM a RIGHT JOIN LATERAL (SELECT {} AS p FROM t WHERE p > 1) AS s ON true",
        "SELECT * FROM f((SELECT {} AS p FROM t WHERE p > 1)) AS s",
        "SELECT 1 UNION SELECT 2 ORDER BY (SELECT {} AS p FROM t WHERE p > 1)",
        "INSERT INTO a VALUES (1) ON CONFLICT (x) DO UPDATE SET x = (SELECT {} AS p FROM t WHERE p > 1)",
        "MERGE INTO a USING b ON true WHEN MATCHED THEN UPDATE SET x = (SELECT {} AS p FROM t WHERE p > 1)",
        "CREATE POLICY l ON a USING ((SELECT {} AS p FROM t WHERE p > 1) > 0)",
        "CREATE RULE r AS ON INSERT TO a DO ALSO SELECT {} AS p FROM t WHERE p > 1",
        "UPDATE t SET x = {} WHERE p > 1",
        "DELETE FROM t WHERE p > 1 RETURNING {} AS p",
    ],
)
def test_on_any_doubt_only_the_calls_are_changed(query: str) -> None:
    assert changed(query.replace("{}", CALL)).text == query.replace("{}", OURS)


def test_columns_merged_by_using_are_found_under_their_names() -> None:
    query = f'SELECT {CALL} AS p FROM a JOIN b USING (id, "K", z) WHERE p > id AND "K" > 1'
    merged = f'{OURS} AS p) AS federated_alias, (SELECT "id" AS federated_column, "K" AS federated_column_1'
    rows = 'LATERAL (SELECT FROM (SELECT "a".*) AS federated_row, (SELECT "b".*) AS federated_row_1, '
    named = '(SELECT federated_merged.federated_column AS "id", federated_merged.federated_column_1 AS "K")'
    assert changed(query).text == (
        f'SELECT {OURS} AS p FROM a JOIN b USING (id, "K", z), LATERAL (SELECT FROM (SELECT {merged}) AS'
        f' federated_merged, {rows}LATERAL (SELECT FROM {named} AS federated_row_2 WHERE p > id AND "K" > 1'
        ") AS federated_scope_1) AS federated_scope) AS federated_filter"
    )


def test_the_expression_is_not_repeated_over_and_over() -> None:
    query = f"SELECT {CALL} AS p FROM t WHERE p > 1"
    for level in range(12):
        query = f"SELECT federated_predict('m', a => (SELECT q FROM ({query}) AS s{level})) AS q FROM t{level} WHERE q > 1"
    assert len(changed(query).text) < 2 * len(query)


def test_positions_lead_back_to_the_text_that_was_typed() -> None:
    typed = "SELECT 'ü', federated_predict('m', a => wrong) AS p FROM t WHERE p > later ORDER BY last"
    rewritten = changed(typed)
    for word in ("wrong", "later", "last", "WHERE"):
        start = 0
        while (start := rewritten.text.find(word, start)) >= 0:
            assert rewritten.original_position(start + 1) == typed.index(word) + 1
            start += 1
    copy = rewritten.text.rindex('federated_model."m"')
    assert copy > rewritten.text.index("LATERAL")
    assert rewritten.original_position(copy + 1) == typed.index("federated_predict") + 1
