"""kill -9 of node and coordinator at each named point of an export: it is carried out once, into one file."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosdb.faults import POINTS
from tests.integration.coordinator.exports_support import export, in_state, server_directory, shown
from tests.integration.coordinator.orders_support import found_federation, keyed
from tests.integration.coordinator.support import World, make_world
from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A participant that lets exports out, and a coordinator that has published its key."""
    directory: Path = tmp_path_factory.mktemp("exports")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as made:
        asyncio.run(prepare(made))
        yield made


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with server_directory() as directory:
        yield directory


async def prepare(world: World) -> None:
    await found_federation(world, "east", rows=20, options=", exports = true, exports_per_day = 1000")
    coordinator = world.start_coordinator()
    await keyed(world)
    coordinator.kill()


def drafts(place: Path) -> list[str]:
    """What is left of files that were not finished."""
    return [file.name for file in place.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize(
    "point", sorted(point for point in POINTS if ".order." in point or ".export." in point)
)
async def test_a_killed_export_is_carried_out_once(world: World, place: Path, point: str) -> None:
    (site,) = world.sites
    path = place / f"{point}.json"
    export(world, "7", path)
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
        await world.start_site(site)
    successor = world.start_coordinator()
    await in_state(world, path, "written")
    successor.kill()

    content = path.read_bytes()
    one = shown(world, path)
    assert (one["sha256"], one["size_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    read = json.loads(content)
    assert [row["patient_id"] for row in read["nodes"][0]["datasets"][0]["rows"]] == [7]
    with world.cluster.connect(site.database) as connection:
        [left] = connection.execute(
            "SELECT count(*) FROM federated.node_export WHERE order_id = %s", [one["order_id"]]
        ).fetchone() or [0]
    assert left == 1
    assert world.query("SELECT * FROM federated.export_part") == []
    assert not drafts(place)
