"""kill -9 of node and coordinator at each named point of a delivery: never half a version, and it ends current."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from heliosdb.faults import POINTS
from tests.integration.coordinator.subscriptions_support import (
    create_numbers,
    grant,
    number,
    publish,
    reached,
    states,
    subscribe,
)
from tests.integration.coordinator.support import Site, World, create_workspace, make_world
from tests.support.cluster import Cluster

MODEL = "dose"


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A participant that subscribes to a model of which there is a version, and no coordinator."""
    directory: Path = tmp_path_factory.mktemp("deliveries")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as made:
        asyncio.run(prepare(made))
        yield made


async def prepare(world: World) -> None:
    create_workspace(world)
    site = await world.add_site("east", rows=20)
    world.register(site)
    create_numbers(world, MODEL)
    grant(world, MODEL)
    publish(world, MODEL, 1.0)
    subscribe(world, site, MODEL)
    coordinator = world.start_coordinator()
    await reached(world, site, MODEL, "current", 1)
    coordinator.kill()


def demand_whole(world: World, site: Site, *versions: int) -> None:
    """The participant predicts with the one version that it says it has, and it is one of these."""
    while True:
        _, version = states(world, site)[MODEL]
        predicted = number(world, site, MODEL)
        with world.cluster.connect(site.database) as connection:
            found = connection.execute(
                "SELECT proname FROM pg_proc WHERE pronamespace = 'federated_model'::regnamespace ORDER BY 1"
            ).fetchall()
            kept = connection.execute("SELECT version FROM federated.delivered_version").fetchall()
        # A node that outlives its coordinator may be about to commit: then this was of before and of after.
        if states(world, site)[MODEL][1] == version:
            break
    assert version in versions
    assert predicted == float(version)
    assert [name for (name,) in found] == [MODEL, f"{MODEL}@{version}"]
    assert kept == [(version,)]


WITHDRAWN = "node.delivery.withdrawn"


@pytest.mark.parametrize("point", sorted(point for point in POINTS - {WITHDRAWN} if ".delivery." in point))
async def test_a_kill_leaves_a_whole_version_and_the_next_life_brings_the_new_one(
    world: World, point: str
) -> None:
    (site,) = world.sites
    _, before = states(world, site)[MODEL]
    assert before is not None
    after = before + 1
    publish(world, MODEL, float(after))
    fault = f"{point}=kill"

    if point.startswith("coordinator."):
        await world.start_coordinator(faults=fault).died()
    else:
        site.kill()
        await world.start_site(site, faults=fault)
        assert site.process is not None
        coordinator = world.start_coordinator()
        assert await site.process.ended() < 0
        coordinator.kill()
    demand_whole(world, site, before, after)

    if not point.startswith("coordinator."):
        await world.start_site(site)
    successor = world.start_coordinator()
    await reached(world, site, MODEL, "current", after)
    await world.reached("SELECT state = 'current' AND version = %s FROM federated_subscribers", after)
    demand_whole(world, site, after)
    successor.kill()


async def test_a_kill_inside_a_withdrawal_leaves_the_version_and_the_next_life_withdraws_it(
    world: World,
) -> None:
    (site,) = world.sites
    _, version = states(world, site)[MODEL]
    assert version is not None
    with world.cluster.connect(world.database) as connection:
        connection.execute(
            "UPDATE federated.version SET is_current = false, retired_at = clock_timestamp(), prediction = NULL,"
            " prediction_arrays = NULL, sealed = ''"
        )
    site.kill()
    await world.start_site(site, faults=f"{WITHDRAWN}=kill")
    assert site.process is not None
    coordinator = world.start_coordinator()
    assert await site.process.ended() < 0
    coordinator.kill()
    demand_whole(world, site, version)

    await world.start_site(site)
    world.start_coordinator()
    await reached(world, site, MODEL, "retired", None)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        number(world, site, MODEL)
