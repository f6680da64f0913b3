"""A run as its operators see it: the metrics, the trace of a round and the log of coordinator and nodes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from heliosdb.observing.table import WORKSPACE as WORKSPACE_METRICS
from tests.integration.coordinator.support import World, create_model, create_workspace
from tests.support.collector import Collector, Received, collecting
from tests.support.federation import until
from tests.support.ports import free_port
from tests.support.scrapes import scrape

ROUNDS = 2
SPANS = {"round", "exchange", "ask", "combine", "task", "compute", "door"}
ATTRIBUTES = {"workspace", "run", "round", "exchange", "step", "node", "outcome"}


async def test_a_run_shows_in_metrics_traces_and_logs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("HELIOSDB_TEST_LOG_LEVEL", "INFO")
    with collecting() as collector:
        ports = [free_port() for _ in range(3)]
        await start(world, collector, ports)
        run = await world.finished()
        assert run["status"] == "completed", run
        await until(lambda: len(collector.named("round")) == ROUNDS + 1)
        coordinator, north, south = [await asyncio.to_thread(scrape, port) for port in ports]

        check_coordinator(world, coordinator)
        for node in (north, south):
            check_node(node)
        check_traces(world, collector, str(run["run_id"]))
        check_log(world, str(run["run_id"]))

        await check_standby(world)


async def start(world: World, collector: Collector, ports: list[int]) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("north", "south")):
        site = await world.add_site(name, shares=True)
        site.kill()
        await world.start_site(
            site,
            log=world.federation.directory / f"{name}.log",
            log_format="json",
            metrics=f"127.0.0.1:{ports[number + 1]}",
            tracing={"endpoint": collector.endpoint},
        )
        world.register(site)
    create_model(world, rounds=ROUNDS)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator(
        metrics=f"127.0.0.1:{ports[0]}", log_format="json", **{"tracing.endpoint": collector.endpoint}
    )


def check_coordinator(world: World, found: dict[str, float]) -> None:
    """Its figures are those of the catalog."""
    w = 'workspace="consortium"'
    [sums] = world.query(
        "SELECT sum(bytes_sent)::float8 AS sent, sum(bytes_received)::float8 AS received,"
        " count(*) FILTER (WHERE outcome = 'received')::float8 AS updates FROM federated.participation"
    )
    assert found['heliosdb_ready{daemon="coordinator"}'] == 1
    assert found["heliosdb_coordinator_leading"] == found["heliosdb_coordinator_leases_total"] == 1
    assert found["heliosdb_coordinator_certificate_expiry_timestamp_seconds"] == pytest.approx(
        world.federation.coordinator.expires.timestamp()
    )
    assert found["heliosdb_coordinator_catalog_up"] == 1
    assert found[f"heliosdb_coordinator_rounds_total{{{w}}}"] == ROUNDS + 1
    assert found[f"heliosdb_coordinator_round_duration_seconds_count{{{w}}}"] == ROUNDS + 1
    assert found[f'heliosdb_coordinator_runs_total{{status="completed",{w}}}'] == 1
    assert found[f'heliosdb_coordinator_updates_total{{outcome="received",{w}}}'] == sums["updates"] > 0
    assert found[f"heliosdb_coordinator_sent_bytes_total{{{w}}}"] == sums["sent"]
    assert found[f"heliosdb_coordinator_received_bytes_total{{{w}}}"] == sums["received"]
    assert not any("updates_lost" in name for name in found)
    assert found[f'heliosdb_workspace_node_up{{node="north",{w}}}'] == 1
    assert found[f'heliosdb_workspace_node_certificate_expiry_timestamp_seconds{{node="south",{w}}}'] > 0
    assert found[f"heliosdb_workspace_active_nodes{{{w}}}"] == 2
    check_against_auditor(world, found)
    # Before a budget is given there is none to show.
    assert f"heliosdb_workspace_epsilon_budget{{{w}}}" not in found


def check_against_auditor(world: World, found: dict[str, float]) -> None:
    """What is shown of the workspace is what an auditor reads, and all of it."""
    with world.catalog() as connection:
        connection.execute("SET ROLE federated_auditor")
        rows = connection.execute(
            "SELECT metric, value FROM federated_alert_metrics WHERE value IS NOT NULL"
        ).fetchall()
    shown = {WORKSPACE_METRICS[row["metric"]][0].name for row in rows}
    labels = '{workspace="consortium"}'
    assert {f"{name}{labels}" for name in shown} == {
        name for name in found if name.startswith("heliosdb_workspace_") and name.endswith(labels)
    }
    values = {row["metric"]: row["value"] for row in rows}
    for name in ("active_nodes", "global_loss", "communication_mb", "participating_nodes"):
        metric, factor = WORKSPACE_METRICS[name]
        assert found[f"{metric.name}{labels}"] == values[name] * factor


def check_node(found: dict[str, float]) -> None:
    assert found['heliosdb_ready{daemon="node"}'] == found["heliosdb_node_catalog_up"] == 1
    assert found['heliosdb_node_tasks_total{outcome="answered",step="train"}'] == ROUNDS
    answered = sum(value for name, value in found.items() if name.startswith("heliosdb_node_tasks_total"))
    for part in ("task", "computing", "door"):
        assert found[f"heliosdb_node_{part}_duration_seconds_count"] == answered
    assert found["heliosdb_node_charges_total"] == found["heliosdb_node_tasks_under_way"] == 0
    assert not any("rows" in name for name in found)


def check_traces(world: World, collector: Collector, run: str) -> None:
    """Each round is one trace over three processes, whose spans say where and how and nothing else."""
    by_trace: dict[bytes, list[Received]] = {}
    for one in collector.received:
        by_trace.setdefault(one.span.trace_id, []).append(one)
        assert one.told.keys() <= ATTRIBUTES
        assert not one.span.events
        assert not one.span.status.message
    assert len(by_trace) == ROUNDS + 1
    assert {one.span.name for one in collector.received} == SPANS
    for spans in by_trace.values():
        [root] = [one for one in spans if one.span.name == "round"]
        assert root.told["run"] == run
        assert root.told["outcome"] == "closed"
        ids = {one.span.span_id: one for one in spans}
        tasks = [one for one in spans if one.span.name == "task"]
        assert {one.told["node"] for one in tasks} == {"north", "south"}
        for task in tasks:
            assert task.service == "heliosdb-node"
            asked = ids[task.span.parent_span_id]
            assert (asked.service, asked.span.name) == ("heliosdb-coordinator", "ask")
            assert asked.told["node"] == task.told["node"]
            assert (task.told["outcome"], asked.told["outcome"]) == ("answered", "received")
            exchange = ids[asked.span.parent_span_id]
            assert exchange.span.parent_span_id == root.span.span_id
        assert all(one is root or one.span.parent_span_id in ids for one in spans)


def check_log(world: World, run: str) -> None:
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in world.coordinators[0].log.read_text().splitlines()
    ]
    for site in world.sites:
        lines += map(json.loads, (world.federation.directory / f"{site.name}.log").read_text().splitlines())
    assert {line["logger"] for line in lines} >= {"heliosdb.coordinator.driver", "heliosdb.node.service"}
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    [closed] = [line for line in lines if line["message"].startswith(f"round closed: run={run} round=1 ")]
    assert (closed["workspace"], closed["run"], closed["round"]) == ("consortium", run, "1")
    assert "run" not in next(line for line in lines if line["message"].startswith("leading"))


async def check_standby(world: World) -> None:
    """Who does not lead says so, and shows nothing of the catalog."""
    second = free_port()
    world.start_coordinator(metrics=f"127.0.0.1:{second}")
    await world.coordinators[1].said("standing by")
    found = await asyncio.to_thread(scrape, second)
    assert found["heliosdb_coordinator_leading"] == 0
    assert 'heliosdb_ready{daemon="coordinator"}' in found
    assert not any(
        name.startswith(("heliosdb_workspace_", "heliosdb_coordinator_catalog_up")) for name in found
    )
