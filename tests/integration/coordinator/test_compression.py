"""Updates in fewer bytes over real nodes: the same model after a kill, fewer bytes sent, refusals before a node is
asked, and a workspace's word for its models."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from tests.integration.coordinator.support import MODEL, World, create_model, create_workspace
from tests.support.federation import until

BINS = ["bins(age, 40)", "bins(pressure, 40)"]
ENDED_WELL = ("completed", "converged")
FAST = "compression = 'zstd', quantization = 8, gradient_sparsification = 0.9"


async def prepare(world: World, *, rows: int = 600, **policy: object) -> None:
    create_workspace(world, min_nodes=2, **policy)
    for number, name in enumerate(("east", "north")):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))


def received(world: World, run: Any, step: str = "train") -> int:
    """The bytes that nodes sent in a run's exchanges of a step."""
    (row,) = world.query(
        "SELECT sum(bytes_received)::bigint AS bytes FROM federated.participation WHERE run_id = %s AND step = %s",
        run["run_id"],
        step,
    )
    return int(row["bytes"])


def published(world: World, run: Any) -> tuple[str, list[float]]:
    """The hash of a run's version, and the losses on the way to it."""
    (version,) = world.query(
        "SELECT encode(sha256, 'hex') AS sha256 FROM federated.version WHERE run_id = %s", run["run_id"]
    )
    rounds = world.query(
        "SELECT global_loss FROM federated.round WHERE run_id = %s AND round_number > 0 ORDER BY round_number",
        run["run_id"],
    )
    return version["sha256"], [one["global_loss"] for one in rounds]


def start(world: World, options: str = "") -> None:
    world.execute(f"START FEDERATED TRAINING {MODEL}" + (f" WITH ({options})" if options else ""))


async def test_a_kill_of_coordinator_and_node_changes_no_bit_of_what_was_sent_in_part(world: World) -> None:
    await prepare(world)
    create_model(world, rounds=4, feature_transforms=BINS)
    start(world, FAST)
    coordinator = world.start_coordinator()
    run = await world.finished()
    assert run["status"] in ENDED_WELL, run
    expected = published(world, run)
    coordinator.kill()

    site = world.sites[1]
    site.kill()
    # What was not sent of its second update is committed with it, or neither is.
    await world.start_site(site, faults="node.release.committed:5=kill")
    start(world, FAST)
    dying = world.start_coordinator(faults="coordinator.aggregated:4=kill")

    async def succeed() -> None:
        await dying.died()
        world.start_coordinator()

    async def restart() -> None:
        assert site.process is not None
        await site.process.ended()
        await world.start_site(site)

    await asyncio.gather(succeed(), restart())
    run = await world.finished(count=2)
    assert run["status"] in ENDED_WELL, run
    assert published(world, run) == expected

    with world.cluster.connect(site.database) as connection:

        def kept() -> bool:
            return connection.execute("SELECT count(*) FROM federated.node_memory").fetchone() == (0,)

        await until(kept)


async def test_fewer_bytes_arrive_and_the_workspace_says_it_for_its_models(world: World) -> None:
    await prepare(world, compression="zstd", compression_level=9, quantization=8)
    create_model(world, rounds=3, feature_transforms=BINS)
    world.start_coordinator()
    found: dict[str, tuple[int, float]] = {}
    for count, options in enumerate(
        ("compression = 'none', quantization = 32", "quantization = 32", "", "top_k = 4"), start=1
    ):
        start(world, options)
        run = await world.finished(count=count)
        assert run["status"] in ENDED_WELL, run
        found[options] = received(world, run), published(world, run)[1][-1]
    sizes = [size for size, _ in found.values()]
    # Of so few values zstd makes little smaller, if anything.
    assert sizes[0] > sizes[2] > sizes[3], found
    losses = [loss for _, loss in found.values()]
    # float32 without and with zstd are the same model; what is rounded or left out changes it.
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3
    assert losses[2] == pytest.approx(losses[0], abs=1e-2)


async def test_a_private_run_sends_its_noised_updates_in_part_at_no_further_cost(world: World) -> None:
    await prepare(world, privacy_budget=20)
    ranges = '{"age": [30, 70], "pressure": [90, 150]}'
    create_model(world, rounds=3, target_classes=["0", "1"], feature_ranges=ranges, quantization=8, top_k=2)
    world.start_coordinator()
    start(world)
    run = await world.finished()
    assert run["status"] in ENDED_WELL, run
    charged = world.query(
        "SELECT node_name, round_number, count(*) AS times, max(epsilon_tight) AS spent FROM federated.ledger"
        " WHERE run_id = %s AND step = 'train' AND state = 'charged' GROUP BY 1, 2 ORDER BY 1, 2",
        run["run_id"],
    )
    closed = world.query(
        "SELECT round_number FROM federated.round WHERE run_id = %s AND round_number > 0 AND status = 'closed'"
        " ORDER BY round_number",
        run["run_id"],
    )
    assert closed
    assert [(one["node_name"], one["round_number"], one["times"]) for one in charged] == [
        (node, one["round_number"], 1) for node in ("east", "north") for one in closed
    ]
    assert all(0 < one["spent"] <= 20 for one in charged)


def test_what_cannot_be_sent_in_part_is_refused_before_a_node_is_asked(world: World) -> None:
    create_workspace(world, min_nodes=2, quantization=8)
    create_model(world)
    for options, said in (
        (
            "aggregation = 'median', gradient_sparsification = 0.5",
            "aggregation median must see whole updates",
        ),
        ("aggregation = 'scaffold'", "needs values that are not rounded, and quantization is 8"),
        ("top_k = 3, gradient_sparsification = 0.5", "exclude each other"),
        ("compression_level = 7", r"has no effect on this run(?s:.*)compression none does not read it"),
        ("optimizer = 'newton', quantization = 8", "has no effect on optimizer newton"),
    ):
        with pytest.raises(psycopg.Error, match=said) as raised:
            start(world, options)
        assert raised.value.sqlstate == "22023", options
    # A workspace's quantization is of updates, and Newton's sums are none.
    start(world, "optimizer = 'newton', penalty = 1.0")
