"""Who is revoked is cut off at once: what is under way is discarded, and the run goes on without it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator.support import (
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
    filled,
)
from tests.support.federation import has_stopped, until
from tests.support.ports import free_port

AT_ONCE = 30.0
"""Seconds: fewer than the 40 after which a connection's signs of life would tell, where heartbeats do not."""


async def training(
    world: World, *, faults: str, log: Path, way: str = "listens", **options: object
) -> tuple[Site, Any]:
    """Three nodes in a run; the third stands still at a fault."""
    port = free_port()
    dials = way == "dials"
    settings: dict[str, object] = {"dial": f"https://localhost:{port}"} if dials else {}
    create_workspace(world, min_nodes=2, **({"communication_protocol": "https"} if dials else {}), **options)
    for number, name in enumerate(("east", "north", "west")):
        site = Site(name, filled(world.cluster, rows=200, seed=0.1 * (number + 1)))
        world.sites.append(site)
        own = dict(settings)
        if way == "aggregator":
            east = world.federation.directory / "east.pem"
            own = {"aggregates": True} if name == "east" else {"aggregator_certificate": east}
        at_fault = {"faults": faults, "log": log} if name == "west" else {}
        await world.start_site(site, **at_fault, **own)  # type: ignore[arg-type]
        world.register(site)
        if way == "aggregator" and name != "east":
            world.execute(f"ALTER FEDERATED NODE '{name}' IN WORKSPACE {WORKSPACE} SET (aggregator = 'east')")
    create_model(world, rounds=3, early_stopping_rounds=100)
    world.execute("START FEDERATED TRAINING risk")
    listens: dict[str, object] = {"listen_host": "127.0.0.1", "listen_port": port} if dials else {}
    coordinator = world.start_coordinator(heartbeat_timeout=3_000.0, **listens)
    west = world.sites[-1]
    await has_stopped(west.process.process.pid)
    return west, coordinator


@pytest.mark.parametrize("way", ["listens", "dials", "aggregator"])
async def test_an_unregistered_node_is_cut_off_in_the_middle_of_a_round(
    world: World, tmp_path: Path, way: str
) -> None:
    west, _ = await training(
        world, faults="node.release.committed:6=stop", log=tmp_path / "west.log", way=way
    )
    [before] = world.query("SELECT max(round_number) AS number FROM federated.round WHERE status = 'closed'")

    began = time.monotonic()
    world.execute(f"UNREGISTER FEDERATED NODE 'west' FROM WORKSPACE {WORKSPACE}")
    await world.reached(
        "(SELECT max(round_number) FROM federated.round WHERE status = 'closed') > %s", before["number"]
    )
    took = time.monotonic() - began
    os.kill(west.process.process.pid, signal.SIGCONT)

    run = await world.finished()
    assert run["status"] == "completed", run
    assert took < AT_ONCE, took
    nodes = world.query(
        "SELECT DISTINCT name FROM federated.participation JOIN federated.node USING (node_id) ORDER BY name"
    )
    assert [one["name"] for one in nodes] == ["east", "north"]
    counted = world.query(
        "SELECT round_number, count(*) AS n FROM federated.participation"
        " WHERE outcome = 'received' AND round_number = 3 GROUP BY 1, exchange, step"
    )
    assert {one["n"] for one in counted} == {2}
    world.check_processes()


async def test_a_node_whose_certificate_is_replaced_by_another_is_cut_off_too(
    world: World, tmp_path: Path
) -> None:
    west, coordinator = await training(
        world, faults="node.release.committed:6=stop", log=tmp_path / "west.log"
    )
    other = world.federation.authority.issue("other", ["localhost"])
    world.federation.write("other", other)
    world.execute(
        f"ALTER FEDERATED NODE 'west' IN WORKSPACE {WORKSPACE}"
        f" SET (certificate = '{world.federation.directory / 'other.pem'}')"
    )
    await coordinator.said("connections to node west are made anew")
    os.kill(west.process.process.pid, signal.SIGCONT)
    await world.reached(
        "EXISTS (SELECT FROM federated_node_status WHERE node_name = 'west' AND status = 'failed')"
    )


@pytest.mark.parametrize("dials", [False, True], ids=["listens", "dials"])
async def test_a_coordinator_that_a_node_pins_no_longer_is_cut_off(
    world: World, tmp_path: Path, dials: bool
) -> None:
    port, log = free_port(), tmp_path / "node.log"
    create_workspace(world, min_nodes=1, **({"communication_protocol": "https"} if dials else {}))
    site = Site("east", filled(world.cluster, rows=100, seed=0.1))
    world.sites.append(site)
    pinned = tmp_path / "pinned.pem"
    pinned.write_bytes((world.federation.directory / "coordinator.pem").read_bytes())
    settings: dict[str, object] = {"coordinator_certificate": pinned}
    await world.start_site(
        site, log=log, **settings, **({"dial": f"https://localhost:{port}"} if dials else {})
    )
    world.register(site)
    world.start_coordinator(**({"listen_host": "127.0.0.1", "listen_port": port} if dials else {}))
    await world.reached("EXISTS (SELECT FROM federated_node_status WHERE status = 'active')")

    pinned.write_bytes(world.federation.authority.issue("another", ["localhost"]).certificate_pem)
    site.process.process.send_signal(signal.SIGHUP)
    if dials:
        # By itself it looks at the file once an hour.
        await until(lambda: "is cut: its certificate is pinned no longer" in log.read_text())
    await world.reached("EXISTS (SELECT FROM federated_node_status WHERE status = 'failed')")
    await asyncio.sleep(0.1)
    assert site.process.process.poll() is None
