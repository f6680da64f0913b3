"""What a node decides by itself: under which budget, from which tables, for how long a dataset is shared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.task import Task
from heliosdb.privacy.accountant import spending
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    NodeProcess,
    create_patients,
    measured,
    new_run,
    running_node,
    share,
    statistics_task,
    train_task,
    until,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(1.0, 1e-5)
COLUMNS = "patient (age, pressure, smoker, city, outcome)"


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
async def client(
    cluster: Cluster, federated_database: str, federation: Federation
) -> AsyncIterator[NodeClient]:
    create_patients(cluster, federated_database)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        yield client
        await client.close()


async def refusal(client: NodeClient, federation: Federation, task: Task) -> NodeRefusedError:
    with pytest.raises(NodeRefusedError) as raised:
        await client.perform(task, federation.sealing, TIMEOUT)
    return raised.value


def private_task(budget: Budget = BUDGET, *, noise: float = 8.0, dataset: str | None = None) -> Task:
    task = train_task(noise_multiplier=noise, budget=budget)
    return replace(task, reading=replace(task.reading, dataset=dataset))


def drop(connection: psycopg.Connection, dataset: str = "patients") -> None:
    connection.execute("CALL federated.execute(%s)", [f"DROP FEDERATED DATASET {dataset}"])


def count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM federated.{table}").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("larger", [Budget(2.0, 1e-5), Budget(1.0, 0.01), Budget(1000.0, 0.09)])
async def test_a_coordinator_cannot_raise_the_budget_that_it_named_first(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient, larger: Budget
) -> None:
    await client.perform(private_task(), federation.sealing, TIMEOUT)
    error = await refusal(client, federation, private_task(larger))
    assert error.reason is ErrorCode.NODE_REFUSED
    assert "cannot raise" in error.message
    assert error.hint is not None
    assert "max_epsilon" in error.hint
    await client.perform(private_task(Budget(0.9, 1e-5)), federation.sealing, TIMEOUT)
    with cluster.connect(federated_database) as connection:
        agreed = connection.execute("SELECT workspace, relation, epsilon, delta FROM federated.agreement")
        assert agreed.fetchall() == [("consortium", "public.patient", 1.0, 1e-5)]
        assert count(connection, "spending") == 2


async def test_the_nodes_own_dba_raises_the_budget_by_sharing_again_up_to_max_epsilon(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    await client.perform(private_task(noise=4.5), federation.sealing, TIMEOUT)
    raised = Budget(2.0, 1e-5)
    assert "cannot raise" in (await refusal(client, federation, private_task(raised, noise=4.5))).message
    with cluster.connect(federated_database) as connection:
        drop(connection)
        share(connection, "patients", COLUMNS, options="WITH (max_epsilon = 1.3)")
    await client.perform(private_task(raised, noise=4.5), federation.sealing, TIMEOUT)
    over = await refusal(client, federation, private_task(raised, noise=4.5))
    assert over.reason is ErrorCode.BUDGET_EXHAUSTED
    assert "max_epsilon" in over.message


async def test_what_one_dataset_has_spent_no_other_dataset_over_the_table_has(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    await client.perform(private_task(noise=6.0), federation.sealing, TIMEOUT)
    with cluster.connect(federated_database) as connection:
        drop(connection)
        share(connection, "renamed", COLUMNS)
    second = await client.perform(private_task(noise=6.0), federation.sealing, TIMEOUT)
    assert second.spending == spending([Mechanism(6.0)] * 2, 1e-5)
    over = await refusal(client, federation, private_task(noise=6.0))
    assert over.reason is ErrorCode.BUDGET_EXHAUSTED
    plain = await refusal(client, federation, statistics_task())
    assert "a plain answer would undo" in plain.message
    assert plain.hint is None


async def test_datasets_over_one_table_that_race_do_not_overspend(
    cluster: Cluster, federated_database: str, federation: Federation, tmp_path: Path
) -> None:
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        share(connection, "others", COLUMNS)
    # Two daemons over one database, so that nothing but the database can keep them apart.
    nodes = [NodeProcess(federation.node_config(cluster, federated_database), tmp_path) for _ in range(2)]
    try:
        clients = [federation.client(await node.port()) for node in nodes]
        tasks = [private_task(dataset=name) for name in ("patients", "others") * 4]
        outcomes = await asyncio.gather(
            *(clients[i % 2].perform(task, federation.sealing, TIMEOUT) for i, task in enumerate(tasks)),
            return_exceptions=True,
        )
        for client in clients:
            await client.close()
    finally:
        for node in nodes:
            node.kill()
    refused = [outcome for outcome in outcomes if isinstance(outcome, NodeRefusedError)]
    assert {error.reason for error in refused} == {ErrorCode.BUDGET_EXHAUSTED}
    # Four of sigma 8 compose to one of sigma 4, which costs 0.96; a fifth would not fit.
    with cluster.connect(federated_database) as connection:
        assert count(connection, "spending") == 4
    assert len(refused) == 4


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM federated.dataset WHERE name = 'patients'",
        "UPDATE federated.dataset SET options = '{\"min_rows\": 100}' WHERE name = 'patients'",
        "UPDATE federated.dataset SET workspace = 'elsewhere' WHERE name = 'patients'",
    ],
)
@pytest.mark.parametrize("task", [train_task(), private_task()], ids=["plain", "private"])
async def test_a_dataset_changed_while_a_task_is_computed_lets_nothing_out(
    cluster: Cluster,
    federated_database: str,
    federation: Federation,
    client: NodeClient,
    task: Task,
    change: str,
) -> None:
    task = replace(task, key=replace(task.key, run=new_run()))
    plain = task.budget is None
    if plain:
        await measured(client, federation, task)
    with cluster.connect(federated_database) as observer, cluster.connect(federated_database) as dba:
        with dba.transaction():
            dba.execute(change)
            asking = asyncio.create_task(client.perform(task, federation.sealing, TIMEOUT))
            # The task stands at the door, which waits for the change to be decided.
            await until(lambda: _door_waits(observer))
        with pytest.raises(NodeRefusedError, match="was changed or dropped while") as raised:
            await asking
        assert raised.value.reason is ErrorCode.NODE_REFUSED
        assert count(observer, "release") == plain
        assert count(observer, "spending") == count(observer, "agreement") == 0


async def test_under_a_budget_no_single_value_decides_whether_there_is_an_answer(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    with cluster.connect(federated_database) as connection:
        drop(connection)
        connection.execute("ALTER TABLE patient ALTER outcome TYPE numeric USING outcome::integer")
        connection.execute("UPDATE patient SET outcome = 7 WHERE patient_id = 1")
        connection.execute("UPDATE patient SET outcome = 'NaN' WHERE patient_id = 2")
        connection.execute("UPDATE patient SET pressure = 1e400::numeric WHERE patient_id = 3")
        connection.execute("UPDATE patient SET pressure = 1e-400::numeric WHERE patient_id = 4")
        share(connection, "patients", COLUMNS)
    run = new_run()
    generous = Budget(10.0, 1e-5)
    assert "must be 0 or 1" in (await refusal(client, federation, statistics_task())).message
    for task in (
        statistics_task(run=run, noise_multiplier=8.0, budget=generous),
        train_task(run=run, noise_multiplier=8.0, budget=generous),
    ):
        await client.perform(task, federation.sealing, TIMEOUT)


async def test_a_heartbeat_fails_with_the_reason_where_the_nodes_database_is_gone(
    cluster: Cluster, federation: Federation, client: NodeClient
) -> None:
    await client.heartbeat(TIMEOUT)
    cluster.stop("fast")
    try:
        with pytest.raises(FederatedError, match="the node's database cannot be reached") as raised:
            await client.heartbeat(TIMEOUT)
    finally:
        cluster.start()
    assert raised.value.code is ErrorCode.UNREACHABLE
    await client.heartbeat(TIMEOUT)


async def test_no_secret_of_a_node_is_in_the_statements_that_its_database_logs(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database, options="WITH (subject = 'patient_id')")
    with cluster.connect() as connection:
        name = sql.Identifier(federated_database)
        connection.execute(sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(name))
    logs = cluster.directory / "log"
    seen = []
    for name_of_node in ("one", "other"):
        with cluster.connect(federated_database) as connection:
            connection.execute("DELETE FROM federated.node_key")
        before = logs.stat().st_size
        config = federation.node_config(cluster, federated_database, name_of_node)
        async with running_node(config) as port:
            client = federation.client(port, name_of_node)
            await client.perform(statistics_task(), federation.sealing, TIMEOUT)
            await client.close()
        logged = logs.read_bytes()[before:].decode()
        seen.append([line.partition("COPY")[2] for line in logged.splitlines() if "COPY (SELECT" in line])
    # Two nodes of two secrets say the same.
    assert len(seen[0]) == 1
    assert "patient_id" in seen[0][0]
    assert seen[0] == seen[1]


async def test_a_dataset_whose_table_is_gone_can_be_dropped(
    cluster: Cluster, federated_database: str
) -> None:
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        connection.execute("DROP TABLE patient CASCADE")
        drop(connection)
        assert count(connection, "dataset") == 0


def _door_waits(observer: psycopg.Connection) -> bool:
    row = observer.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'heliosdb node' AND wait_event_type = 'Lock' AND datname = current_database()"
    ).fetchone()
    return row is not None and row[0] == 1
