"""What a node's own operator sees of tasks: outcomes and, without a budget, where the time went."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.privacy import Budget
from heliosdb.node.service import serve_many
from heliosdb.observing.metric import Daemon
from heliosdb.observing.tracing import tracing_to
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    create_patients,
    running_node,
    share,
    statistics_task,
    train_task,
)
from tests.support.ports import free_port
from tests.support.scrapes import scrape
from tests.support.spans import Kept

TIMEOUT = 180.0
BUDGET = Budget(1.0, 1e-5)
TRACE, SPAN = "1" * 32, "2" * 16
SPENT = 'heliosdb_node_dataset_epsilon_spent{dataset="patients"}'
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


async def test_times_are_told_of_plain_answers_and_of_no_others(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation, kept, port = Federation(tmp_path), Kept(), free_port()
    create_patients(cluster, federated_database)
    with cluster.connect(federated_database) as connection:
        connection.execute("CREATE TABLE visit (a integer)")
        share(connection, "visits", "visit", options="WITH (max_epsilon = 4.0)")
    config = federation.node_config(
        cluster, federated_database, metrics={"listen": f"127.0.0.1:{port}", "interval": 1}
    )
    async with running_node(config) as node:
        client = federation.client(node)

        async def ask(task: object, traceparent: str | None = None) -> None:
            await client.perform(task, federation.sealing, TIMEOUT, traceparent=traceparent)  # type: ignore[arg-type]

        with tracing_to(kept, Daemon.NODE):
            await ask(statistics_task(), TRACEPARENT)
        plain, kept.spans = kept.spans, []
        before = await asyncio.to_thread(scrape, port)
        with tracing_to(kept, Daemon.NODE):
            await ask(statistics_task(noise_multiplier=20.0, budget=BUDGET), "00-not-a-traceparent")
        private, kept.spans = kept.spans, []
        with tracing_to(kept, Daemon.NODE), pytest.raises(NodeRefusedError):
            await ask(train_task(noise_multiplier=5.0))
        after = await asyncio.to_thread(scrape, port)
        # What was read from the ledger is shown again for a second.
        async with asyncio.timeout(TIMEOUT):
            while SPENT not in (later := await asyncio.to_thread(scrape, port)):  # noqa: ASYNC110 - a scrape gives no events
                await asyncio.sleep(0.1)
        await client.close()

    assert {span.name for span in plain} == {"task", "compute", "door"}
    assert {f"{span.context.trace_id:032x}" for span in plain if span.context} == {TRACE}
    # Of a task under a budget no inner span; and what is no traceparent is not followed.
    assert [(span.name, span.parent) for span in private] == [("task", None)]
    assert kept.named("task").attributes is not None
    assert kept.named("task").attributes["heliosdb.outcome"] == "refused"  # type: ignore[index]

    answered = 'heliosdb_node_tasks_total{outcome="answered",step="statistics"}'
    assert (before[answered], after[answered]) == (1, 2)
    assert after['heliosdb_node_tasks_total{outcome="refused",step="train"}'] == 1
    for part in ("task", "computing", "door"):
        name = f"heliosdb_node_{part}_duration_seconds_count"
        assert before[name] == after[name] == 1
    assert (before["heliosdb_node_charges_total"], after["heliosdb_node_charges_total"]) == (0, 1)
    assert after['heliosdb_node_dataset_epsilon_ceiling{dataset="visits"}'] == 4.0
    with cluster.connect(federated_database) as connection:
        [(spent,)] = connection.execute("SELECT max(epsilon_tight) FROM federated.spending").fetchall()
    assert later[SPENT] == spent


async def test_no_scrape_tells_when_a_task_under_a_budget_is_computed(
    cluster: Cluster, federated_database: str, tmp_path: Path
) -> None:
    federation, port = Federation(tmp_path), free_port()
    create_patients(cluster, federated_database)
    config = federation.node_config(cluster, federated_database, metrics=f"127.0.0.1:{port}")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def scraped_in(task: object) -> dict[str, float]:
        """What a scrape shows while the task's rows are being read."""
        with cluster.connect(federated_database) as holder, cluster.connect(federated_database) as watcher:
            with holder.transaction():
                holder.execute("LOCK TABLE patient")
                work = asyncio.create_task(client.perform(task, federation.sealing, TIMEOUT))  # type: ignore[arg-type]
                async with asyncio.timeout(TIMEOUT):
                    while watcher.execute(waiting).fetchone() == (0,):
                        assert not work.done()
                        await asyncio.sleep(0.02)
                found = await asyncio.to_thread(scrape, port)
            await work
        return found

    async with running_node(config) as node:
        client = federation.client(node)
        plain = await scraped_in(statistics_task())
        private = await scraped_in(statistics_task(noise_multiplier=20.0, budget=BUDGET))
        after = await asyncio.to_thread(scrape, port)
        await client.close()
    assert plain["heliosdb_node_tasks_under_way"] == 1
    assert private["heliosdb_node_tasks_under_way"] == private["heliosdb_node_charges_total"] == 0
    assert after["heliosdb_node_charges_total"] == 1
    assert not any(name.startswith("process_") for name in after)


async def test_nodes_that_share_a_process_have_no_metrics(tmp_path: Path, cluster: Cluster) -> None:
    federation = Federation(tmp_path)
    configs = [
        federation.node_config(cluster, "postgres", name, metrics="127.0.0.1:0") for name in ("one", "two")
    ]
    with pytest.raises(FederatedError, match="neither metrics nor tracing"):
        await serve_many(configs)
