"""Fixtures of the coordinator's integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.coordinator.support import World, make_world
from tests.support.cluster import Cluster
from tests.support.daemons import training_networks


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, federated_database: str) -> Iterator[World]:
    """A catalog with nothing in it; processes that are started end with the test."""
    with make_world(cluster, tmp_path, federated_database) as made:
        yield made


@pytest.fixture
def forked_with_torch() -> Iterator[None]:
    """Nodes that are started from here on train networks."""
    with training_networks():
        yield
