"""Runs by aggregators: the bits of the run without them, whoever is killed in the middle."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.test_coordinator_killed import ROUNDS, Result, read_result, start_run
from tests.integration.coordinator.support import (
    MODEL,
    Site,
    World,
    create_model,
    create_workspace,
    filled,
    make_world,
)
from tests.support.cluster import Cluster

NAMES = ("a", "b", "c", "d", "e")
WIDE = {"c": "a", "d": "a", "e": "b"}
DEEP = {"b": "a", "c": "a", "d": "b", "e": "b"}


def alter(world: World, aggregators: Mapping[str, str]) -> None:
    """Have these nodes gathered by these aggregators, and no others."""
    for name in NAMES:
        statement = f"ALTER FEDERATED NODE '{name}' IN WORKSPACE consortium"
        world.execute(f"{statement} RESET (aggregator)")
    for name, above in aggregators.items():
        statement = f"ALTER FEDERATED NODE '{name}' IN WORKSPACE consortium"
        world.execute(f"{statement} SET (aggregator = '{above}')")


async def start_site(world: World, site: Site, *, faults: str = "") -> None:
    """Start a node that lets every aggregator of these tests in."""
    trusted = world.federation.directory / "aggregators.pem"
    await world.start_site(site, faults=faults, aggregator_certificate=trusted, aggregates=True)


async def prepare(world: World) -> Result:
    """Five nodes, and what their run leads to without an aggregator."""
    federation = world.federation
    for name in NAMES:
        federation.write(name, federation.authority.issue(name, ["localhost", "127.0.0.1"]))
    trusted = b"".join((federation.directory / f"{name}.pem").read_bytes() for name in "ab")
    (federation.directory / "aggregators.pem").write_bytes(trusted)
    create_workspace(world, min_nodes=len(NAMES), round_timeout=120)
    for number, name in enumerate(NAMES):
        site = Site(name, filled(world.cluster, rows=200, seed=0.1 * (number + 1)))
        world.sites.append(site)
        await start_site(world, site)
        world.register(site)
    create_model(world, rounds=ROUNDS)
    return (await run(world))[0]


async def run(world: World) -> tuple[Result, str]:
    """Run it, and return what it left and what the coordinator logged."""
    coordinator = world.start_coordinator()
    await world.reached("(SELECT count(*) = 5 FROM federated.node WHERE status = 'active')")
    for site in world.sites:
        # Of the run of the same id before; the coordinator may have ended before it had them forget it.
        with world.cluster.connect(site.database) as connection:
            connection.execute("TRUNCATE federated.node_memory")
    start_run(world)
    await world.finished()
    coordinator.kill()
    return read_result(world), coordinator.log.read_text()


@pytest.fixture(scope="module")
def flat(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Result]]:
    """A federation, and what its run leads to where the coordinator asks every node itself."""
    directory: Path = tmp_path_factory.mktemp("aggregators")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
        yield world, asyncio.run(prepare(world))


async def test_two_aggregators_lead_to_the_run_of_the_coordinator_alone(flat: tuple[World, Result]) -> None:
    world, expected = flat
    alter(world, WIDE)

    found, log = await run(world)

    assert expected.status == "completed"
    assert found == expected
    assert log.count("sum received: nodes=c,d") == log.count("sum received: nodes=e") == ROUNDS


async def test_sums_of_sums_lead_to_the_same_run(flat: tuple[World, Result]) -> None:
    world, expected = flat
    alter(world, DEEP)

    found, log = await run(world)

    assert found == expected
    assert log.count("sum received: nodes=b,c,d,e") == ROUNDS


@pytest.mark.parametrize(("aggregation", "sums"), [("scaffold", ROUNDS), ("median", 0)])
async def test_a_rule_gets_what_it_must_see_whoever_gathers(
    flat: tuple[World, Result], aggregation: str, sums: int
) -> None:
    world, _ = flat
    alter(world, {})
    world.execute(f"ALTER FEDERATED MODEL {MODEL} SET (aggregation = '{aggregation}')")
    expected, _ = await run(world)
    alter(world, DEEP)

    found, log = await run(world)
    world.execute(f"ALTER FEDERATED MODEL {MODEL} RESET (aggregation)")

    assert expected.status == "completed"
    assert found == expected
    assert log.count("sum received: nodes=b,c,d,e") == sums


@pytest.mark.parametrize(
    "coding", ["compression = 'zstd'", "quantization = 8, gradient_sparsification = 0.5"]
)
async def test_updates_in_fewer_bytes_are_the_same_ones_by_aggregators(
    flat: tuple[World, Result], coding: str
) -> None:
    world, _ = flat
    alter(world, {})
    world.execute(f"ALTER FEDERATED MODEL {MODEL} SET ({coding})")
    expected, _ = await run(world)
    alter(world, DEEP)

    found, log = await run(world)
    world.execute(f"ALTER FEDERATED MODEL {MODEL} RESET (compression, quantization, gradient_sparsification)")

    assert expected.status == "completed"
    assert found == expected
    assert log.count("sum received: nodes=b,c,d,e") == ROUNDS


@pytest.mark.parametrize("aggregators", [WIDE, DEEP], ids=["wide", "deep"])
@pytest.mark.parametrize("point", ["gather.received:3", "term.added:2", "sum.made:2"])
async def test_the_nodes_of_an_aggregator_that_is_killed_are_asked_without_it(
    flat: tuple[World, Result], aggregators: Mapping[str, str], point: str
) -> None:
    world, expected = flat
    alter(world, aggregators)
    mortal = next(site for site in world.sites if site.name == ("a" if aggregators is WIDE else "b"))
    mortal.kill()
    await start_site(world, mortal, faults=f"node.{point}=kill")
    coordinator = world.start_coordinator()
    await world.reached("(SELECT count(*) = 5 FROM federated.node WHERE status = 'active')")
    start_run(world)

    # Its own update is missing until it is back.
    assert mortal.process is not None
    await mortal.process.ended()
    await start_site(world, mortal)
    await world.finished()
    coordinator.kill()

    assert read_result(world) == expected


@pytest.mark.parametrize("point", ["task.sent", "update.received:6", "update.received:9", "aggregated:3"])
async def test_a_coordinator_that_is_killed_is_followed_by_one_that_asks_aggregators_the_same(
    flat: tuple[World, Result], point: str
) -> None:
    world, expected = flat
    alter(world, DEEP)
    start_run(world)

    await world.start_coordinator(faults=f"coordinator.{point}=kill").died()
    successor = world.start_coordinator()
    await world.finished()
    successor.kill()

    assert read_result(world) == expected


@pytest.mark.parametrize(("aggregators", "others"), [(WIDE, "c"), (DEEP, "b,c,e")], ids=["wide", "deep"])
async def test_an_aggregator_does_not_wait_for_a_straggler_beyond_its_patience(
    flat: tuple[World, Result], aggregators: Mapping[str, str], others: str
) -> None:
    world, _ = flat
    alter(world, aggregators)
    late = next(site for site in world.sites if site.name == "d")
    world.execute(
        "ALTER FEDERATED WORKSPACE consortium SET (stragglers_timeout = 16, min_nodes_per_round = 3)"
    )
    late.kill()
    # Its fourth task is to train in round 2.
    await start_site(world, late, faults="node.task.received:4=stop")
    coordinator = world.start_coordinator()
    await world.reached("(SELECT count(*) = 5 FROM federated.node WHERE status = 'active')")
    start_run(world)
    await world.reached("EXISTS (SELECT FROM federated.round WHERE round_number = 3)")
    assert late.process is not None
    late.process.process.send_signal(signal.SIGCONT)
    finished = await world.finished()
    coordinator.kill()
    world.execute("ALTER FEDERATED WORKSPACE consortium RESET (stragglers_timeout, min_nodes_per_round)")

    assert finished["status"] == "completed", finished
    assert f"sum received: nodes={others}\n" in coordinator.log.read_text()
    [lost] = world.query(
        "SELECT n.name, p.outcome::text, p.reason FROM federated.participation AS p JOIN federated.node AS n USING (node_id) "
        "WHERE p.step = 'train' AND p.round_number = 2 AND p.outcome <> 'received'"
    )
    assert lost == {"name": "d", "outcome": "dropped", "reason": "timed out"}


async def test_a_node_that_lets_its_aggregator_not_in_is_asked_by_the_coordinator(
    flat: tuple[World, Result],
) -> None:
    world, expected = flat
    alter(world, WIDE)
    wary = next(site for site in world.sites if site.name == "d")
    wary.kill()
    await world.start_site(wary)

    found, log = await run(world)
    wary.kill()
    await start_site(world, wary)

    assert found == expected
    assert log.count("sum received: nodes=c\n") == ROUNDS
    assert "aggregator a:" not in log


async def test_an_aggregator_that_is_stopped_is_given_up_as_soon_as_it_is_missed(
    flat: tuple[World, Result],
) -> None:
    world, expected = flat
    alter(world, WIDE)
    stopped = next(site for site in world.sites if site.name == "b")
    stopped.kill()
    await start_site(world, stopped, faults="node.gather.received:3=stop")
    coordinator = world.start_coordinator(heartbeat_timeout=1.0)
    await world.reached("(SELECT count(*) = 5 FROM federated.node WHERE status = 'active')")
    start_run(world)
    await coordinator.said("aggregator b:")
    # All have answered but the aggregator itself, which is there again within the round.
    await world.reached("(SELECT count(*) > 0 FROM federated.node WHERE name = 'b' AND status <> 'active')")
    assert stopped.process is not None
    stopped.process.process.send_signal(signal.SIGCONT)
    await world.finished()
    coordinator.kill()

    assert read_result(world) == expected
