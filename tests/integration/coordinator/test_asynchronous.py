"""Asynchronous rounds with real nodes: they close without whoever is slow, take its update later, survive kills."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

import psycopg
import pytest

from tests.integration.coordinator.support import Site, World, create_model, create_workspace

NAMES = "abcd"
TAKEN = (
    "SELECT p.settled_round AS taken, p.round_number AS asked, n.name FROM federated.participation AS p"
    " JOIN federated.node AS n USING (node_id) WHERE p.settled_round IS NOT NULL AND p.outcome = 'received' ORDER BY 1, 2, 3"
)


async def prepare(
    world: World, *, size: int, faults: Mapping[str, str] | None = None, **model: object
) -> dict[str, Site]:
    """Four nodes that a coordinator has met, in a workspace whose rounds close with so many updates."""
    create_workspace(world, async_aggregation=True, aggregation_batch_size=size)
    sites = {name: await world.add_site(name, seed=0.1 * place) for place, name in enumerate(NAMES, 1)}
    for name, fault in (faults or {}).items():
        sites[name].kill()
        await world.start_site(sites[name], faults=fault)
    for site in sites.values():
        world.register(site)
    create_model(world, **{"early_stopping_rounds": None, "keep_best": False} | model)
    return sites


async def meet(world: World) -> None:
    await world.reached("(SELECT count(*) = 4 FROM federated.node WHERE status = 'active')")


def taken(world: World) -> dict[int, list[tuple[int, str]]]:
    """By round what it took: of which round each task was, and whose."""
    found: dict[int, list[tuple[int, str]]] = {}
    for row in world.query(TAKEN):
        found.setdefault(row["taken"], []).append((row["asked"], row["name"]))
    return found


def resume(site: Site) -> None:
    assert site.process is not None
    site.process.process.send_signal(signal.SIGCONT)


async def test_rounds_close_without_a_stopped_node_and_take_its_update_when_it_goes_on(world: World) -> None:
    # Of the tasks of a node the first is statistics, and then two a round are training and an evaluation.
    stops = {"d": "node.task.received:2=stop", "c": "node.task.received:8=stop"}
    sites = await prepare(world, size=3, faults=stops, rounds=6)
    world.start_coordinator()
    await meet(world)
    world.execute("START FEDERATED TRAINING risk")

    await world.reached(
        "(SELECT count(*) = 3 FROM federated.round WHERE round_number > 0 AND status = 'closed')"
    )
    resume(sites["d"])
    await world.reached("EXISTS (SELECT FROM federated.participation WHERE settled_round = 4)")
    resume(sites["c"])
    run = await world.finished()

    assert (run["status"], run["message"]) == ("completed", "all 6 rounds done")
    rounds = taken(world)
    assert [rounds[number] for number in (1, 2, 3)] == [
        [(number, name) for name in "abc"] for number in (1, 2, 3)
    ]
    assert rounds[4] == [(1, "d"), (4, "a"), (4, "b")]
    assert [len(rounds[number]) for number in (5, 6)] == [3, 3]
    shown = world.query("SELECT * FROM federated_training_status('risk') ORDER BY round_number")
    assert [row["participating_nodes"] for row in shown] == [4, 3, 3, 3, 3, 3, 3]
    assert shown[4]["message"] == "stale: d by 3"
    assert all(row["global_loss"] is not None for row in shown[1:])


async def test_a_coordinator_killed_in_the_middle_goes_on_from_what_is_committed(world: World) -> None:
    await prepare(world, size=2, rounds=6)
    # It combines once in round 0, and twice in each round after it.
    first = world.start_coordinator(faults="coordinator.aggregated:4=kill")
    await meet(world)
    world.execute("START FEDERATED TRAINING risk")
    await first.died()
    second = world.start_coordinator(faults="coordinator.task.asked_again=kill")
    await second.died()
    before = taken(world)
    world.start_coordinator()

    run = await world.finished()

    assert (run["status"], run["message"]) == ("completed", "all 6 rounds done")
    rounds = taken(world)
    assert [len(rounds[number]) for number in range(1, 7)] == [2] * 6
    assert {number: rounds[number] for number in before} == before
    tasks = [task for each in rounds.values() for task in each]
    assert len(set(tasks)) == len(tasks)
    left = world.query("SELECT DISTINCT outcome::text FROM federated.participation ORDER BY 1")
    assert {row["outcome"] for row in left} <= {"received", "dropped"}
    versions = world.query("SELECT round_number FROM federated.version")
    assert [row["round_number"] for row in versions] == [6]


REFUSED: Sequence[tuple[dict[str, object], dict[str, object], str, str]] = (
    ({}, {"aggregation": "median"}, "22023", "aggregation median needs all updates of a round at once"),
    ({}, {"optimizer": "newton", "learning_rate": None}, "22023", "cannot be trained in asynchronous rounds"),
    ({}, {"adaptive_learning": True}, "0A000", "adaptive_learning is not supported with async_aggregation"),
    ({"privacy_budget": 5.0}, {}, "0A000", "async_aggregation is not supported under a privacy_budget"),
    ({"node_selection": "random(2)"}, {}, "0A000", "node_selection random(2) is not supported"),
    (
        {"aggregation_batch_size": 3},
        {},
        "22023",
        "aggregation_batch_size is 3, and a round has at most 2 nodes",
    ),
)


def test_what_cannot_be_asynchronous_is_refused_when_it_is_started(world: World) -> None:
    for policy, model, sqlstate, message in REFUSED:
        create_workspace(world, **{"async_aggregation": True, "aggregation_batch_size": 2} | policy)
        create_model(world, **model)

        with pytest.raises(psycopg.Error) as caught:
            world.execute("START FEDERATED TRAINING risk")

        assert caught.value.sqlstate == sqlstate, message
        assert message in str(caught.value.diag.message_primary)
        world.execute("DROP FEDERATED WORKSPACE consortium CASCADE")


def test_a_synchronous_round_holds_no_more_updates_than_it_was_told(world: World) -> None:
    create_workspace(world, aggregation_batch_size=2)
    create_model(world)
    world.execute("START FEDERATED TRAINING risk WITH (aggregation = 'fedavg')")
    world.execute("STOP FEDERATED TRAINING risk")

    with pytest.raises(psycopg.Error) as caught:
        world.execute("START FEDERATED TRAINING risk WITH (aggregation = 'krum')")

    assert caught.value.sqlstate == "22023"
    assert "aggregation krum needs all updates of a round at once" in str(caught.value)
