"""What a node says of rows that it cannot read: the condition's name, and never what the server wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.privacy import Budget
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import Federation, create_patients, running_node, share, statistics_task
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
CANARY = "Ottokar-0815"
COLUMNS = "age, pressure, outcome"


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> psycopg.Connection[Any]:
    create_patients(cluster, federated_database)
    connection = cluster.connect(federated_database)
    connection.execute("SELECT federated._drop_dataset_view('patients')")
    connection.execute("DELETE FROM federated.dataset")
    connection.execute("UPDATE patient SET secret = %s WHERE patient_id = 7", [CANARY])
    return connection


def materialized(dba: psycopg.Connection[Any]) -> str:
    # In a schema of its own, in which neither the daemon nor the reader may look up a name.
    dba.execute("CREATE SCHEMA own")
    dba.execute(f"CREATE MATERIALIZED VIEW own.ward AS SELECT {COLUMNS} FROM patient WITH NO DATA")
    share(dba, "patients", "own.ward")
    return "55000 object_not_in_prerequisite_state"


def behind_a_view(dba: psycopg.Connection[Any]) -> str:
    materialized_condition = materialized(dba)
    dba.execute("SELECT federated._drop_dataset_view('patients')")
    dba.execute("DELETE FROM federated.dataset")
    dba.execute("CREATE VIEW over_ward AS SELECT * FROM own.ward")
    share(dba, "patients", "over_ward")
    return materialized_condition


def foreign_file(dba: psycopg.Connection[Any]) -> str:
    dba.execute("CREATE EXTENSION file_fdw")
    dba.execute("CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
    dba.execute(
        "CREATE FOREIGN TABLE gone (age float8, pressure float8, outcome boolean) SERVER files "
        "OPTIONS (filename '/nowhere/gone.csv', format 'csv')"
    )
    share(dba, "patients", "gone")
    return "58P01 undefined_file"


def foreign_server(dba: psycopg.Connection[Any]) -> str:
    dba.execute("CREATE EXTENSION postgres_fdw")
    dba.execute(
        "CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw "
        f"OPTIONS (host '127.0.0.1', port '{free_port()}', connect_timeout '2')"
    )
    dba.execute(f"CREATE USER MAPPING FOR PUBLIC SERVER other OPTIONS (user 'x', password '{CANARY}')")
    dba.execute("CREATE FOREIGN TABLE away (age float8, pressure float8, outcome boolean) SERVER other")
    share(dba, "patients", "away")
    return "08001 sqlclient_unable_to_establish_sqlconnection"


def slow(dba: psycopg.Connection[Any]) -> str:
    dba.execute("CREATE ROLE hasty LOGIN IN ROLE federated_reader")
    dba.execute("ALTER ROLE hasty SET statement_timeout = '200ms'")
    dba.execute(f"CREATE VIEW slow AS SELECT {COLUMNS}, pg_sleep(0.05)::text AS s FROM patient")
    share(dba, "patients", "slow")
    return "57014 query_canceled"


def divided(dba: psycopg.Connection[Any]) -> str:
    share(dba, "patients", f"patient ({COLUMNS}) WHERE (1 / (patient_id - 150) IS NOT NULL)")
    return "22012 division_by_zero"


def quoted(dba: psycopg.Connection[Any]) -> str:
    share(
        dba,
        "patients",
        f"patient ({COLUMNS}) WHERE (patient_id <> 7 OR (secret || patient_id)::integer > 0)",
    )
    return "22P02 invalid_text_representation"


def of_its_own(dba: psycopg.Connection[Any]) -> str:
    dba.execute(
        "CREATE FUNCTION loud(t text) RETURNS boolean LANGUAGE plpgsql AS "
        "'BEGIN IF t <> ''x'' THEN RAISE EXCEPTION USING ERRCODE = ''OTTO1'', MESSAGE = t; END IF; RETURN true; END'"
    )
    share(dba, "patients", f"patient ({COLUMNS}) WHERE (loud(secret))")
    return "a condition of the site's own"


WAYS = (materialized, behind_a_view, foreign_file, foreign_server, slow, divided, quoted, of_its_own)


@pytest.mark.parametrize("way", WAYS)
async def test_what_cannot_be_read_is_said_by_its_condition_and_never_in_the_servers_words(
    way: Callable[[psycopg.Connection[Any]], str],
    cluster: Cluster,
    federated_database: str,
    dba: psycopg.Connection[Any],
    federation: Federation,
    capfd: pytest.CaptureFixture[str],
) -> None:
    condition = way(dba)
    reader = cluster.dsn(federated_database, user="hasty" if way is slow else "heliosdb_reader")
    try:
        async with running_node(federation.node_config(cluster, federated_database, reader=reader)) as port:
            client = federation.client(port)
            with pytest.raises(NodeRefusedError) as raised:
                await client.perform(statistics_task(), federation.sealing, TIMEOUT)
            await client.close()
    finally:
        if way is slow:
            dba.execute("DROP ROLE hasty")
    logged = "".join(capfd.readouterr())

    assert raised.value.reason is ErrorCode.WRONG_STATE
    assert raised.value.said.startswith(f'dataset "patients" cannot be read ({condition})')
    assert CANARY not in logged
    assert CANARY not in raised.value.said
    assert "OTTO1" not in logged + raised.value.said


async def test_under_a_budget_what_the_catalog_tells_is_said_before_the_charge(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], federation: Federation
) -> None:
    materialized(dba)
    task = statistics_task(noise_multiplier=10.0, budget=Budget(1.0, 1e-5))
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        with pytest.raises(NodeRefusedError, match="its materialized view is not populated"):
            await client.perform(task, federation.sealing, TIMEOUT)
        assert dba.execute("SELECT count(*) FROM federated.spending").fetchone() == (0,)

        dba.execute("REFRESH MATERIALIZED VIEW own.ward")
        update = await client.perform(task, federation.sealing, TIMEOUT)
        await client.close()

    assert update.spending is not None


async def test_under_a_budget_what_a_row_does_is_told_nobody(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], federation: Federation
) -> None:
    divided(dba)
    task = statistics_task(noise_multiplier=10.0, budget=Budget(1.0, 1e-5))
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        with pytest.raises(NodeRefusedError) as raised:
            await client.perform(task, federation.sealing, TIMEOUT)
        await client.close()

    assert raised.value.said == "the node charged the task and could not compute its answer"


async def test_a_statement_of_the_daemons_own_that_fails_is_no_lost_connection(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], federation: Federation
) -> None:
    divided(dba)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        dba.execute("REVOKE SELECT ON federated.dataset FROM federated_daemon")
        with pytest.raises(NodeRefusedError) as raised:
            await client.perform(statistics_task(), federation.sealing, TIMEOUT)
        await client.close()

    assert raised.value.reason is ErrorCode.INTERNAL
    assert "42501 insufficient_privilege" in raised.value.said
