"""A dataset is read as it is shared, with the reader's rights and settings: what will be in the way is said then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.support.cluster import Cluster


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> Iterator[psycopg.Connection[Any]]:
    with cluster.connect(federated_database) as connection:
        for statement in (
            "CREATE SCHEMA h",
            "SET search_path = h, public",
            "CREATE TABLE t (id integer, x float8, y boolean, tenant text DEFAULT 'a')",
            "INSERT INTO t SELECT i, sin(i), sin(i) > 0 FROM generate_series(1, 200) AS i",
            "CREATE TABLE lookup (k integer, v float8)",
            "INSERT INTO lookup SELECT i, i FROM generate_series(1, 200) AS i",
            "CREATE FUNCTION unqualified(k integer) RETURNS float8 LANGUAGE sql STABLE AS "
            "'SELECT v FROM lookup WHERE lookup.k = $1'",
            "CREATE FUNCTION forbidden(k integer) RETURNS float8 LANGUAGE plpgsql STABLE AS "
            "'BEGIN RETURN (SELECT v FROM h.lookup AS l WHERE l.k = $1); END'",
            "CREATE FUNCTION definer(k integer) RETURNS float8 LANGUAGE plpgsql STABLE SECURITY DEFINER AS "
            "'BEGIN RETURN (SELECT v FROM h.lookup AS l WHERE l.k = $1); END'",
            "CREATE FUNCTION writes(k integer) RETURNS float8 LANGUAGE plpgsql SECURITY DEFINER AS "
            "'BEGIN INSERT INTO h.lookup VALUES ($1, 0); RETURN 1; END'",
        ):
            connection.execute(statement.encode())
        for name in ("unqualified", "forbidden", "definer", "writes"):
            connection.execute(f"CREATE VIEW v_{name} AS SELECT id, {name}(id) AS x, y FROM t")
        connection.execute("CREATE MATERIALIZED VIEW empty AS SELECT * FROM t WITH NO DATA")
        yield connection


class Warned(NamedTuple):
    """What a warning said."""

    message: str
    detail: str
    hint: str


def shared(dba: psycopg.Connection[Any], relation: str) -> list[Warned]:
    """Share a relation; returns the warnings."""
    heard: list[Warned] = []

    def hear(one: psycopg.errors.Diagnostic) -> None:
        if one.severity_nonlocalized == "WARNING":
            heard.append(Warned(one.message_primary or "", one.message_detail or "", one.message_hint or ""))

    dba.add_notice_handler(hear)
    dba.execute(
        "CALL federated.execute(%s)", [f"CREATE FEDERATED DATASET d FOR TABLE {relation} IN WORKSPACE w"]
    )
    dba.remove_notice_handler(hear)
    return heard


@pytest.mark.parametrize(
    ("relation", "detail", "hint"),
    [
        (
            "h.v_unqualified",
            'SQLSTATE 42P01: relation "lookup" does not exist; SQL function "unqualified"',
            "qualify",
        ),
        (
            "h.v_forbidden",
            "SQLSTATE 42501: permission denied for schema h; PL/pgSQL function forbidden(integer)",
            "TO federated_reader",
        ),
        ("h.t WHERE (unqualified(id) > 0)", 'relation "lookup" does not exist', "search_path"),
        ("h.v_writes", "SQLSTATE 25006", "read-only"),
        ("h.empty", "SQLSTATE 55000", "until it is mended"),
    ],
)
def test_what_is_in_the_readers_way_is_said_and_undone(
    dba: psycopg.Connection[Any], relation: str, detail: str, hint: str
) -> None:
    (warning,) = shared(dba, relation)

    assert warning.message == 'dataset "d" cannot be read by a node as it is'
    assert detail in warning.detail
    assert "federated" not in warning.detail
    assert hint in warning.hint
    assert dba.execute("SELECT count(*) FROM federated.dataset").fetchone() == (1,)
    assert dba.execute("SELECT count(*) FROM lookup").fetchone() == (200,)
    dba.execute("INSERT INTO lookup VALUES (0, 0)")


@pytest.mark.parametrize(
    "relation", ["h.t", "h.v_definer", "h.t WHERE (id IN (SELECT k FROM lookup WHERE v > 50))"]
)
def test_what_the_reader_can_read_warns_of_nothing(dba: psycopg.Connection[Any], relation: str) -> None:
    assert shared(dba, relation) == []


def test_it_does_not_take_a_superuser(dba: psycopg.Connection[Any]) -> None:
    dba.execute("GRANT USAGE ON SCHEMA h TO an_admin")
    dba.execute("GRANT SELECT ON h.v_forbidden TO an_admin")
    dba.execute("SET ROLE an_admin")

    (warning,) = shared(dba, "h.v_forbidden")

    assert "42501" in warning.detail


@pytest.mark.parametrize(
    "grant",
    ["GRANT SELECT ON h.lookup TO federated_reader", "GRANT SELECT (v) ON h.lookup TO federated_reader", ""],
)
def test_a_function_behind_a_view_tells_nobody_what_the_reader_alone_may_read(
    dba: psycopg.Connection[Any], grant: str
) -> None:
    if grant:
        dba.execute(grant.encode())
    else:
        dba.execute(
            "CALL federated.execute('CREATE FEDERATED DATASET other FOR TABLE h.lookup IN WORKSPACE w')"
        )
    dba.execute("GRANT USAGE, CREATE ON SCHEMA h TO an_admin")
    dba.execute("GRANT SELECT ON h.t TO an_admin")
    # One column of a table is not all of it.
    dba.execute("GRANT SELECT (k) ON h.lookup TO an_admin")
    dba.execute("SET ROLE an_admin")
    for statement in (
        "CREATE FUNCTION h.tells(k integer) RETURNS float8 LANGUAGE plpgsql AS "
        "'BEGIN RAISE EXCEPTION ''%'', (SELECT max(v) FROM h.lookup); END'",
        "CREATE VIEW h.trap AS SELECT id, h.tells(id) AS x, y FROM h.t",
    ):
        dba.execute(statement.encode())

    assert shared(dba, "h.trap") == []
    assert dba.execute("SELECT code, message, has_rows FROM federated._probe_as_reader('d')").fetchone() == (
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    "rule", ["current_user = 'an_admin'", "tenant = current_setting('app.tenant', true)"]
)
def test_rows_that_only_the_owners_session_sees_are_missed(dba: psycopg.Connection[Any], rule: str) -> None:
    dba.execute("GRANT USAGE ON SCHEMA h TO an_admin")
    dba.execute("ALTER TABLE t OWNER TO an_admin")
    dba.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    dba.execute("ALTER TABLE t FORCE ROW LEVEL SECURITY")
    dba.execute(f"CREATE POLICY p ON t USING ({rule})".encode())
    dba.execute("SET ROLE an_admin")
    dba.execute("SET app.tenant = 'a'")

    (warning,) = shared(dba, "h.t")

    assert warning.message == 'in dataset "d" a node sees none of the rows that you see'
    assert dba.execute("SHOW app.tenant").fetchone() == ("a",)
    assert dba.execute("SHOW search_path").fetchone() == ("h, public",)


def test_nobody_probes_a_dataset_of_another(dba: psycopg.Connection[Any]) -> None:
    shared(dba, "h.t")
    dba.execute("SET ROLE an_admin")

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
        dba.execute("SELECT * FROM federated._probe_as_reader('d')")


def test_the_probes_own_settings_do_not_outlive_it(dba: psycopg.Connection[Any]) -> None:
    with dba.transaction():
        shared(dba, "h.v_writes")
        assert dba.execute("SHOW transaction_read_only").fetchone() == ("off",)
        dba.execute("INSERT INTO lookup VALUES (0, 0)")
