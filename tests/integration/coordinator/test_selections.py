"""Whom rounds ask by what is known of nodes: over real ones, and over a coordinator that is killed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import psycopg
import pytest

from tests.integration.coordinator.support import World, create_model, create_workspace

ROWS = {"east": 120, "north": 360, "west": 240}


async def federation(world: World, **options: object) -> None:
    create_workspace(world, min_nodes=3, min_nodes_per_round=2, **options)
    for number, (name, rows) in enumerate(ROWS.items()):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))


def asked(world: World, run: object) -> dict[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for row in world.query(
        "SELECT p.round_number, n.name FROM federated.participation AS p JOIN federated.node AS n USING (node_id)"
        " WHERE p.run_id = %s AND p.exchange = 0",
        run,
    ):
        found[row["round_number"]].add(row["name"])
    return found


def opened(world: World, run: object) -> dict[int, Any]:
    return {
        row["round_number"]: row["details"]
        for row in world.query(
            "SELECT round_number, details FROM federated.event WHERE run_id = %s AND kind = 'round.opened'",
            run,
        )
    }


async def test_most_data_asks_the_largest_as_they_stated_it_and_the_history_says_why(world: World) -> None:
    await federation(world, node_selection="most_data(2)")
    create_model(world, rounds=2)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    assert asked(world, run["run_id"]) == {0: set(ROWS), 1: {"north", "west"}, 2: {"north", "west"}}
    why = opened(world, run["run_id"])
    assert "known" not in why[0]
    assert why[1]["selection"] == "most_data(2)"
    stated = {name: one["rows"] for name, one in why[1]["known"].items()}
    # What a node trains on is not what it holds out: the sizes are those that its answer states.
    shown = world.query("SELECT node_name, dataset_size FROM federated_node_status")
    assert stated == {row["node_name"]: row["dataset_size"] for row in shown}
    assert sorted(stated, key=stated.__getitem__) == ["east", "west", "north"]


async def test_best_performance_asks_the_best_means_in_every_life_of_a_coordinator(world: World) -> None:
    await federation(world, node_selection="best_performance(2)")
    create_model(world, rounds=6)
    world.execute("START FEDERATED TRAINING risk")
    await world.start_coordinator(faults="coordinator.round.closed:4=kill").died()
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    rounds = asked(world, run["run_id"])
    aligned = world.query(
        "SELECT c.round_number, n.name, c.alignment FROM federated.contribution AS c"
        " JOIN federated.node AS n USING (node_id) WHERE c.run_id = %s ORDER BY 1",
        run["run_id"],
    )
    assert rounds[0] == set(ROWS)
    assert rounds[1] | rounds[2] == set(ROWS)
    for number in range(3, 7):
        means = {
            name: sum(
                row["alignment"] for row in aligned if row["name"] == name and row["round_number"] < number
            )
            / sum(name in rounds[before] for before in range(1, number))
            for name in ROWS
        }
        best = set(sorted(means, key=means.__getitem__)[1:])
        assert rounds[number] == best, (number, means)
        known = opened(world, run["run_id"])[number]["known"]
        assert {name: one["aligned"] / one["asked"] for name, one in known.items()} == means


async def test_a_selection_of_more_nodes_than_there_are_is_refused_before_the_run(world: World) -> None:
    await federation(world, node_selection="most_data(4)")
    create_model(world)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="at most 3 can take part"):
        world.execute("START FEDERATED TRAINING risk")
    assert world.runs() == []
