"""A federation of Flower's that is there already carries our training: `make flower` makes the environment for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.coordinator.flower_support import (
    ACTIVE,
    latest,
    short_directory,
    start,
    train_where_the_coordinator_dials,
)
from tests.integration.coordinator.support import MODEL, World, create_model, make_world
from tests.support.cluster import Cluster
from tests.support.flower import FlowerFederation, flower_federation

AFTER_ROUND_1 = "EXISTS (SELECT FROM federated.round WHERE round_number = 1 AND status = 'closed')"
IN_ROUND_1 = "EXISTS (SELECT FROM federated.round WHERE round_number = 1)"


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, federated_database: str) -> Iterator[World]:
    """A catalog with nothing in it; processes that are started end with the test."""
    with make_world(cluster, tmp_path, federated_database) as made:
        yield made
        # Shown where the test has failed.
        for coordinator in made.coordinators:
            print(coordinator.log.read_text())


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory for sockets."""
    with short_directory() as directory:
        yield directory


@pytest.fixture
def flower(tmp_path: Path) -> Iterator[FlowerFederation]:
    """A federation of Flower's, in which nothing runs yet."""
    (tmp_path / "flower").mkdir()
    with flower_federation(tmp_path / "flower") as federation:
        yield federation
        for log in sorted((tmp_path / "flower").glob("*.log")):
            print(f"{log.name}:\n{log.read_text()[-5000:]}")


async def test_a_training_over_flower_outlives_a_supernode_and_ends_in_the_same_bits(
    world: World, sockets: Path, flower: FlowerFederation
) -> None:
    flower.start_link()
    coordinator = await start(world, sockets)
    create_model(world, rounds=2)
    for site in world.sites:
        flower.start_node(site.name, sockets / f"{site.name}.sock")
    await flower.run_app(sockets / "coordinator.sock")
    await world.reached(ACTIVE, 2)
    assert not listening_ports(world)

    world.execute(f"START FEDERATED TRAINING {MODEL}")
    await world.reached(IN_ROUND_1)
    flower.kill("west")
    flower.start_node("west", sockets / "west.sock")
    await world.reached(AFTER_ROUND_1)
    assert (await world.finished())["status"] == "completed"
    assert "Traceback" not in coordinator.log.read_text()
    flower.close()
    assert latest(world) == await train_where_the_coordinator_dials(world)


def listening_ports(world: World) -> set[int]:
    """The TCP ports at which our coordinator and nodes, and what they have started, listen."""
    daemons = [site.process.process.pid for site in world.sites if site.process is not None]
    daemons += [coordinator.process.pid for coordinator in world.coordinators]
    processes = [psutil.Process(pid) for pid in daemons]
    processes += [child for one in processes for child in one.children(recursive=True)]
    connections = [each for one in processes for each in one.net_connections("tcp")]
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}
