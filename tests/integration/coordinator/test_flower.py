"""Nodes that another system reaches: real daemons, and in this process what carries between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.coordinator.flower_support import (
    ABSENT,
    ACTIVE,
    latest,
    short_directory,
    start,
    train_where_the_coordinator_dials,
)
from tests.integration.coordinator.support import MODEL, World, create_model
from tests.support.courier import Courier, at_socket, carrying


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory for sockets."""
    with short_directory() as directory:
        yield directory


def courier(world: World, sockets: Path) -> Courier:
    """What carries between a coordinator and the nodes of a world."""
    places = {at: at_socket(sockets / f"{site.name}.sock") for at, site in enumerate(world.sites, 1)}
    return Courier(sockets / "coordinator.sock", places)


async def test_a_model_has_the_bits_that_it_has_where_the_coordinator_dials(
    world: World, sockets: Path
) -> None:
    coordinator = await start(world, sockets)
    create_model(world)
    await world.reached(ABSENT, "%Flower's ServerApp has not connected%")
    async with carrying(courier(world, sockets)):
        await world.reached(ACTIVE, 2)
        world.execute(f"START FEDERATED TRAINING {MODEL}")
        assert (await world.finished())["status"] == "completed"
    assert "Traceback" not in coordinator.log.read_text()
    assert latest(world) == await train_where_the_coordinator_dials(world)


@pytest.mark.parametrize(
    "options",
    [{"async_aggregation": True, "aggregation_batch_size": 1}, {"privacy_budget": 4}],
    ids=["asynchronous", "budget"],
)
async def test_runs_of_every_kind_go_over_it(world: World, sockets: Path, options: dict[str, object]) -> None:
    coordinator = await start(world, sockets, **options)
    create_model(world)
    async with carrying(courier(world, sockets)):
        world.execute(f"START FEDERATED TRAINING {MODEL}")
        run = await world.finished()
    assert run["status"] in ("completed", "converged"), run
    assert "Traceback" not in coordinator.log.read_text()


async def test_a_coordinator_without_a_socket_says_so(world: World, sockets: Path) -> None:
    coordinator = await start(world, sockets, ("east",))
    coordinator.kill()
    world.start_coordinator()
    await world.reached(ABSENT, "%the coordinator has no socket for it%")


async def test_a_coordinator_whose_directory_is_open_to_others_does_not_lead(
    world: World, sockets: Path
) -> None:
    (sockets / "open").mkdir()
    (sockets / "open").chmod(0o777)
    coordinator = world.start_coordinator(flower_socket=str(sockets / "open" / "c.sock"))
    await coordinator.said("not leading: the directory of")


async def test_a_node_that_is_killed_is_met_again_over_the_same_place(world: World, sockets: Path) -> None:
    await start(world, sockets, ("east",))
    (site,) = world.sites
    async with carrying(courier(world, sockets)):
        await world.reached(ACTIVE, 1)
        site.kill()
        await world.start_site(site, flower_socket=str(sockets / "east.sock"))
        create_model(world)
        world.execute(f"START FEDERATED TRAINING {MODEL}")
        assert (await world.finished())["status"] == "completed"
