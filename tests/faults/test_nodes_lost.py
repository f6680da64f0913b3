"""Nodes that stop, vanish or come back while a run is under way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.coordinator.support import (
    Site,
    World,
    create_model,
    create_workspace,
    make_world,
)
from tests.support.cluster import Cluster


@pytest.fixture
def world(cluster: Cluster, tmp_path: Path, federated_database: str) -> Iterator[World]:
    """A catalog with nothing in it; processes that are started end with the test."""
    with make_world(cluster, tmp_path, federated_database) as made:
        yield made


ENDLESS: dict[str, object] = {"rounds": 100_000, "early_stopping_rounds": 100_000}


async def start(world: World, *, model: dict[str, object], **policy: object) -> list[Site]:
    """Three nodes, and a run queued."""
    sites = await prepare(world, model=model, **policy)
    world.execute("START FEDERATED TRAINING risk")
    return sites


async def start_when_all_are_there(
    world: World, *, model: dict[str, object], mortal: str, **policy: object
) -> Site:
    """Three nodes that a coordinator has met, and a run; `mortal` dies of its fourth task: training in round 2."""
    sites = {site.name: site for site in await prepare(world, model=model, **policy)}
    sites[mortal].kill()
    await world.start_site(sites[mortal], faults="node.task.received:4=kill")
    world.start_coordinator()
    await world.reached("(SELECT count(*) = 3 FROM federated.node WHERE status = 'active')")
    world.execute("START FEDERATED TRAINING risk")
    return sites[mortal]


async def prepare(world: World, *, model: dict[str, object], **policy: object) -> list[Site]:
    create_workspace(world, **policy)
    sites = [await world.add_site(name, seed=0.1 * number) for number, name in enumerate("abc", 1)]
    for site in sites:
        world.register(site)
    create_model(world, **model)
    return sites


def outcomes(world: World, number: int, step: str = "train") -> dict[str, tuple[str, str | None]]:
    return {
        row["name"]: (row["outcome"], row["reason"])
        for row in world.query(
            "SELECT n.name, p.outcome::text, p.reason FROM federated.participation AS p "
            "JOIN federated.node AS n USING (node_id) WHERE p.round_number = %s AND p.step = %s",
            number,
            step,
        )
    }


async def has_opened(world: World, number: int) -> None:
    await world.reached("EXISTS (SELECT FROM federated.round WHERE round_number = %s)", number)


async def test_a_node_killed_in_a_round_is_done_without_and_takes_part_again_when_it_is_back(
    world: World,
) -> None:
    site = await start_when_all_are_there(world, model=ENDLESS, mortal="c", min_nodes=2, round_timeout=20)
    await has_opened(world, 3)

    assert {name: outcome for name, (outcome, _) in outcomes(world, 2).items()} == {
        "a": "received",
        "b": "received",
        "c": "dropped",
    }
    assert outcomes(world, 2)["c"][1]
    await world.start_site(site)
    await world.reached(
        "EXISTS (SELECT FROM federated.participation AS p JOIN federated.node AS n USING (node_id) "
        "WHERE n.name = 'c' AND p.outcome = 'received' AND p.step = 'train' AND p.round_number > 2)"
    )
    world.execute("STOP FEDERATED TRAINING risk")

    run = await world.finished()
    assert run["status"] == "stopped", run
    assert_all_rounds_closed_once(world)


def assert_all_rounds_closed_once(world: World) -> None:
    closed = [
        row["round_number"]
        for row in world.query(
            "SELECT round_number FROM federated.event WHERE kind = 'round.closed' ORDER BY event_id"
        )
    ]
    assert closed == list(range(len(closed)))


async def test_a_node_that_is_back_within_the_round_still_counts(world: World) -> None:
    sites = await start(world, model={"rounds": 2}, min_nodes=3, round_timeout=60)
    sites[1].kill()
    await world.start_site(sites[1], faults="node.release.committed:2=kill")
    world.start_coordinator()
    assert sites[1].process is not None
    await sites[1].process.ended()

    await world.start_site(sites[1])
    run = await world.finished()

    assert run["status"] == "completed", run
    assert outcomes(world, 1) == dict.fromkeys("abc", ("received", None))


async def test_a_run_waits_for_a_node_that_it_cannot_do_without_until_it_is_stopped(world: World) -> None:
    await start_when_all_are_there(world, model=ENDLESS, mortal="a", min_nodes=3, round_timeout=20)
    await world.reached(
        "EXISTS (SELECT FROM federated.run WHERE status = 'running' AND message LIKE 'waiting for nodes: 2 of 3 %%(a: %%')"
    )

    world.execute("STOP FEDERATED TRAINING risk")
    run = await world.finished()

    assert run["status"] == "stopped", run
    assert_all_rounds_closed_once(world)
    last = world.query("SELECT max(round_number) AS n FROM federated.round WHERE status = 'closed'")[0]
    assert world.query("SELECT round_number AS n FROM federated.version WHERE is_current") == [last]


async def test_a_run_says_whom_it_waits_for_and_fails_when_it_waited_too_long(world: World) -> None:
    sites = await prepare(world, model={}, min_nodes=3, round_timeout=4)
    sites[1].kill()
    world.start_coordinator()
    # How long it takes to meet them is none of the time that the run waits.
    await world.reached("(SELECT count(*) = 2 FROM federated.node WHERE status = 'active')")
    world.execute("START FEDERATED TRAINING risk")
    await world.reached(
        "EXISTS (SELECT FROM federated.run WHERE message LIKE 'waiting for nodes: 2 of 3 active, 3 registered (b: %%')"
    )

    run = await world.finished()

    assert run["status"] == "failed"
    assert run["message"].startswith(
        "round 0 could not start: 2 of 3 nodes needed are active, 3 registered (b: "
    )


async def test_a_run_waits_for_a_node_that_comes_late(world: World) -> None:
    sites = await start(world, model={"rounds": 1}, min_nodes=3, round_timeout=60)
    sites[1].kill()
    world.start_coordinator()
    await world.reached(
        "EXISTS (SELECT FROM federated.run WHERE message LIKE 'waiting for nodes: 2 of 3 active%%')"
    )

    await world.start_site(sites[1])

    assert (await world.finished())["status"] == "completed"


async def test_stopping_keeps_the_last_closed_round(world: World) -> None:
    await start(world, model=ENDLESS, min_nodes=3)
    world.start_coordinator()
    await has_opened(world, 3)

    world.execute("STOP FEDERATED TRAINING risk")
    run = await world.finished()

    assert run["status"] == "stopped", run
    last: dict[str, Any] = world.query(
        "SELECT max(round_number) AS n FROM federated.round WHERE status = 'closed'"
    )[0]
    assert world.query("SELECT round_number AS n FROM federated.version WHERE is_current") == [last]


async def test_a_node_that_is_unregistered_in_a_round_is_done_without_and_named(world: World) -> None:
    sites = {site.name: site for site in await prepare(world, model=ENDLESS, min_nodes=2, round_timeout=60)}
    sites["b"].kill()
    await world.start_site(sites["b"], faults="node.task.received:4=stop")
    world.start_coordinator()
    await world.reached("(SELECT count(*) = 3 FROM federated.node WHERE status = 'active')")
    world.execute("START FEDERATED TRAINING risk")
    await has_opened(world, 2)

    # As a DBA can past the statement, which refuses it during training.
    world.query("DELETE FROM federated.node WHERE name = 'b'")

    await has_opened(world, 3)
    messages = world.query("SELECT message FROM federated.round WHERE round_number = 2")
    assert messages == [{"message": "without b, which was unregistered"}]


async def test_a_queued_run_of_a_dropped_model_is_forgotten(
    world: World,
) -> None:
    await start(world, model={}, min_nodes=3)
    with world.catalog() as connection:
        # As an owner of the tables can, past the trigger that keeps a model in training.
        connection.execute("ALTER TABLE federated.model DISABLE TRIGGER refuse_model_in_training")
        connection.execute("DELETE FROM federated.model")
        connection.execute("ALTER TABLE federated.model ENABLE TRIGGER refuse_model_in_training")
    coordinator = world.start_coordinator()
    create_model(world, rounds=1)
    world.execute("START FEDERATED TRAINING risk")

    assert (await world.finished())["status"] == "completed"
    coordinator.check()
