"""Aggregation functions are PostgreSQL's own: made, replaced and dropped by its rules, in its languages."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.integration.extension.versions_support import execute, value
from tests.support.cluster import Cluster

MIDDLE = """CREATE {}FEDERATED AGGREGATION FUNCTION middle() RETURNS FLOAT AS $$
    SELECT array_agg(found ORDER BY place) FROM (
        SELECT place, percentile_cont(0.5) WITHIN GROUP (ORDER BY updates[node][place]) AS found
        FROM generate_subscripts(updates, 1) AS node, generate_subscripts(updates, 2) AS place GROUP BY place) AS f
$$ LANGUAGE sql"""
PYTHON = """CREATE FEDERATED AGGREGATION FUNCTION first() RETURNS FLOAT AS $$
return updates[0]
$$ LANGUAGE plpython3u"""
SIGNATURE = "federated_aggregation.{}(double precision[], double precision[])"


@pytest.fixture
def admin(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection
) -> Iterator[psycopg.Connection]:
    with cluster.connect(federated_database, user="an_admin") as connection:
        yield connection


def refusal(session: psycopg.Connection, statement: str) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        execute(session, statement)
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_a_function_is_its_makers_and_nobody_may_call_it_but_the_role_without_rights(
    catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    execute(admin, MIDDLE.format(""))

    [(owner, rights)] = catalog.execute(
        "SELECT p.proowner::regrole::text, p.proacl::text FROM pg_proc AS p WHERE p.oid = %s::regprocedure",
        [SIGNATURE.format("middle")],
    ).fetchall()
    assert owner == "an_admin"
    assert rights == "{an_admin=X/an_admin,federated_aggregator=X/an_admin}"
    call = "federated_aggregation.middle('{{1,10},{5,20},{2,90}}', '{1,1,1}')"
    assert value(admin, call) == [2.0, 20.0]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        admin.execute("SET ROLE an_operator").execute(f"SELECT {call}")


def test_one_that_returns_a_number_is_told_what_it_gets_and_returns(admin: psycopg.Connection) -> None:
    error = refusal(admin, MIDDLE.format("").replace("array_agg(found ORDER BY place)", "avg(found)"))
    assert error.sqlstate == "42P13"
    assert error.diag.message_detail == "Actual return type is double precision."
    assert "a row of values for each node" in str(error.diag.message_hint)


def test_who_made_it_and_of_which_text_is_in_the_audit_log(
    catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    execute(admin, MIDDLE.format(""))
    execute(admin, MIDDLE.format("OR REPLACE ").replace("0.5", "0.25"))
    execute(admin, "DROP FEDERATED AGGREGATION FUNCTION middle")

    entries = catalog.execute(
        "SELECT action, session_role, coalesce(details -> 'after', details -> 'before') ->> 'body_sha256'"
        " FROM federated.audit WHERE object_kind = 'aggregation_function' ORDER BY recorded_at"
    ).fetchall()
    assert [(action, who) for action, who, _ in entries] == [
        ("insert", "an_admin"),
        ("update", "an_admin"),
        ("delete", "an_admin"),
    ]
    assert entries[0][2] != entries[1][2] == entries[2][2]
    assert value(catalog, f"to_regprocedure('{SIGNATURE.format('middle')}')") is None


def test_a_name_is_taken_once_and_replaced_by_its_owner_alone(
    cluster: Cluster, federated_database: str, catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    execute(admin, MIDDLE.format(""))
    taken = refusal(admin, MIDDLE.format(""))
    assert taken.sqlstate == "42710"
    assert taken.diag.message_primary == 'federated aggregation function "middle" already exists'
    catalog.execute("CREATE ROLE another_admin LOGIN IN ROLE federated_admin")
    try:
        with cluster.connect(federated_database, user="another_admin") as other:
            for statement in (MIDDLE.format("OR REPLACE "), "DROP FEDERATED AGGREGATION FUNCTION middle"):
                assert refusal(other, statement).sqlstate == "42501"
    finally:
        catalog.execute("DROP ROLE another_admin")


def test_an_untrusted_language_is_for_superusers_as_postgresql_has_it(
    catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    error = refusal(admin, PYTHON)
    assert error.sqlstate == "42501"
    assert "plpython3u" in str(error)
    execute(catalog, PYTHON)
    assert value(catalog, "federated_aggregation.first('{{1,2},{3,4}}', '{1,1}')") == [1.0, 2.0]


@pytest.mark.parametrize(
    ("language", "hint"),
    [
        ("plrust", "Install the package plrust-trusted"),
        ("plv8", "Install the package postgresql-{}-plv8, then CREATE EXTENSION plv8."),
        ("plsorcery", "SELECT lanname FROM pg_language"),
    ],
)
def test_a_language_that_is_not_installed_is_an_error_that_names_its_package(
    admin: psycopg.Connection, language: str, hint: str
) -> None:
    error = refusal(admin, MIDDLE.format("").replace("LANGUAGE sql", f"LANGUAGE {language}"))
    assert error.sqlstate == "42704"
    assert error.diag.message_primary == f'language "{language}" is not installed'
    assert hint.format(admin.info.server_version // 10_000) in (error.diag.message_hint or "")


@pytest.mark.parametrize("name", ["median", "medain", "fltrust", '"Mine"', '"a b"', "fedavgs"])
def test_a_name_that_no_model_could_mean_is_refused(admin: psycopg.Connection, name: str) -> None:
    error = refusal(admin, MIDDLE.format("").replace("middle()", f"{name}()"))
    assert error.sqlstate == "42602"


def test_what_does_not_compile_is_refused_and_leaves_nothing(
    catalog: psycopg.Connection, admin: psycopg.Connection
) -> None:
    error = refusal(admin, "CREATE FEDERATED AGGREGATION FUNCTION f() RETURNS FLOAT AS $$ x $$ LANGUAGE sql")
    assert error.sqlstate == "42601"
    assert value(catalog, "count(*) FROM federated.aggregation_function") == 0


def test_a_model_names_what_is_there_and_keeps_it_there(
    catalog: psycopg.Connection, admin: psycopg.Connection, operator: psycopg.Connection
) -> None:
    alter = "ALTER FEDERATED MODEL risk SET (aggregation = 'middle')"
    missing = refusal(operator, alter)
    assert missing.sqlstate == "42704"
    assert missing.diag.message_primary == 'federated aggregation function "middle" does not exist'
    execute(admin, MIDDLE.format(""))
    execute(operator, alter)
    used = refusal(admin, "DROP FEDERATED AGGREGATION FUNCTION middle")
    assert used.sqlstate == "2BP01"
    assert used.diag.message_detail == "Models: risk."
    # By PostgreSQL's own DROP it goes all the same; START tells.
    admin.execute(f"DROP FUNCTION {SIGNATURE.format('middle')}")
    assert refusal(operator, "START FEDERATED TRAINING risk").sqlstate == "42704"
    execute(operator, "ALTER FEDERATED MODEL risk RESET (aggregation)")


def test_dropping_what_is_not_there(admin: psycopg.Connection) -> None:
    assert refusal(admin, "DROP FEDERATED AGGREGATION FUNCTION nothing").sqlstate == "42704"
    execute(admin, "DROP FEDERATED AGGREGATION FUNCTION IF EXISTS nothing")


def test_start_refuses_a_rule_that_needs_more_nodes_than_there_are(
    catalog: psycopg.Connection, operator: psycopg.Connection
) -> None:
    execute(operator, "ALTER FEDERATED MODEL risk SET (aggregation = 'krum', byzantine_nodes = 1)")
    error = refusal(operator, "START FEDERATED TRAINING risk")
    assert error.sqlstate == "22023"
    assert error.diag.message_primary == "aggregation krum needs 5 updates, and a round has at most 3"
    assert error.diag.message_detail == "byzantine_nodes is 1."
    execute(operator, "ALTER FEDERATED MODEL risk RESET (byzantine_nodes)")
    execute(operator, "ALTER FEDERATED MODEL risk SET (aggregation = 'scaffold')")
    refused = refusal(operator, "START FEDERATED TRAINING risk")
    assert refused.sqlstate == "0A000"
    assert refused.diag.message_primary == "aggregation scaffold is not supported under a privacy_budget yet"
