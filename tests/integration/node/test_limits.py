"""A node's machine has limits that hold: what the node sets, what a workspace asks for, and rows beyond memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heliosdb.algorithms.works import EvaluateWork, StatisticsWork, TrainWork
from heliosdb.domain.coding import Coding
from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.privacy import Budget
from heliosdb.domain.task import Reading, Scaling, Task
from heliosdb.node.config import NodeConfig
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    create_patients,
    evaluate_task,
    new_run,
    running_node,
    share,
    statistics_task,
    train_task,
)

TIMEOUT = 600.0
FEATURES = tuple(f"x{number}" for number in range(1, 13))
READING = Reading(dataset=None, features=FEATURES, target="y", validation_split=0.25, seed=7)
SCALING = Scaling((0.5,) * len(FEATURES), (0.3,) * len(FEATURES))
START = np.linspace(-0.2, 0.2, len(FEATURES) + 1)
ROWS = 170_000
"""At 14 numbers a row more than a sixteenth of the least memory that a node may have."""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@asynccontextmanager
async def node(
    federation: Federation, config: NodeConfig, limits: Limits = NO_LIMITS
) -> AsyncIterator[NodeClient]:
    async with running_node(config) as port:
        client = federation.client(port, limits=limits)
        yield client
        await client.close()


def create_wide(cluster: Cluster, database: str, rows: int, features: tuple[str, ...] = FEATURES) -> None:
    """A table of numbers in which the outcome depends on the first."""
    with cluster.connect(database) as connection:
        columns = ", ".join(f"{name} double precision" for name in features)
        connection.execute(
            f"CREATE TABLE wide (id bigint PRIMARY KEY, {columns}, y integer CHECK (y IN (0, 1)))"
        )
        connection.execute("SELECT setseed(0.25)")
        values = ", ".join("random()" for _ in features)
        connection.execute(
            f"INSERT INTO wide SELECT i, {values}, (random() < 0.4)::integer FROM generate_series(1, %s) AS i",
            [rows],
        )
        share(connection, "wide", f"wide ({', '.join(features)}, y)")


def tasks() -> list[Task]:
    """Statistics, local training, the same in fewer bytes, and an evaluation of one run."""
    run, evaluation = new_run(), EvaluateWork("logistic_regression", SCALING, None, classes=2)
    train = TrainWork("logistic_regression", SCALING, 1, 500, 0.1, optimizer="adam", classes=2)
    about = {"reading": READING, "scaling": SCALING}
    first = replace(
        statistics_task(run=run),
        reading=READING,
        work=StatisticsWork("logistic_regression", None, classes=2).to_work(len(FEATURES)),
    )
    second = train_task(run=run, parameters=START)
    packed, coding = train_task(run=run, round_number=2, parameters=START), Coding("zstd", bits=8, sent=5)
    third = evaluate_task(run=run)
    return [
        first,
        replace(second, work=train.to_work(START.size), **about),
        replace(packed, work=replace(train.to_work(START.size), coding=coding), **about),
        replace(third, work=evaluation.to_work(), state=second.state, **about),
    ]


async def test_rows_beyond_a_nodes_memory_lead_to_the_same_bits(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_wide(cluster, federated_database, ROWS)
    found = []
    for memory in (8.0, 0.25):
        config = federation.node_config(cluster, federated_database, max_memory_gb=memory)
        async with node(federation, config) as client:
            answers = [await client.perform(task, federation.sealing, TIMEOUT) for task in tasks()]
            stored = _maps_scratch(config.scratch)
        found.append([(answer.vector.tobytes(), answer.weight) for answer in answers])
        assert stored == (memory == 0.25)
        assert not list(config.scratch.iterdir())
    assert found[0] == found[1]


async def test_what_a_workspace_asks_holds_where_it_is_lower(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    config = federation.node_config(cluster, federated_database, max_cpu_cores=2)
    there = min(2, len(os.sched_getaffinity(0)))
    for asked, cores in ((Limits(0.5, 1, 1000.0), 1), (Limits(64.0, 64), there)):
        async with node(federation, config, asked) as client:
            update = await client.perform(statistics_task(), federation.sealing, TIMEOUT)
            (worker,) = _workers()
            assert _memory_limits(worker) == [
                str(int(min(8.0, asked.max_memory_gb or 8.0) * 2**30)),
                str(8 * 2**30),
            ]
            assert len(os.sched_getaffinity(worker)) == cores
        assert update.vector[0] == 200.0


async def test_under_a_budget_no_memory_is_asked_for_whose_end_would_tell_how_many_rows_there_are(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_patients(cluster, federated_database)
    config = federation.node_config(cluster, federated_database)
    task = statistics_task(noise_multiplier=5.0, budget=Budget(10.0, 1e-5))
    async with node(federation, config, Limits(0.5, 1)) as client:
        await client.perform(task, federation.sealing, TIMEOUT)
        (worker,) = _workers()
        assert _memory_limits(worker) == [str(8 * 2**30)] * 2
        assert len(os.sched_getaffinity(worker)) == 1


async def test_a_limit_too_small_for_one_block_is_named_before_a_row_is_read(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    features = tuple(f"x{number}" for number in range(1, 701))
    create_wide(cluster, federated_database, 10, features)
    config = federation.node_config(cluster, federated_database, max_memory_gb=0.25)
    task = replace(
        statistics_task(),
        reading=replace(READING, features=features),
        work=StatisticsWork("logistic_regression", None, classes=2).to_work(len(features)),
    )
    async with node(federation, config) as client:
        with pytest.raises(NodeRefusedError) as raised:
            await client.perform(task, federation.sealing, TIMEOUT)
    assert raised.value.reason is ErrorCode.PROGRAM_LIMIT
    assert "too small to hold one block" in raised.value.message
    assert "max_memory_gb is 0.25" in raised.value.message


def _workers() -> list[int]:
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"heliosdb.node.training_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def _memory_limits(worker: int) -> list[str]:
    """The soft and the hard one."""
    limits = Path(f"/proc/{worker}/limits").read_text().splitlines()
    return next(line for line in limits if "data size" in line).split()[3:5]


def _maps_scratch(directory: Path) -> bool:
    """Whether the training process has mapped a file of the directory, which has no name there any more."""
    (worker,) = _workers()
    return str(directory) in Path(f"/proc/{worker}/maps").read_text()
