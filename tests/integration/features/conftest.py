"""Fixtures of the tests of features as they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.coordinator.support import World, make_world
from tests.support.cluster import Cluster


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, federated_database: str) -> Iterator[World]:
    """A catalog with nothing in it; processes that are started end with the test."""
    with make_world(cluster, tmp_path, federated_database) as made:
        yield made
