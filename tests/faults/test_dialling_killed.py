"""Nodes that dial: a run leaves the same, to the bit, as one of nodes that listen, whoever is killed in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.support import Result, read_result, start_run
from tests.integration.coordinator.support import (
    WORKSPACE,
    CoordinatorProcess,
    World,
    create_model,
    create_workspace,
    make_world,
)
from tests.support.cluster import Cluster
from tests.support.ports import free_port

ROUNDS = 3


@dataclass(frozen=True)
class Dialling:
    """A federation whose nodes dial two addresses in turn, and what its run leads to where they listen."""

    world: World
    ports: tuple[int, int]
    listened: Result

    @property
    def addresses(self) -> list[str]:
        """Where coordinators may lead."""
        return [f"https://localhost:{port}" for port in self.ports]

    def lead(self, which: int, *, faults: str = "") -> CoordinatorProcess:
        """Start a coordinator at one of the ports."""
        return self.world.start_coordinator(
            faults=faults, listen_host="127.0.0.1", listen_port=self.ports[which]
        )

    async def bring_back(self, number: int, *, faults: str = "") -> None:
        """Start a site's node anew."""
        site = self.world.sites[number]
        site.kill()
        await self.world.start_site(site, faults=faults, dial=self.addresses)


async def run_listening(world: World) -> Result:
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(("east", "north", "west")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, rounds=ROUNDS)
    start_run(world)
    coordinator = world.start_coordinator()
    await world.finished()
    coordinator.kill()
    return read_result(world)


async def turn_round(dialling: Dialling) -> None:
    """Have the same nodes dial from now on."""
    world = dialling.world
    for site in world.sites:
        world.execute(f"UNREGISTER FEDERATED NODE '{site.name}' FROM WORKSPACE {WORKSPACE}")
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (communication_protocol = 'https')")
    for number, site in enumerate(world.sites):
        await dialling.bring_back(number)
        world.register(site)


@pytest.fixture(scope="module")
def dialling(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dialling]:
    directory: Path = tmp_path_factory.mktemp("dialling")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
        made = Dialling(world, (free_port(), free_port()), asyncio.run(run_listening(world)))
        assert made.listened.status == "completed"
        asyncio.run(turn_round(made))
        yield made


def listening(pid: int) -> set[str]:
    """The TCP sockets at which a process listens."""
    links = (link for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink())
    inodes = {str(link.readlink()) for link in links}
    rows = [
        row.split()
        for table in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{table}").read_text(encoding="ascii").splitlines()[1:]
    ]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


async def test_a_run_over_nodes_that_dial_is_that_over_nodes_that_listen_and_nothing_listens_at_them(
    dialling: Dialling,
) -> None:
    world = dialling.world
    start_run(world)

    coordinator = dialling.lead(0)
    await world.finished()

    assert [listening(site.process.process.pid) for site in world.sites if site.process] == [set()] * 3
    assert listening(coordinator.process.pid)
    coordinator.kill()
    assert read_result(world) == dialling.listened
    shown = world.query("SELECT DISTINCT endpoint_in_use FROM federated_node_diagnostics")
    assert shown == [{"endpoint_in_use": None}]


@pytest.mark.parametrize("point", ["task.sent:4", "update.received:4", "round.closed:2"])
async def test_a_coordinator_that_is_killed_is_followed_to_the_one_that_stood_by(
    dialling: Dialling, point: str
) -> None:
    world = dialling.world
    start_run(world)

    first = dialling.lead(0, faults=f"coordinator.{point}=kill")
    await first.said("leading: epoch=")
    second = dialling.lead(1)
    await first.died()
    await world.finished()
    second.kill()

    assert read_result(world) == dialling.listened


@pytest.mark.parametrize("point", ["task.received:2", "release.committed:2", "update.sent:2"])
async def test_a_node_that_is_killed_dials_again_and_is_waited_for(dialling: Dialling, point: str) -> None:
    world = dialling.world
    await dialling.bring_back(1, faults=f"node.{point}=kill")
    start_run(world)

    coordinator = dialling.lead(0)
    process = world.sites[1].process
    assert process is not None
    await process.ended()
    await dialling.bring_back(1)
    await world.finished()
    coordinator.kill()

    assert read_result(world) == dialling.listened
