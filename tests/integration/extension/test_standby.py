"""A hot standby answers predictions and questions, follows what the primary publishes, and refuses every change."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.integration.extension.conftest import MODEL, WORKSPACE
from tests.integration.extension.test_predictions import make_current, publish, value
from tests.support.catalog_snapshot import EXTENSION
from tests.support.cluster import (
    Cluster,
    as_server_user,
    bin_directory,
    create_cluster,
    remove_cluster,
    server_directory,
)
from tests.support.ports import free_port

DATABASE = "postgres"
NODE = "REGISTER FEDERATED NODE 'north' IN WORKSPACE clinics WITH (endpoint = 'https://n.example.org:1')"


@dataclass(frozen=True)
class Pair:
    """A primary, whose commits wait until the standby has applied them, and the standby."""

    primary: Cluster
    standby: Cluster


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    primary = create_cluster(free_port())
    standby = Cluster(server_directory(), free_port())
    try:
        with (primary.directory / "data/pg_hba.conf").open("a") as access:
            access.write("local replication all trust\n")
        primary.control("reload")
        data = standby.directory / "data"
        subprocess.run(
            as_server_user([str(bin_directory() / "pg_basebackup"), "-D", str(data), "-R", "-X", "stream", "-c", "fast",
                            "-d", f"host={primary.directory} port={primary.port} user=postgres"]),
            check=True, cwd="/",
        )  # fmt: skip
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"port = {standby.port}\nunix_socket_directories = '{standby.directory}'\nhot_standby = on\n"
            )
        standby.start()
        with primary.connect() as connection:
            # From here on a commit is seen on both sides when it returns: nothing has to be waited for.
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("ALTER SYSTEM SET synchronous_commit = 'remote_apply'")
            connection.execute("SELECT pg_reload_conf()")
        yield Pair(primary, standby)
        standby.stop()
    finally:
        remove_cluster(primary)
        shutil.rmtree(standby.directory)


@pytest.fixture(scope="module")
def primary(pair: Pair) -> Iterator[psycopg.Connection[Any]]:
    with pair.primary.connect(DATABASE) as connection:
        connection.execute("SET synchronous_commit = 'remote_apply'")
        connection.execute(f"CREATE EXTENSION {EXTENSION} CASCADE")  # type: ignore[arg-type]
        for login, role in (("an_analyst", "federated_analyst"), ("an_operator", "federated_operator")):
            connection.execute(f"CREATE ROLE {login} LOGIN IN ROLE {role}")  # type: ignore[arg-type]
        for statement in (WORKSPACE, MODEL, NODE):
            connection.execute("CALL federated.execute(%s)", [statement])
        publish(connection)
        make_current(connection, ["age", "smoker"])
        yield connection


@pytest.fixture
def standby(pair: Pair, primary: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    with pair.standby.connect(DATABASE, user="an_operator") as connection:
        assert connection.execute("SELECT pg_is_in_recovery()").fetchall() == [(True,)]
        yield connection


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("federated_predict('risk', '{\"age\": 10, \"smoker\": true}'::jsonb)", 7.25),
        ("predict('risk', '{\"age\": 10}'::jsonb)", 6.25),
        ("predict('risk', ARRAY[10, 0]::float8[])", 5.25),
        ("federated_model.risk(age => 10, smoker => true)", 7.25),
        ("(SELECT sum(federated_model.risk(age => a)) FROM generate_series(1, 3) AS a)", 6.75),
    ],
)
def test_a_standby_predicts(
    pair: Pair, primary: psycopg.Connection[Any], standby: psycopg.Connection[Any], call: str, expected: float
) -> None:
    assert value(standby, call) == expected == value(primary, call)
    with pair.standby.connect(DATABASE, user="an_analyst") as analyst:
        assert value(analyst, call) == expected


def test_a_standby_inlines_the_models_function(standby: psycopg.Connection[Any]) -> None:
    plan = standby.execute(
        "EXPLAIN (VERBOSE, COSTS OFF) SELECT federated_model.risk(age => a) FROM generate_series(1, 2) AS a"
    ).fetchall()
    assert "risk" not in "\n".join(line for (line,) in plan)


def test_a_standby_answers_what_is_asked_about_the_federation(
    primary: psycopg.Connection[Any], standby: psycopg.Connection[Any]
) -> None:
    views = standby.execute(
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid AND d.deptype = 'e'"
        " WHERE c.relkind = 'v' AND has_table_privilege(c.oid, 'SELECT')"
    ).fetchall()
    assert len(views) >= 2
    figures = {"federated.alert_metric", "federated_alert_metrics"}
    for query in [f"SELECT * FROM {view}" for (view,) in views if view not in figures] + [
        # Of a figure that is an age the two are asked at two moments.
        *(f"SELECT * FROM {view} WHERE metric NOT LIKE 'seconds%'" for view in sorted(figures)),
        "SELECT * FROM federated_training_status('risk')",
        "SELECT * FROM federated_training_metrics('risk')",
        "SELECT * FROM federated_privacy_budget('clinics')",
    ]:
        assert standby.execute(query).fetchall() == primary.execute(query).fetchall(), query  # type: ignore[arg-type]


def test_what_the_primary_publishes_and_undoes_is_seen_at_once(
    primary: psycopg.Connection[Any], standby: psycopg.Connection[Any]
) -> None:
    call = "federated_model.risk(age => 10)"
    publish(primary, intercept=1.25)
    assert value(standby, call) == 7.25
    primary.execute("BEGIN")
    publish(primary, intercept=2.25)
    assert value(standby, call) == 7.25
    primary.execute("ROLLBACK")
    publish(primary)
    assert value(standby, call) == 6.25


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE FEDERATED WORKSPACE other",
        "ALTER FEDERATED WORKSPACE clinics SET (round_timeout = 5)",
        "DROP FEDERATED WORKSPACE clinics CASCADE",
        "REGISTER FEDERATED NODE 'n' IN WORKSPACE clinics WITH (endpoint = 'https://n.example.org:1')",
        "ALTER FEDERATED NODE 'north' IN WORKSPACE clinics SET (contact = 'x')",
        "UNREGISTER FEDERATED NODE 'north' FROM WORKSPACE clinics",
        "CREATE FEDERATED MODEL other IN WORKSPACE clinics",
        "ALTER FEDERATED MODEL risk SET (rounds = 5)",
        "DROP FEDERATED MODEL risk",
        "START FEDERATED TRAINING risk",
        "STOP FEDERATED TRAINING risk",
    ],
)
def test_a_standby_refuses_every_change_and_says_why(
    pair: Pair, primary: psycopg.Connection[Any], statement: str
) -> None:
    with pair.standby.connect(DATABASE) as session, pytest.raises(errors.ReadOnlySqlTransaction) as caught:
        session.execute("CALL federated.execute(%s)", [statement])
    assert "Traceback" not in str(caught.value)
    assert (caught.value.diag.message_primary or "").startswith("cannot execute ")


def test_a_standby_that_is_promoted_takes_changes(pair: Pair, primary: psycopg.Connection[Any]) -> None:
    with pair.primary.connect() as connection:
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        connection.execute("SELECT pg_reload_conf()")
    pair.standby.control("promote")
    with pair.standby.connect(DATABASE) as session:
        session.execute("CALL federated.execute('STOP FEDERATED TRAINING risk')")
        session.execute("CALL federated.execute('CREATE FEDERATED WORKSPACE other')")
        assert value(session, "federated_model.risk(age => 10)") == 6.25
