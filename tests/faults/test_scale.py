"""Nodes that stop, links that part or crawl, nodes that come and go: the run goes on, and its history is the whole truth.

Each test ends with the same demand: every round is in the history once, and the model is what one computes by hand
from who counted in which round.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator

import pytest

from tests.faults.support import WHOLE
from tests.faults.wide_support import ENDLESS, Five, found_five
from tests.integration.coordinator.support import make_world
from tests.support.cluster import Cluster
from tests.support.line import Pace

FLAPPED_ROUNDS = 100 if WHOLE else 10
STOPPED_SECONDS = 60.0 if WHOLE else 0.0
CRAWLING = Pace(delay=0.2, rate=1e6 / 8)
REMOTE = Pace(delay=0.1, rate=1e8 / 8)
PARAMETERS = 5_000


@pytest.fixture(scope="module")
def five(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Five]:
    """Five nodes, and no coordinator."""
    directory = tmp_path_factory.mktemp("five")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
        yield asyncio.run(found_five(world))


async def away(five: Five, *names: str) -> None:
    """Wait until the coordinator knows that these nodes are away."""
    await five.world.reached(
        "(SELECT count(*) = %s FROM federated.node WHERE status <> 'active' AND name = ANY (%s))",
        len(names),
        list(names),
    )


async def test_a_run_goes_on_without_a_stopped_node_which_takes_part_again(five: Five) -> None:
    stopped = five.site("b")
    async with five.led():
        run = five.start(rounds=ENDLESS)
        await five.closed(run, 1)
        assert stopped.process is not None
        stopped.process.process.send_signal(signal.SIGSTOP)
        await away(five, "b")
        # How long it is stopped, not a wait for something.
        await asyncio.sleep(STOPPED_SECONDS)
        without = five.last_closed(run) + 1
        await five.closed(run, without + 1)
        stopped.process.process.send_signal(signal.SIGCONT)
        await five.counted(run, "b", after=without)
        five.world.execute("STOP FEDERATED TRAINING risk")
        await five.ended(run, "stopped")

    cohorts = five.demand_replay(run)
    assert any("b" not in counted for counted in cohorts.values())


async def test_two_of_five_nodes_behind_a_parted_network_count_again_when_it_is_joined(five: Five) -> None:
    async with five.led():
        run = five.start(rounds=ENDLESS)
        await five.closed(run, 1)
        for line in five.lines.values():
            line.part()
        await away(five, "d", "e")
        without = five.last_closed(run) + 1
        await five.closed(run, without + 1)
        for line in five.lines.values():
            line.join()
        await five.counted(run, "de", after=without)
        five.world.execute("STOP FEDERATED TRAINING risk")
        await five.ended(run, "stopped")

    cohorts = five.demand_replay(run)
    assert any(counted.keys() == {"a", "b", "c"} for counted in cohorts.values())


async def test_a_run_over_links_that_crawl_completes(five: Five) -> None:
    # A handshake takes longer over them, and a heartbeat.
    async with five.led(CRAWLING, heartbeat_timeout=10.0):
        run = five.start(rounds=3, parameters=PARAMETERS)
        await five.ended(run, "completed")

    five.demand_replay(run, parameters=PARAMETERS)
    slow = five.world.query(
        "SELECT min(p.duration_seconds) AS seconds FROM federated.participation AS p JOIN federated.node AS n"
        " USING (node_id) WHERE p.run_id = %s AND p.round_number > 0 AND n.name IN ('d', 'e')"
        " AND p.outcome = 'received'",
        run,
    )
    # There and back, and an update's bytes there.
    assert slow[0]["seconds"] > 2 * CRAWLING.delay + 8 * PARAMETERS / CRAWLING.rate


async def test_a_node_of_five_comes_and_goes_and_no_round_is_lost(five: Five) -> None:
    drawn, site, deaths = random.Random(14), five.site("a"), 0
    # Of its tasks the first is that of round 0, without which it is no member of the run.
    site.kill()
    await five.world.start_site(site, faults=f"node.task.received:{drawn.randint(2, 4)}=kill")
    # A round takes as long as messages to the others do: so several pass while a node starts, and not all.
    async with five.led(REMOTE, heartbeat_timeout=5.0, reconnect_interval=0.2):
        run = five.start(rounds=FLAPPED_ROUNDS)
        while await died(five, run):
            deaths += 1
            await five.closed(run, five.last_closed(run) + drawn.randint(1, 3))
            site.kill()
            await five.world.start_site(site, faults=f"node.task.received:{drawn.randint(1, 4)}=kill")
        await five.ended(run, "completed")
        site.kill()
        await five.world.start_site(site)

    cohorts = five.demand_replay(run)
    assert len(cohorts) == FLAPPED_ROUNDS
    assert deaths >= (3 if WHOLE else 1)
    assert any("a" not in counted for counted in cohorts.values())


async def died(five: Five, run: object) -> bool:
    """Wait until the node that flaps has died of its fault; False where the run ended before."""
    process = five.site("a").process
    assert process is not None
    over = "EXISTS (SELECT FROM federated.run WHERE run_id = %s AND status NOT IN ('queued', 'running'))"
    death = asyncio.create_task(process.ended())
    end = asyncio.create_task(five.world.reached(over, run))
    await asyncio.wait({death, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    death.cancel()
    return process.process.poll() is not None
