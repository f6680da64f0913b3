"""What a step keeps at a node between two tasks of a run, and the further parts that a node's settings name."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.ids import RoundNumber, RunId, StepName
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.task import Privacy, Task, Work
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    create_patients,
    new_run,
    running_node,
    statistics_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(1e6, 1e-5)
PART = "tests.support.visiting"


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture(autouse=True)
def algorithms_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part registers is registered in this process too: for the test alone."""
    monkeypatch.setattr(ALGORITHMS, "_entries", dict(ALGORITHMS._entries))
    monkeypatch.setattr(ALGORITHMS, "_loaded", dict(ALGORITHMS._loaded))
    monkeypatch.delitem(sys.modules, PART, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


@pytest.fixture
async def client(
    cluster: Cluster, federated_database: str, federation: Federation
) -> AsyncIterator[NodeClient]:
    create_patients(cluster, federated_database)
    async with running_node(federation.node_config(cluster, federated_database, parts=(PART,))) as port:
        client = federation.client(port)
        yield client
        await client.close()


def visit(run: RunId, number: int, *, noise: float | None = None, keeps: bool = True) -> Task:
    privacy = None if noise is None else Privacy(Mechanism(noise), 1.0)
    first = statistics_task(run=run, budget=None if noise is None else BUDGET)
    return replace(
        first,
        key=replace(first.key, round=RoundNumber(number), step=StepName("visit")),
        work=Work("visiting", 2, privacy=privacy, settings={"keeps": keeps}),
    )


async def test_a_step_of_a_further_part_keeps_what_it_says_until_the_runs_next_task(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    for number in range(3):
        answer = await client.perform(visit(run, number), federation.sealing, TIMEOUT)
        assert answer.vector.tolist() == [number, 200.0]
    again = await client.perform(visit(run, 2), federation.sealing, TIMEOUT)
    assert again.vector.tolist() == [2.0, 200.0]
    other = await client.perform(visit(new_run(), 0), federation.sealing, TIMEOUT)
    assert other.vector.tolist() == [0.0, 200.0]
    with cluster.connect(federated_database) as connection:
        rows = connection.execute(
            "SELECT sealed, version FROM federated.node_memory ORDER BY version"
        ).fetchall()
    assert [version for _, version in rows] == [1, 3]
    assert all(b"visits" not in sealed for sealed, _ in rows)


async def test_tasks_of_a_run_that_come_together_each_begin_from_what_another_has_kept(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    await client.perform(visit(run, 0), federation.sealing, TIMEOUT)
    first = visit(run, 1)
    tasks = [replace(first, key=replace(first.key, exchange=number)) for number in range(2)]
    answers = await asyncio.gather(*(client.perform(task, federation.sealing, TIMEOUT) for task in tasks))
    assert sorted(answer.vector[0] for answer in answers) == [1.0, 2.0]
    with cluster.connect(federated_database) as connection:
        assert connection.execute("SELECT version FROM federated.node_memory").fetchall() == [(3,)]


async def test_what_a_step_keeps_outlives_the_node_and_not_its_key(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    run, config = new_run(), federation.node_config(cluster, federated_database, parts=(PART,))
    for number in range(2):
        async with running_node(config) as port:
            client = federation.client(port)
            answer = await client.perform(visit(run, number), federation.sealing, TIMEOUT)
            await client.close()
        assert answer.vector[0] == number
    (config.state_directory / "node.key").unlink()
    async with running_node(config) as port:
        client = federation.client(port)
        with pytest.raises(NodeRefusedError, match="cannot open what it remembers"):
            await client.perform(visit(run, 2), federation.sealing, TIMEOUT)
        await client.close()


async def test_a_step_that_keeps_nothing_leaves_what_was_kept(
    federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    for number, keeps in enumerate((True, False, False)):
        answer = await client.perform(visit(run, number, keeps=keeps), federation.sealing, TIMEOUT)
        assert answer.vector[0] == min(number, 1)


async def test_a_private_answer_that_would_keep_something_does_not_leave(
    cluster: Cluster, federated_database: str, federation: Federation, client: NodeClient
) -> None:
    with pytest.raises(NodeRefusedError, match="could not compute its answer") as raised:
        await client.perform(visit(new_run(), 0, noise=50.0), federation.sealing, TIMEOUT)
    assert raised.value.reason is ErrorCode.INTERNAL
    with cluster.connect(federated_database) as connection:
        assert connection.execute("SELECT count(*) FROM federated.node_memory").fetchall() == [(0,)]
        states = connection.execute("SELECT state::text FROM federated.release").fetchall()
    assert states == [("failed",)]


async def test_a_private_answer_is_given_nothing_that_was_kept_before(
    federation: Federation, client: NodeClient
) -> None:
    run = new_run()
    for number in range(3):
        await client.perform(visit(run, number), federation.sealing, TIMEOUT)
    task = visit(run, 3, noise=0.01, keeps=False)
    answer = await client.perform(task, federation.sealing, TIMEOUT)
    # So little noise that three visits would show.
    assert abs(answer.vector[0]) < 0.5


async def test_a_part_that_is_not_named_is_not_there(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        with pytest.raises(NodeRefusedError, match='algorithm "visiting" is not supported'):
            await client.perform(visit(new_run(), 0), federation.sealing, TIMEOUT)
        await client.close()
