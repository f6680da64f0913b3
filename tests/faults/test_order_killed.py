"""kill -9 of coordinator and node at each named point of a subject order: carried out once, and on record whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from heliosdb.faults import POINTS
from tests.integration.coordinator.orders_support import ended, erase, found_federation, keyed
from tests.integration.coordinator.support import Site, World, make_world
from tests.support.cluster import Cluster

_patients = count(1)


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A federation of one node that deletes, which a coordinator has served, and no coordinator."""
    directory: Path = tmp_path_factory.mktemp("orders")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as made:
        asyncio.run(prepare(made))
        yield made


async def prepare(world: World) -> None:
    await found_federation(world, "east", options=", erasure = 'delete'")
    coordinator = world.start_coordinator()
    await keyed(world)
    coordinator.kill()


def demand_carried_once(world: World, site: Site, patient: int) -> None:
    """The patient is gone, and both sides have the same one word about it."""
    [order] = world.query(
        "SELECT order_id, state, sealed FROM federated.subject_order ORDER BY requested_at DESC LIMIT 1"
    )
    assert (order["state"], order["sealed"]) == ("answered", None)
    said = world.query(
        "SELECT statement, outcome FROM federated.order_answer WHERE order_id = %s", order["order_id"]
    )
    with world.cluster.connect(site.database) as connection:
        done = connection.execute(
            "SELECT statement FROM federated.node_order WHERE order_id = %s", [order["order_id"]]
        ).fetchall()
        left = connection.execute("SELECT count(*) FROM patient WHERE patient_id = %s", [patient]).fetchone()
    assert left == (0,)
    assert [one["outcome"] for one in said] == ["erased"]
    assert [bytes(one["statement"]) for one in said] == [bytes(one) for (one,) in done]


@pytest.mark.parametrize("point", sorted(one for one in POINTS if one.startswith("coordinator.order.")))
async def test_a_coordinator_that_is_killed_leaves_an_order_that_is_carried_out_once(
    world: World, point: str
) -> None:
    [site], patient, before = (
        world.sites,
        next(_patients),
        len(world.query("SELECT FROM federated.subject_order")),
    )
    erase(world, str(patient))
    await world.start_coordinator(faults=f"{point}=kill").died()
    coordinator = world.start_coordinator()
    await ended(world, before + 1)
    demand_carried_once(world, site, patient)
    coordinator.kill()


@pytest.mark.parametrize("point", sorted(one for one in POINTS if one.startswith("node.order.")))
async def test_a_node_that_is_killed_leaves_an_order_that_is_carried_out_once(
    world: World, point: str
) -> None:
    [site], patient, before = (
        world.sites,
        next(_patients),
        len(world.query("SELECT FROM federated.subject_order")),
    )
    site.kill()
    await world.start_site(site, faults=f"{point}=kill")
    process = site.process
    assert process is not None
    erase(world, str(patient))
    coordinator = world.start_coordinator()
    assert await process.ended() < 0
    await world.start_site(site)
    await ended(world, before + 1)
    demand_carried_once(world, site, patient)
    coordinator.kill()
