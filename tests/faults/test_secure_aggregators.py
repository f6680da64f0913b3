"""Secure sums by aggregators: the bits of the sums without them, whoever is lost before or after it has masked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults.aggregator_support import (
    DEEP,
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

ROUNDS = 1
SUMS = 2 + 2 * ROUNDS
"""Of a run: statistics, of each round training and an evaluation, and a report. In a second round all comes again."""

STAGES = 5
MASKED = 2
"""At which place the message with the vector is, from 0."""


async def prepare(world: World) -> Result:
    """Five nodes that know each other, and what their run leads to without an aggregator."""
    peers = world.federation.directory / "peers.pem"
    peers.write_bytes(b"".join(write_identities(world).values()))
    world.node_settings["peers"] = peers
    await found_five(world, min_nodes=4)
    create_model(world, rounds=ROUNDS, secure_aggregation=True)
    return (await run(world))[0]


@pytest.fixture(scope="module")
def flat(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Result]]:
    """A federation, and what its run leads to where the coordinator asks every node itself."""
    directory: Path = tmp_path_factory.mktemp("secure_aggregators")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as world:
        yield world, asyncio.run(prepare(world))


@pytest.mark.parametrize(
    ("aggregators", "sums"), [(WIDE, ["c,d", "e"]), (DEEP, ["b,c,d,e"])], ids=["wide", "deep"]
)
async def test_masked_vectors_that_aggregators_add_up_open_to_the_same_sums(
    flat: tuple[World, Result], aggregators: Mapping[str, str], sums: list[str]
) -> None:
    world, expected = flat
    alter(world, aggregators)

    found, log = await run(world)

    assert expected.status == "completed"
    assert found == expected
    assert [log.count(f"sum received: nodes={one}\n") for one in sums] == [SUMS] * len(sums)
    assert "aggregator a:" not in log


@pytest.mark.parametrize("bits", [16, 8])
async def test_rounded_updates_are_the_same_ones_by_aggregators(
    flat: tuple[World, Result], bits: int
) -> None:
    world, _ = flat
    alter(world, {})
    world.execute(f"ALTER FEDERATED MODEL {MODEL} SET (quantization = {bits}, max_update_norm = 2)")
    expected, _ = await run(world)
    alter(world, DEEP)

    found, log = await run(world)
    world.execute(f"ALTER FEDERATED MODEL {MODEL} RESET (quantization, max_update_norm)")

    assert expected.status == "completed"
    assert found == expected
    assert log.count("sum received: nodes=b,c,d,e\n") == SUMS


@pytest.mark.parametrize("aggregators", [WIDE, DEEP], ids=["wide", "deep"])
@pytest.mark.parametrize("point", ["gather.received:2", "term.added:2", "sum.made:2"])
async def test_the_nodes_of_an_aggregator_that_is_killed_say_the_same_without_it(
    flat: tuple[World, Result], aggregators: Mapping[str, str], point: str
) -> None:
    world, expected = flat

    await kill_aggregator(world, aggregators, point)

    assert read_result(world) == expected


@pytest.mark.parametrize("at", [STAGES + MASKED + 1, 2 * STAGES + MASKED + 1])
async def test_a_coordinator_that_is_killed_at_the_masked_vectors_is_followed_by_one_that_opens_the_same(
    flat: tuple[World, Result], at: int
) -> None:
    world, expected = flat
    alter(world, DEEP)

    await kill_coordinator(world, f"aggregated:{at}")

    assert read_result(world) == expected


@pytest.mark.parametrize(
    ("message", "sums"),
    [
        # It is in the group, and its vector does not come.
        pytest.param(STAGES + MASKED, "c", id="before-it-masked"),
        # Its vector is in the sum, and it says nothing more.
        pytest.param(STAGES + MASKED + 1, "c,d", id="after-it-masked"),
    ],
)
async def test_a_node_below_an_aggregator_that_is_lost_in_the_sum_costs_no_other(
    flat: tuple[World, Result], message: int, sums: str
) -> None:
    world, _ = flat
    alter(world, {"c": "a", "d": "a"})
    world.execute("ALTER FEDERATED WORKSPACE consortium SET (stragglers_timeout = 12)")
    lost = next(site for site in world.sites if site.name == "d")
    lost.kill()
    await start_site(world, lost, faults=f"node.release.committed:{message}=kill")
    coordinator = await started(world)
    finished = await world.finished()
    coordinator.kill()
    world.execute("ALTER FEDERATED WORKSPACE consortium RESET (stragglers_timeout)")
    assert lost.process is not None
    await lost.process.ended()
    await start_site(world, lost)

    assert finished["status"] == "completed", finished
    assert f"sum received: nodes={sums}\n" in coordinator.log.read_text()
