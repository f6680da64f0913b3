"""One stack for all tests of the API: a federation costs seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.api.stack import Api, add_nodes, drop_roles, make_roles, running_api
from tests.integration.coordinator.support import make_world
from tests.support.cluster import Cluster


@pytest.fixture(scope="module")
def api(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Three nodes, a coordinator and an API; nothing is in the catalog."""
    database = cluster.create_database("federated_template")
    with make_world(cluster, tmp_path_factory.mktemp("api"), database) as world:
        try:
            tokens = make_roles(world)
            add_nodes(world)
            world.start_coordinator()
            with running_api(world, "api", tokens) as made:
                yield made
        finally:
            world.end_processes()
            cluster.drop_database(database)
            drop_roles(world)
