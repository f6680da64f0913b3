"""Fixtures of the SDK's tests: a database with a model of every kind of column, and a whole federation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.integration.coordinator.support import World, make_world
from tests.support.cluster import Cluster

NODES = ("hospital_a", "hospital_b", "hospital_c")


@pytest.fixture(scope="module")
def module_database(cluster: Cluster) -> Iterator[str]:
    """A database with the extension that the tests of a module share."""
    name = cluster.create_database("federated_template")
    yield name
    cluster.drop_database(name)


@pytest.fixture(scope="module")
def federation(
    cluster: Cluster, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Three nodes that share 200 patients each, none registered yet, and a coordinator."""

    async def add_sites() -> None:
        for place, name in enumerate(NODES):
            await world.add_site(name, seed=0.1 + place / 10)

    with make_world(cluster, tmp_path_factory.mktemp("federation"), module_database) as world:
        asyncio.run(add_sites())
        world.start_coordinator()
        yield world
