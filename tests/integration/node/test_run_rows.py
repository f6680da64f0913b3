"""One run's rows: those that were there when it first read, whatever becomes of the table and of the node."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.privacy import Budget
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    create_patients,
    measured,
    new_run,
    running_node,
    share,
    statistics_task,
    train_task,
    until,
)

TIMEOUT = 180.0
MORE = (
    "INSERT INTO patient SELECT 1000 + i, 30 + i % 40, 100 + i % 50, i % 2 = 0, 'Rome', i % 3 = 0, 'x' "
    "FROM generate_series(1, 300) AS i"
)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@asynccontextmanager
async def node(cluster: Cluster, database: str, federation: Federation) -> AsyncIterator[NodeClient]:
    async with running_node(federation.node_config(cluster, database)) as port:
        client = federation.client(port)
        yield client
        await client.close()


async def test_what_is_inserted_meanwhile_is_no_part_of_the_run(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    run, later = new_run(), new_run()
    async with node(cluster, federated_database, federation) as client:
        for task in (train_task(run=run), train_task(run=later)):
            await measured(client, federation, task)
        first = await client.perform(train_task(run=run), federation.sealing, TIMEOUT)
        with cluster.connect(federated_database) as connection:
            connection.execute(MORE)
        # Parallel runs that read for themselves do not push the first one's rows out.
        for other in (new_run(), new_run(), new_run()):
            seen = await client.perform(statistics_task(run=other), federation.sealing, TIMEOUT)
            assert seen.weight == 500.0
        second = await client.perform(train_task(run=run, round_number=2), federation.sealing, TIMEOUT)
        parallel = await client.perform(train_task(run=later), federation.sealing, TIMEOUT)

    assert first.weight == second.weight == parallel.weight < 200.0


@pytest.mark.parametrize("change", [MORE, "UPDATE patient SET age = age + 1 WHERE patient_id = 3"])
async def test_a_run_whose_rows_were_lost_and_have_changed_is_refused_and_says_so(
    change: str, cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        connection.execute("CALL federated.execute('DROP FEDERATED DATASET patients')")
        connection.execute("ALTER TABLE patient ADD PRIMARY KEY (patient_id)")
        share(connection, "patients", "patient (age, pressure, outcome)")
    run = new_run()
    async with node(cluster, federated_database, federation) as client:
        await measured(client, federation, train_task(run=run))
    with cluster.connect(federated_database) as connection:
        connection.execute(change.encode())
    async with node(cluster, federated_database, federation) as client:
        with pytest.raises(NodeRefusedError) as raised:
            await client.perform(train_task(run=run), federation.sealing, TIMEOUT)
        await measured(client, federation, train_task(run=new_run()))

    assert raised.value.reason is ErrorCode.NODE_REFUSED
    assert raised.value.said == (
        'the rows of dataset "patients" have changed since the run first read them, '
        "and the node no longer holds those"
    )
    assert "max_memory_gb" in (raised.value.hint or "")


async def test_lost_rows_that_are_the_same_are_read_again_without_a_word(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    run = new_run()
    async with node(cluster, federated_database, federation) as client:
        await measured(client, federation, train_task(run=run))
        first = await client.perform(train_task(run=run), federation.sealing, TIMEOUT)
    async with node(cluster, federated_database, federation) as client:
        second = await client.perform(train_task(run=run, round_number=2), federation.sealing, TIMEOUT)

    assert first.weight == second.weight


async def test_under_a_budget_other_rows_are_logged_and_told_nobody(
    cluster: Cluster, federated_database: str, federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    create_patients(cluster, federated_database)
    budget, run = Budget(5.0, 1e-5), new_run()

    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        for number in (1, 2, 3):
            task = train_task(run=run, round_number=number, noise_multiplier=20.0, budget=budget)
            update = await client.perform(task, federation.sealing, TIMEOUT)
            assert update.spending is not None
            if number == 2:
                with cluster.connect(federated_database) as connection:
                    connection.execute(MORE)
                await end_training_process()
        await client.close()

    assert caplog.text.count("goes on from rows that were read again and differ") == 1


async def end_training_process() -> None:
    """Kill the training process of this test's node: it loses what it holds."""
    found = [pid for pid in children() if b"heliosdb.node.training_process" in command(pid)]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    assert found
    # Until the node has noticed: what is dead and not yet waited for would be asked once more.
    await until(lambda: not children() & set(found))


def children() -> set[int]:
    """The processes that this one has started."""
    lists = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(one) for path in lists for one in path.read_text().split()}


def command(pid: int) -> bytes:
    """What a process runs; b"" where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
