"""What a node says at its start, and later, of a database that it cannot work with; and what it then answers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from heliosdb.catalog.failures import refusal_of
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import PASSWORD, Cluster
from tests.support.federation import (
    WORKSPACE,
    Federation,
    create_patients,
    running_node,
    statistics_task,
    train_task,
    until,
)
from tests.support.ports import free_port

TIMEOUT = 180.0
WRONG = "a-wrong-secret"


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


async def introduced(federation: Federation, port: int) -> None:
    """Have the node introduce itself."""
    client = federation.client(port)
    try:
        await client.greet(Greeting(WorkspaceName(WORKSPACE), NodeName("node")), TIMEOUT)
    finally:
        await client.close()


def wrong_password(cluster: Cluster, database: str) -> str:
    return cluster.dsn(database, user="heliosdb_daemon", tcp=True).replace(PASSWORD, WRONG)


def no_database(cluster: Cluster, database: str) -> str:
    return cluster.dsn(f"{database}_not_there", user="heliosdb_daemon")


def no_server(cluster: Cluster, database: str) -> str:
    return cluster.dsn(database, user="heliosdb_daemon", tcp=True).replace(
        str(cluster.port), str(free_port())
    )


@pytest.mark.parametrize(
    ("conninfo", "code", "words"),
    [
        (wrong_password, "28P01", "the database is out of reach: 28P01 invalid_password"),
        (no_database, "3D000", "the database is out of reach: 3D000 invalid_catalog_name"),
        (no_server, "unreachable", "the database is out of reach: no answer from the server"),
    ],
)
@pytest.mark.parametrize("whose", ["database", "reader"])
async def test_why_there_is_no_connection_is_said_in_the_log_and_in_the_ready_file_without_the_password(
    conninfo: Callable[[Cluster, str], str],
    code: str,
    words: str,
    whose: str,
    cluster: Cluster,
    federated_database: str,
    federation: Federation,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with cluster.connect() as connection:
        for role in ("heliosdb_daemon", "heliosdb_reader"):
            connection.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'".encode())
    ready = tmp_path / "ready"
    given = conninfo(cluster, federated_database)
    if whose == "reader":
        given = given.replace("heliosdb_daemon", "heliosdb_reader")
        words = words.replace("the database is out of reach", "the reader cannot connect")
    config = federation.node_config(cluster, federated_database, ready_file=ready)
    config = config.model_copy(update={whose: SecretStr(given)})
    async with running_node(config) as port:
        found = told(ready)
        # So the coordinator counts it among the nodes that are away.
        with pytest.raises(FederatedError, match=r"is not ready|cannot be reached"):
            await introduced(federation, port)
    assert (found["state"], found["code"]) == ("waiting", code)
    assert words in found["reason"]
    assert found["remedy"]
    assert words in caplog.text
    assert WRONG not in caplog.text + json.dumps(found)


async def test_a_reader_whose_rights_go_further_is_not_worked_with(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    ready = tmp_path / "ready"
    with cluster.connect() as connection:
        connection.execute("CREATE ROLE sees_all LOGIN BYPASSRLS IN ROLE federated_reader")
    try:
        for user in ("postgres", "sees_all"):
            config = federation.node_config(
                cluster,
                federated_database,
                ready_file=ready,
                reader=cluster.dsn(federated_database, user=user),
            )
            async with running_node(config) as port:
                assert (told(ready)["state"], told(ready)["code"]) == ("waiting", "reader")
                client = federation.client(port)
                for task in (statistics_task(), train_task()):
                    with pytest.raises(NodeRefusedError) as raised:
                        await client.perform(task, federation.sealing, TIMEOUT)
                    assert raised.value.reason is ErrorCode.UNREACHABLE
                with pytest.raises(FederatedError, match="the node is not ready"):
                    await client.heartbeat(TIMEOUT)
                await client.close()
                with pytest.raises(FederatedError, match="the node is not ready"):
                    await introduced(federation, port)
    finally:
        with cluster.connect() as connection:
            connection.execute("DROP ROLE sees_all")


async def test_a_node_says_what_it_waits_for_and_goes_on_when_it_is_there(
    cluster: Cluster, federation: Federation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    database, ready = cluster.create_database(), tmp_path / "ready"
    async with running_node(federation.node_config(cluster, database, ready_file=ready)) as port:
        assert told(ready)["code"] == "extension"
        with cluster.connect(database) as connection:
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")
        await until(lambda: told(ready)["state"] == "ready")
        create_patients(cluster, database)
        await introduced(federation, port)

        with cluster.connect(database) as connection:
            connection.execute("DROP EXTENSION heliosdb_federated_learning CASCADE")
        with pytest.raises(FederatedError):
            await introduced_by_task(federation, port)
        await until(lambda: told(ready).get("code") == "extension")

    assert caplog.text.count("waiting for CREATE EXTENSION") == 2


async def introduced_by_task(federation: Federation, port: int) -> None:
    client = federation.client(port)
    try:
        await client.perform(statistics_task(), federation.sealing, TIMEOUT)
    finally:
        await client.close()


async def test_a_role_without_its_membership_is_named(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    for whose, code in (("database", "daemon"), ("reader", "member")):
        nobody = SecretStr(cluster.dsn(federated_database, user="a_nobody"))
        config = federation.node_config(cluster, federated_database, ready_file=ready)
        config = config.model_copy(update={whose: nobody})
        async with running_node(config):
            assert (told(ready)["state"], told(ready)["code"]) == ("waiting", code)


def test_a_connection_that_is_let_in_is_refused_by_nothing(cluster: Cluster) -> None:
    assert refusal_of(cluster.dsn()) is None
    assert refusal_of(cluster.dsn(tcp=True)) is None
    assert refusal_of(cluster.dsn(user="nobody_of_that_name")) == "28000"
