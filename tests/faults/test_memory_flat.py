"""Rounds of large models: what coordinator and node hold in memory after many is what they held after a few."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.faults.support import WHOLE
from tests.faults.wide_support import PART, Five, add_wide_site, create_wide_model
from tests.integration.coordinator.support import World, create_workspace, make_world
from tests.support.cluster import Cluster

PARAMETERS, ROUNDS, ROWS = (2_500_000, 200, 4096) if WHOLE else (250_000, 40, 1024)
SETTLED, WINDOW = 20, 10
"""Rounds after which nothing is to grow any more, and of how many the median is compared."""

MOST = 10 * 8 * PARAMETERS
"""Bytes: what lies between two messages at any moment is a few updates, and comes and goes."""


@pytest.fixture(scope="module")
def pair(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Five]:
    """Two nodes, and no coordinator."""
    directory = tmp_path_factory.mktemp("large")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
        yield asyncio.run(found(world))


async def found(world: World) -> Five:
    world.parts = (PART,)
    create_workspace(world, min_nodes=2, round_timeout=600)
    for number, name in enumerate("ab"):
        world.register(await add_wide_site(world, name, number, rows=ROWS))
    create_wide_model(world)
    return Five(world)


def resident(pid: int) -> int:
    """The bytes of a process that are in memory."""
    rows = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (row,) = [row for row in rows if row.startswith("VmRSS:")]
    return 1024 * int(row.split()[1])


async def test_memory_does_not_grow_with_the_rounds(pair: Five) -> None:
    world, seen = pair.world, dict[int, dict[str, int]]()
    coordinator = world.start_coordinator()
    await world.reached("(SELECT count(*) = 2 FROM federated.node WHERE status = 'active')")
    processes = {"coordinator": coordinator.process.pid}
    processes |= {site.name: site.process.process.pid for site in world.sites if site.process is not None}
    run = pair.start(rounds=ROUNDS, parameters=PARAMETERS)
    number = 0
    while number < ROUNDS:
        await pair.closed(run, number + 1)
        number = pair.last_closed(run)
        seen[number] = {name: resident(pid) for name, pid in processes.items()}
    await pair.ended(run, "completed")
    coordinator.kill()

    pair.demand_replay(run, parameters=PARAMETERS)
    for name in processes:
        before = median(seen[one][name] for one in seen if SETTLED - WINDOW < one <= SETTLED)
        after = median(seen[one][name] for one in seen if ROUNDS - WINDOW < one <= ROUNDS)
        assert after - before < MOST, [seen[one][name] for one in sorted(seen)]
