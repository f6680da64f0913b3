"""A hospital's database that restarts while a run is under way: the run goes on, with the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator.support import (
    Site,
    World,
    create_model,
    create_workspace,
    fill,
    make_world,
)
from tests.support.cluster import Cluster, create_cluster, remove_cluster
from tests.support.federation import NodeProcess
from tests.support.ports import free_port


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, federated_database: str) -> Iterator[World]:
    """A catalog with nothing in it; processes that are started end with the test."""
    with make_world(cluster, tmp_path, federated_database) as made:
        yield made


@pytest.fixture
def hospital() -> Iterator[Cluster]:
    """A server of its own, with a database "hospital"."""
    running = create_cluster(free_port())
    try:
        with running.connect("template1") as connection:
            connection.execute("CREATE EXTENSION plpython3u")
        with running.connect() as connection:
            connection.execute("CREATE DATABASE hospital")
        with running.connect("hospital") as connection:
            connection.execute("CREATE EXTENSION heliosdb_federated_learning")
            connection.execute("CREATE ROLE heliosdb_daemon LOGIN IN ROLE federated_daemon")
            connection.execute("CREATE ROLE heliosdb_reader LOGIN IN ROLE federated_reader")
        yield running
    finally:
        remove_cluster(running)


async def start(world: World, hospital: Cluster, *, rounds: int, **policy: object) -> None:
    """Two nodes, one over the hospital's server, and a run of theirs."""
    create_workspace(world, min_nodes=2, round_timeout=300, **policy)
    fill(hospital, "hospital", rows=400, seed=0.3)
    near = await world.add_site("near", rows=400, seed=0.2)
    away = Site("away", "hospital")
    world.sites.append(away)
    config = world.federation.node_config(hospital, "hospital", "away")
    away.process = NodeProcess(config, world.federation.directory)
    away.port = await away.process.port()
    for site in (near, away):
        world.register(site)
    create_model(world, rounds=rounds, early_stopping_rounds=1000, convergence_threshold=0)
    world.start_coordinator()
    await world.reached("(SELECT count(*) = 2 FROM federated.node WHERE status = 'active')")
    world.execute("START FEDERATED TRAINING risk")


async def restart_in_a_round(world: World, hospital: Cluster) -> None:
    """Take the server away until the coordinator has noticed: so a task was answered by its absence."""
    await world.reached("EXISTS (SELECT FROM federated.round WHERE round_number = 3)")
    hospital.stop("fast")
    try:
        await world.reached("EXISTS (SELECT FROM federated.node WHERE name = 'away' AND status <> 'active')")
        assert [one["status"] for one in world.runs()] == ["running"]
    finally:
        hospital.start()


def parameters(world: World) -> Any:
    (found,) = world.query("SELECT prediction FROM federated.version WHERE is_current")
    return found["prediction"]


async def test_a_node_whose_database_restarts_is_asked_again_and_nothing_changes(
    world: World, hospital: Cluster
) -> None:
    await start(world, hospital, rounds=40)
    await restart_in_a_round(world, hospital)
    run = await world.finished()
    assert run["status"] == "completed", run
    disturbed = parameters(world)

    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished(count=2)

    assert run["status"] == "completed", run
    assert parameters(world) == disturbed


async def test_under_a_budget_it_is_charged_once_for_what_it_answers(world: World, hospital: Cluster) -> None:
    await start(world, hospital, rounds=40, privacy_budget=8)
    await restart_in_a_round(world, hospital)
    run = await world.finished()

    assert run["status"] == "completed", run
    with hospital.connect("hospital") as connection:
        states = connection.execute(
            "SELECT r.state::text, count(*), count(s.release_id), count(DISTINCT (round_number, exchange, step)) "
            "FROM federated.release AS r LEFT JOIN federated.spending AS s USING (release_id) GROUP BY 1"
        ).fetchall()
    ((state, releases, charges, tasks),) = states
    assert (state, charges, tasks) == ("released", releases, releases)
    asked = world.query(
        "SELECT count(*) AS n FROM federated.ledger WHERE node_name = 'away' AND state = 'charged'"
    )
    assert asked[0]["n"] == releases
