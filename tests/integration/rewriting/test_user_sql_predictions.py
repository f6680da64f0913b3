"""Named features in every position of a query, with the extension's own functions behind the proxy."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

CALL = "federated_predict('risk', age => age, smoker => smoker = 1)"
ALL = [5.25, 12.25, 20.25]


def column(session: psycopg.Connection, query: str, parameters: object = None) -> list[object]:
    return [row[0] for row in session.execute(query, parameters).fetchall()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"SELECT {CALL} FROM p ORDER BY id", ALL),
        (f"SELECT {CALL} FROM p ORDER BY {CALL} DESC", ALL[::-1]),
        (f"SELECT max({CALL}) FROM p GROUP BY {CALL} > 10 ORDER BY 1", [5.25, 20.25]),
        (f"SELECT sum({CALL}) OVER (ORDER BY {CALL}) FROM p", [5.25, 17.5, 37.75]),
        (f"SELECT rank() OVER w FROM p WINDOW w AS (PARTITION BY {CALL} > 10 ORDER BY id)", [1, 1, 2]),
        (f"SELECT max({CALL}) FILTER (WHERE {CALL} < 20) FROM p", [12.25]),
        (f"SELECT id FROM p WHERE {CALL} BETWEEN 6 AND 13", [2]),
        (f"SELECT CASE WHEN {CALL} > 10 THEN 'high' ELSE 'low' END FROM p ORDER BY id", ["low", "high", "high"]),
        (f"SELECT id FROM p GROUP BY id HAVING max({CALL}) > 20", [3]),
        (f"SELECT s.v FROM p, LATERAL (SELECT {CALL} AS v) AS s ORDER BY 1", ALL),
        (f"SELECT v FROM p, LATERAL {CALL} AS v ORDER BY 1", ALL),
        ("SELECT v FROM p, LATERAL federated_predict('risk', age => age) WITH ORDINALITY AS f (v, n) ORDER BY 1", [6.25, 11.25, 21.25]),
        (f"WITH s AS (SELECT {CALL} AS v FROM p) SELECT v FROM s ORDER BY v", ALL),
        (f"SELECT (SELECT {CALL} FROM p WHERE id = 2)", [12.25]),
        ("SELECT q.id FROM p JOIN p AS q ON q.id = 1 AND federated_predict('risk', age => p.age) > 20", [1]),
        ("SELECT federated_predict('risk', age => federated_predict('risk', age => 10, smoker => false), smoker => true)", [4.875]),
        ("SELECT public.federated_predict('risk', age := 10, smoker := false)", [5.25]),
        ("SELECT federated_predict(E'r\\x69sk', age => 10, smoker => false)", [5.25]),
        ("SELECT federated_predict($m$risk$m$, age => 10, smoker => false)", [5.25]),
        ("SELECT federated_predict('Größe & co', \"Höhe\" => 10, \"b c\" => 1)", [7.25]),
        ("SELECT DISTINCT ON (federated_predict('risk', age => 1)) id FROM p ORDER BY federated_predict('risk', age => 1), id", [1]),
        (f"SELECT {CALL} FROM p UNION SELECT federated_predict('risk') ORDER BY 1", [5.25, 12.25, 20.25, 21.25]),
        ("VALUES (federated_predict('risk', age => 10, smoker => false)), (1)", [5.25, 1]),
        ("SELECT array_agg(v) FROM unnest(ARRAY[federated_predict('risk', age => 2), 1]) AS v", [[2.25, 1]]),
        # computed models
        ("SELECT federated_predict(name, age => 10, smoker => false) FROM (VALUES ('risk')) AS t (name)", [5.25]),
        ("SELECT federated_predict('ri' || 'sk', smoker := true, age := 10)", [7.25]),
        ("SELECT federated_predict('risk'::text, age => NULL, smoker => false)", [20.25]),
        ("SELECT federated_predict(CASE WHEN true THEN 'Größe & co' END, \"Höhe\" => 10, \"b c\" => 1)", [7.25]),
        ("SELECT federated_predict(lower('RISK'), age => age, smoker => smoker) FROM p ORDER BY id", ALL),
    ],
)  # fmt: skip
def test_a_query_may_name_features_anywhere(
    session: psycopg.Connection, query: str, expected: list[object]
) -> None:
    assert column(session, query) == expected


def test_statements_that_write(session: psycopg.Connection) -> None:
    session.execute("CREATE TABLE s (id int PRIMARY KEY, score float8)")
    assert session.execute(f"INSERT INTO s SELECT id, {CALL} FROM p").rowcount == 3
    one = "federated_predict('risk', age => 10, smoker => false)"
    [row] = session.execute(f"INSERT INTO s VALUES (4, {one}) RETURNING score, {one}").fetchall()
    assert row == (5.25, 5.25)
    session.execute(f"INSERT INTO s VALUES (4, 0) ON CONFLICT (id) DO UPDATE SET score = {one} + 1")
    assert column(session, "SELECT score FROM s WHERE id = 4") == [6.25]
    session.execute("UPDATE s SET score = federated_predict('risk', age => id, smoker => true) WHERE id < 3")
    assert column(session, "SELECT score FROM s ORDER BY id") == [2.75, 3.25, 20.25, 6.25]
    session.execute(
        "MERGE INTO s USING p ON s.id = p.id WHEN MATCHED AND federated_predict('risk', age => p.age) > 20 THEN DELETE"
        f" WHEN MATCHED THEN UPDATE SET score = {CALL}"
    )
    assert column(session, "SELECT score FROM s ORDER BY id") == [5.25, 12.25, 6.25]
    assert session.execute(f"DELETE FROM s WHERE {one} > 5 AND score < 6").rowcount == 1
    session.execute("ALTER TABLE s ADD CHECK (federated_predict('risk', age => score) > 0)")
    with pytest.raises(errors.CheckViolation):
        session.execute("INSERT INTO s VALUES (9, -100)")


def test_views_and_tables_made_of_predictions(session: psycopg.Connection) -> None:
    session.execute(f"CREATE VIEW v AS SELECT id, {CALL} FROM p")
    session.execute(f"CREATE MATERIALIZED VIEW mv AS SELECT id, {CALL} FROM p")
    session.execute(f"CREATE TABLE t AS SELECT id, {CALL} FROM p")
    for name in ("v", "mv", "t"):
        assert column(session, f"SELECT federated_predict FROM {name} ORDER BY id") == ALL


@pytest.mark.parametrize("model", ["'risk'", "'risk'::text", "lower('RISK')"])
def test_prepared_statements_have_parameters_without_types(session: psycopg.Connection, model: str) -> None:
    session.execute(f"PREPARE s AS SELECT federated_predict({model}, age => $1, smoker => ($2))")
    assert column(session, "EXECUTE s(10, 0)" if model != "'risk'" else "EXECUTE s(10, false)") == [5.25]
    query = f"SELECT federated_predict({model}, age => %s) WHERE %s > 0"
    for age in (10, 20):
        assert session.execute(query, (age, 1), prepare=True).fetchall() == [(1.25 + age / 2,)]


def test_a_model_in_a_parameter(session: psycopg.Connection) -> None:
    query = 'SELECT federated_predict(%s, "Höhe" => %s) FROM p'
    assert column(session, query, ("Größe & co", "10")) == [6.25] * 3


@pytest.mark.parametrize("model", ["'risk'", "lower('risk')"])
def test_more_features_than_one_call_takes(session: psycopg.Connection, model: str) -> None:
    many = ", ".join(f"f{number} => {number}" for number in range(130))
    with pytest.raises(errors.UndefinedColumn, match='"f0"'):  # they arrived: the first unknown one is named
        session.execute(f"SELECT federated_predict({model}, age => 1, {many})")


@pytest.mark.parametrize(
    ("typed", "at"),
    [
        ("SELECT 'ü', federated_predict(name, age => nowhere) FROM (VALUES ('risk')) AS t (name)", "nowhere"),
        ("SELECT federated_predict(nowhere, age => 1)", "nowhere"),
        ("SELECT federated_predict(lower('risk'), age => 1 + 'x')", "'x'"),
    ],
)
def test_errors_point_into_the_text_that_was_typed(session: psycopg.Connection, typed: str, at: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(typed)
    assert typed[int(caught.value.diag.statement_position or 0) - 1 :].startswith(at)


def test_an_alias_of_a_computed_model_in_where(session: psycopg.Connection) -> None:
    query = "SELECT id, federated_predict(lower('RISK'), age => age) AS v FROM p WHERE v > 10 ORDER BY id"
    assert column(session, query) == [2, 3]


def test_the_model_that_does_not_exist_is_named(session: psycopg.Connection) -> None:
    with pytest.raises(errors.UndefinedObject, match="m" * 64):
        session.execute(f"SELECT federated_predict('{'m' * 64}', age => 1)")
