"""Nodes that another system reaches: a run leaves the same, to the bit, whoever is killed in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.support import Result, read_result, start_run
from tests.integration.coordinator.flower_support import short_directory, start
from tests.integration.coordinator.support import CoordinatorProcess, World, create_model, make_world
from tests.support.cluster import Cluster
from tests.support.courier import Courier, at_socket, carrying


@dataclass(frozen=True)
class Relayed:
    """A federation between whose daemons a courier carries, and what its run leads to undisturbed."""

    world: World
    sockets: Path
    expected: Result

    def lead(self, *, faults: str = "") -> CoordinatorProcess:
        """Start a coordinator."""
        return lead(self.world, self.sockets, faults)

    async def bring_back(self, *, faults: str = "") -> None:
        """Start the first site's node anew."""
        site = self.world.sites[0]
        site.kill()
        at = str(self.sockets / f"{site.name}.sock")
        await self.world.start_site(site, faults=faults, flower_socket=at)


def courier(world: World, sockets: Path) -> Courier:
    places = {at: at_socket(sockets / f"{site.name}.sock") for at, site in enumerate(world.sites, 1)}
    return Courier(sockets / "coordinator.sock", places, lasting=True)


def lead(world: World, sockets: Path, faults: str) -> CoordinatorProcess:
    return world.start_coordinator(faults=faults, flower_socket=str(sockets / "coordinator.sock"))


async def run(world: World, sockets: Path) -> Result:
    coordinator = await start(world, sockets)
    create_model(world, rounds=3)
    async with carrying(courier(world, sockets)):
        start_run(world)
        await world.finished()
    coordinator.kill()
    return read_result(world)


@pytest.fixture(scope="module")
def relayed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relayed]:
    directory = tmp_path_factory.mktemp("relayed")
    database = cluster.create_database("federated_template")
    with make_world(cluster, directory, database) as world, short_directory() as sockets:
        made = Relayed(world, sockets, asyncio.run(run(world, sockets)))
        assert made.expected.status == "completed"
        yield made


@pytest.mark.parametrize("point", ["task.sent:4", "update.received:4"])
async def test_a_coordinator_that_is_killed_is_followed_to_the_same_result(
    relayed: Relayed, point: str
) -> None:
    async with carrying(courier(relayed.world, relayed.sockets)):
        start_run(relayed.world)
        await relayed.lead(faults=f"coordinator.{point}=kill").died()
        successor = relayed.lead()
        await relayed.world.finished()
        successor.kill()
    assert read_result(relayed.world) == relayed.expected


@pytest.mark.parametrize("point", ["task.received:2", "release.committed:2", "update.sent:2"])
async def test_a_node_that_is_killed_is_waited_for(relayed: Relayed, point: str) -> None:
    await relayed.bring_back(faults=f"node.{point}=kill")
    async with carrying(courier(relayed.world, relayed.sockets)):
        start_run(relayed.world)
        coordinator = relayed.lead()
        process = relayed.world.sites[0].process
        assert process is not None
        await process.ended()
        await relayed.bring_back()
        await relayed.world.finished()
        coordinator.kill()
    assert read_result(relayed.world) == relayed.expected
