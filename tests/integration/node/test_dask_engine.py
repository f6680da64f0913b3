"""A node whose rows lie with dask workers answers what one process answers, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.node.test_limits import create_wide, node, tasks
from tests.support.cluster import Cluster
from tests.support.federation import Federation

TIMEOUT = 180.0
ROWS = 60_000


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


async def test_rows_with_workers_lead_to_the_same_bits(
    cluster: Cluster, federated_database: str, federation: Federation
) -> None:
    create_wide(cluster, federated_database, ROWS)
    found = []
    for engine in ({}, {"engine": "dask", "dask": {"workers": 2}}):
        config = federation.node_config(cluster, federated_database, **engine)
        async with node(federation, config) as client:
            answers = [await client.perform(task, federation.sealing, TIMEOUT) for task in tasks()]
        found.append([(answer.vector.tobytes(), answer.weight) for answer in answers])
    assert found[0] == found[1]
