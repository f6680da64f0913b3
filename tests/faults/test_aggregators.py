"""Runs by aggregators: the bits of the run without them, whoever is killed in the middle."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.aggregator_support import (
    DEEP,
    NAMES,
    WIDE,
    alter,
    found_five,
    kill_aggregator,
    kill_coordinator,
    run,
    start_site,
    started,
    write_identities,
)
from tests.faults.support import Result, read_result
from tests.integration.coordinator.support import MODEL, World, create_model, make_world
from tests.support.cluster import Cluster

ROUNDS = 3


async def prepare(world: World) -> Result:
    """Five nodes, and what their run leads to without an aggregator."""
    write_identities(world)
    await found_five(world, min_nodes=len(NAMES))
    create_model(world, rounds=ROUNDS)
    return (await run(world))[0]


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

    # Its own update is missing until it is back.
    await kill_aggregator(world, aggregators, point)

    assert read_result(world) == expected


@pytest.mark.parametrize("point", ["task.sent", "update.received:6", "update.received:9", "aggregated:3"])
async def test_a_coordinator_that_is_killed_is_followed_by_one_that_asks_aggregators_the_same(
    flat: tuple[World, Result], point: str
) -> None:
    world, expected = flat
    alter(world, DEEP)

    await kill_coordinator(world, point)

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
    coordinator = await started(world)
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
    coordinator = await started(world, heartbeat_timeout=1.0)
    await coordinator.said("aggregator b:")
    # All have answered but the aggregator itself, which is there again within the round.
    await world.reached("(SELECT count(*) > 0 FROM federated.node WHERE name = 'b' AND status <> 'active')")
    assert stopped.process is not None
    stopped.process.process.send_signal(signal.SIGCONT)
    await world.finished()
    coordinator.kill()

    assert read_result(world) == expected
