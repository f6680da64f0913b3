"""The alias of a prediction in WHERE means what a user expects, and never anything else than PostgreSQL means."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg import errors

CALL = "federated_predict('m', x => x)"


def rows(session: psycopg.Connection, query: str, parameters: object = None) -> list[tuple[object, ...]]:
    return session.execute(query, parameters).fetchall()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("p > 0.7", [3, 4]),
        ("P>0.7", [3, 4]),
        ("p > 0.05 AND region = 1", [1, 2]),
        ("region = 3 OR p >= 0.9", [4, 5]),
        ("NOT p > 0.4", [1, 5]),
        ("p BETWEEN 0.4 AND 0.85", [2, 3]),
        ("p IN (0.1, 0.9)", [1, 4]),
        ("p IS DISTINCT FROM 0.1", [2, 3, 4, 5]),
        ("p IS NULL", []),
        ("round(p::numeric, 0) = 1", [2, 3, 4]),
        ("CASE WHEN region = 1 THEN p ELSE 1 - p END > 0.4", [2, 5]),
        ("EXISTS (SELECT FROM regions r WHERE r.region = customers.region AND p > 0.7)", [3, 4]),
        ("id IN (SELECT w.id + 2 FROM with_number w WHERE p > 0.5)", [4]),
        ("p = (SELECT max(c.x) FROM customers c)", [4]),
        ("p > 0.7 AND customers.ctid IS NOT NULL AND ctid IS NOT NULL", [3, 4]),
        ("p > 0.05 AND customers IS NOT NULL", [1, 2, 3, 4]),
        ("public.customers.id > 1 AND p < 0.6", [2, 5]),
        ("p > 0.7 /* many */ -- more\n", [3, 4]),
    ],
)
def test_the_alias_is_the_prediction(plain: psycopg.Connection, condition: str, expected: list[int]) -> None:
    query = f"SELECT id, {CALL} AS p FROM customers WHERE {condition}"
    assert [row[0] for row in rows(plain, f"{query} ORDER BY id")] == expected
    assert sorted(row[0] for row in rows(plain, query)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"SELECT *, {CALL} AS p FROM customers WHERE p > 0.8", [(4, 0.9, 2, 0.9)]),
        (f'SELECT id, {CALL} "P ü" FROM customers WHERE "P ü" > 0.8', [(4, 0.9)]),
        (f"SELECT id, {CALL} * 2 AS p FROM customers WHERE p > 1.7", [(4, 1.8)]),
        (f"SELECT {CALL} AS p, id FROM customers WHERE p > 0.4 ORDER BY p DESC LIMIT 2", [(0.9, 4), (0.8, 3)]),
        (
            f"SELECT {CALL} AS p, count(*) FROM customers WHERE p > 0.4 GROUP BY p HAVING count(*) = 1 ORDER BY 1",
            [(0.5, 1), (0.8, 1), (0.9, 1)],
        ),
        (f"SELECT DISTINCT {CALL} AS p FROM customers WHERE p < 0.2 ORDER BY 1", [(0.0,), (0.1,)]),
        (f"SELECT id, {CALL} AS p, rank() OVER (ORDER BY x) FROM customers WHERE p > 0.7", [(3, 0.8, 1), (4, 0.9, 2)]),
        (
            f"SELECT c.id, r.name, {CALL} AS p FROM customers c JOIN regions r ON r.region = c.region"
            " WHERE p > 0.7 AND name = 'south' ORDER BY 1",
            [(3, "south", 0.8), (4, "south", 0.9)],
        ),
        (
            f"SELECT c.id, {CALL} AS p FROM customers c LEFT JOIN regions r ON r.region = c.region AND r.region < 2,"
            " with_number w WHERE name IS NULL AND p > 0.4 AND w.id = 1 ORDER BY 1",
            None,
        ),
        ("SELECT federated_predict('m', x => c.x) AS p, 1 FROM customers AS c WHERE p > 0.8", [(0.9, 1)]),
        (f"SELECT id FROM (SELECT id, {CALL} AS p FROM customers WHERE p > 0.7) AS s WHERE p < 0.85", [(3,)]),
        (f"WITH s AS (SELECT id, {CALL} AS p FROM customers WHERE p > 0.8) SELECT id FROM s", [(4,)]),
        (
            f"SELECT id FROM customers WHERE x = 0.1 UNION ALL SELECT c FROM (SELECT id AS c, {CALL} AS p FROM customers"
            " WHERE p > 0.8) s",
            [(1,), (4,)],
        ),
        (
            "SELECT name FROM regions r WHERE EXISTS (SELECT federated_predict('m', x => c.x) AS q FROM customers c"
            " WHERE c.region = r.region AND q > 0.7)",
            [("south",)],
        ),
        (
            "SELECT name, s.p FROM regions r, LATERAL (SELECT federated_predict('m', x => c.x) AS p FROM customers c"
            " WHERE c.region = r.region AND p > 0.7 ORDER BY p LIMIT 1) AS s",
            [("south", 0.8)],
        ),
        (
            "SELECT name, s.p FROM regions r LEFT JOIN LATERAL (SELECT federated_predict('m', x => c.x) AS p"
            " FROM customers c WHERE c.region = r.region AND p > 0.8) AS s ON true ORDER BY 1",
            [("north", None), ("p", None), ("south", 0.9)],
        ),
        ("SELECT federated_predict('m', x => 0.5) AS p WHERE p > 0.4", [(0.5,)]),
        ("SELECT federated_predict('m', x => 0.5) AS p WHERE p > 0.6", []),
        (f"SELECT {CALL} AS p, federated_predict('m', x => 1 - x) AS q FROM customers WHERE p > 0.4 AND q > 0.4", [(0.5, 0.5)]),
        (f"SELECT id, {CALL} AS p FROM customers TABLESAMPLE system (100) WHERE p > 0.8", [(4, 0.9)]),
        (f"SELECT id, {CALL} AS p FROM customers JOIN regions USING (region) WHERE p > 0.8 AND region < 3 AND name <> 'p'", [(4, 0.9)]),
        ("SELECT federated_predict('m', x => c.x) AS q FROM customers c FULL JOIN with_number w USING (id) WHERE q < 0.2 AND id > 1",
         [(0.0,)]),
        ("SELECT federated_predict('m', x => c.x) AS id FROM customers c JOIN with_number w USING (id) WHERE id = 2", [(0.5,)]),
        ("SELECT federated_predict('m', x => c.x) AS q FROM customers c JOIN with_number w USING (id) WHERE q > 0 AND p > 0.5", [(0.5,)]),
        (f"SELECT id, {CALL} AS p FROM (customers JOIN regions USING (region)) AS j WHERE p > 0.8", [(4, 0.9)]),
    ],
)  # fmt: skip
def test_it_works_in_every_kind_of_query(
    plain: psycopg.Connection, query: str, expected: list[tuple[object, ...]] | None
) -> None:
    if expected is None:  # x is a column of two tables, as the server says of the statement without the alias
        with pytest.raises(errors.AmbiguousColumn):
            plain.execute(query)
        return
    assert rows(plain, query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"SELECT id, {CALL} AS p FROM with_number WHERE p > 0.7", [(2, 0.1)]),
        (f"SELECT id, {CALL} AS p FROM with_text WHERE p = 'yes'", [(2, 0.1)]),
        (f"SELECT w.id, {CALL} AS p FROM with_text w, regions WHERE p LIKE 'y%' AND name = 'p'", [(2, 0.1)]),
        # the column is one of a query around
        (
            "SELECT w.id FROM with_number w WHERE EXISTS (SELECT federated_predict('m', x => c.x) AS p"
            " FROM customers c WHERE c.id = w.id AND p > 0.7)",
            [(2,)],
        ),
        (
            "SELECT w.id, s.i FROM with_number w CROSS JOIN LATERAL (SELECT c.id AS i,"
            " federated_predict('m', x => c.x) AS p FROM customers c WHERE c.id = 3 AND p > 0.7) AS s",
            [(2, 3)],
        ),
        ("SELECT w.id, (SELECT federated_predict('m', x => c.x) AS p FROM customers c WHERE c.id = 4 AND p > 0.7)"
         " FROM with_number w ORDER BY 1", [(1, None), (2, 0.9)]),
        # a whole row
        ("SELECT federated_predict('m', x => x) AS customers FROM customers WHERE customers IS NULL", []),
        ("SELECT federated_predict('m', x => x) AS customers FROM customers WHERE customers IS NOT NULL AND id = 1", [(0.1,)]),
    ],
)  # fmt: skip
def test_what_the_name_means_to_postgresql_it_means_still(
    plain: psycopg.Connection, query: str, expected: list[tuple[object, ...]]
) -> None:
    assert rows(plain, query) == expected


def test_a_valid_statement_with_groups_around_stays_valid(plain: psycopg.Connection) -> None:
    query = (
        "SELECT count(*), (SELECT federated_predict('m', x => c.x) AS p FROM with_number c WHERE c.id = 2"
        " AND p < max(r.region)) FROM regions r"
    )
    assert rows(plain, query) == [(3, 0.1)]


def test_an_update_changes_what_a_subselect_chooses(plain: psycopg.Connection) -> None:
    chosen = (
        "SELECT id FROM (SELECT c.id, federated_predict('m', x => c.x) AS p FROM customers c WHERE p > 0.7) s"
    )
    assert plain.execute(f"UPDATE customers t SET region = 9 WHERE t.id IN ({chosen})").rowcount == 2
    assert (
        plain.execute(
            f"DELETE FROM customers t USING regions WHERE t.id IN ({chosen}) AND name = 'p'"
        ).rowcount
        == 2
    )
    inserted = f"INSERT INTO with_number SELECT id + 10, x, {CALL} AS q FROM customers WHERE q > 0.4 ON CONFLICT DO NOTHING"
    assert plain.execute(inserted).rowcount == 1  # fmt: skip


def test_parameters_keep_their_places(plain: psycopg.Connection) -> None:
    query = "SELECT id, federated_predict('m', x => x + %s) AS p FROM customers WHERE p > %s AND id < %s ORDER BY id"
    assert rows(plain, query, (1, 1.4, 4)) == [(2, 1.5), (3, 1.8)]
    plain.execute(
        "PREPARE chosen AS SELECT federated_predict('m', x => $1) AS p FROM customers WHERE p > $2 AND id = $3"
    )
    found = plain.execute(
        "SELECT parameter_types::text FROM pg_prepared_statements WHERE name = 'chosen'"
    ).fetchone()
    assert found == ('{"double precision","double precision",integer}',)
    assert rows(plain, "EXECUTE chosen(2, 1, 1)") == [(2.0,)]


def test_a_view_over_it_is_plain_sql(plain: psycopg.Connection) -> None:
    plain.execute(f"CREATE VIEW likely AS SELECT id, {CALL} AS p FROM customers WHERE p > 0.7")
    plain.execute(f"CREATE MATERIALIZED VIEW stored AS SELECT id, {CALL} AS p FROM customers WHERE p > 0.7")
    for view in ("likely", "stored"):
        assert rows(plain, f"SELECT * FROM {view} ORDER BY id") == [(3, 0.8), (4, 0.9)]


def plan_of(session: psycopg.Connection, query: str) -> list[dict[str, object]]:
    [(found,)] = session.execute(f"EXPLAIN (VERBOSE, FORMAT json) {query}").fetchall()
    stack, nodes = [(found if isinstance(found, list) else json.loads(found))[0]["Plan"]], []
    while stack:
        node = stack.pop()
        nodes.append(node)
        stack.extend(node.get("Plans", ()))
    return nodes


def test_the_planner_makes_one_scan_with_a_filter_of_it(plain: psycopg.Connection) -> None:
    nodes = plan_of(plain, f"SELECT *, {CALL} AS p FROM customers WHERE p > 0.7 AND region > 0")
    scans = [node for node in nodes if node["Node Type"] == "Seq Scan"]
    assert len(scans) == 1
    condition = str(scans[0]["Filter"])
    assert "COALESCE(customers.x" in condition
    assert "region > 0" in condition
    assert not any("federated_model" in str(node) or node["Node Type"] == "Subquery Scan" for node in nodes)


def test_other_conditions_may_use_an_index(plain: psycopg.Connection) -> None:
    plain.execute(
        "INSERT INTO customers SELECT g, g / 1e5, g % 7 FROM generate_series(10, 20000) AS g; ANALYZE customers"
    )
    nodes = plan_of(plain, f"SELECT *, {CALL} AS p FROM customers WHERE p > 0.1 AND id = 15000")
    assert [node["Index Cond"] for node in nodes if "Index Cond" in node] == ["(customers.id = 15000)"]


@pytest.mark.parametrize(
    ("typed", "at"),
    [
        ("SELECT federated_predict('nobody', x => x) AS p FROM customers WHERE p > 1", "federated_predict"),
        (f"SELECT 'ü', {CALL} AS p FROM customers WHERE p > nowhere", "nowhere"),
        ("SELECT federated_predict('m', x => nowhere) AS p FROM customers WHERE p > 1", "nowhere"),
        (f"SELECT {CALL} AS p FROM customers WHERE p > 1 ORDER BY nowhere", "nowhere"),
        (f"SELECT {CALL} AS p FROM nowhere WHERE p > 1", "nowhere"),
    ],
)
def test_an_errors_position_is_in_the_text_that_was_typed(
    plain: psycopg.Connection, typed: str, at: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        plain.execute(typed)
    assert typed[int(caught.value.diag.statement_position or 0) - 1 :].startswith(at)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT max(federated_predict('m', x => x)) AS p FROM customers WHERE p > 0",
        "SELECT federated_predict('m', x => max(x)) AS p FROM customers WHERE p > 0",
        "SELECT federated_predict('m', x => random()) AS p FROM customers WHERE p > 0",
        "SELECT federated_predict('m', x => generate_series(1, 2)) AS p FROM customers WHERE p > 0",
        f"SELECT {CALL} AS p FROM customers NATURAL JOIN regions WHERE p > 0",
        f"SELECT {CALL} AS p FROM customers WHERE p > 0 FOR UPDATE",
    ],
)
def test_on_any_doubt_the_server_says_that_there_is_no_such_column(
    plain: psycopg.Connection, query: str
) -> None:
    with pytest.raises(errors.UndefinedColumn):
        plain.execute(query)
