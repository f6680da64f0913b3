"""Workspaces whose nodes are reached over Flower, or over what stands in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    CoordinatorProcess,
    Site,
    World,
    create_workspace,
    filled,
)

ACTIVE = "(SELECT count(*) FROM federated_node_status WHERE status = 'active') = %s"
ABSENT = "EXISTS (SELECT FROM federated_node_diagnostics WHERE failure_reason LIKE %s)"
_LATEST = "SELECT prediction::text AS prediction FROM federated.version ORDER BY created_at DESC LIMIT 1"


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory for sockets: closed to others, and of a short path, for a socket's is limited to 107 bytes."""
    with TemporaryDirectory(prefix="f") as directory:
        yield Path(directory)


async def start(
    world: World, sockets: Path, names: tuple[str, ...] = ("east", "west"), **settings: object
) -> CoordinatorProcess:
    """A coordinator and nodes that wait for what carries their batches. settings: the workspace's."""
    create_workspace(world, min_nodes=len(names), communication_protocol="flower", **settings)
    for seed, name in enumerate(names, 1):
        site = Site(name, filled(world.cluster, rows=100, seed=seed / 10))
        world.sites.append(site)
        await world.start_site(site, flower_socket=str(sockets / f"{name}.sock"))
        world.register(site)
    return start_coordinator(world, sockets)


def start_coordinator(world: World, sockets: Path) -> CoordinatorProcess:
    """A coordinator that waits for what carries its batches."""
    return world.start_coordinator(flower_socket=str(sockets / "coordinator.sock"))


def latest(world: World) -> dict[str, Any]:
    """The parameters of the version that was published last."""
    return world.query(_LATEST)[0]


async def train_where_the_coordinator_dials(world: World) -> dict[str, Any]:
    """What the same training at the same nodes publishes where the coordinator dials them."""
    ended = len(world.runs())
    world.end_processes()
    for site in world.sites:
        world.execute(f"UNREGISTER FEDERATED NODE '{site.name}' FROM WORKSPACE {WORKSPACE}")
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (communication_protocol = 'grpc')")
    for site in world.sites:
        await world.start_site(site)
        world.register(site)
    world.start_coordinator()
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    assert (await world.finished(count=ended + 1))["status"] == "completed"
    return latest(world)
