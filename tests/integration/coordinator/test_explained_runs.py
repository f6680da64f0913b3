"""What EXPLAIN tells of a run beside what the run then does: noise, budget, steps, bytes and seconds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.coordinator.support import WORKSPACE, World, create_model, create_workspace


def plan(world: World) -> dict[str, Any]:
    (row,) = world.query(
        "SELECT * FROM federated.explain('EXPLAIN (FORMAT JSON) START FEDERATED TRAINING risk')"
    )
    (only,) = json.loads(row["QUERY PLAN"])
    found: dict[str, Any] = only["Federated Training"]
    return found


async def train(world: World, *, count: int) -> dict[str, Any]:
    world.execute("START FEDERATED TRAINING risk")
    if not world.coordinators:
        world.start_coordinator()
    run = await world.finished(count=count)
    assert run["status"] == "completed", run
    return run


def releases(told: dict[str, Any]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in told["Privacy"]["Releases"]:
        found.setdefault(one["Name"].partition(",")[0], []).append(one["Noise Multiplier"])
    return found


async def test_a_run_does_what_was_explained(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=8.0, privacy_per_round=0.5)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=400, seed=0.1 * (number + 1)))
    create_model(world, rounds=3)
    assert {one["Takes Part"] for one in plan(world)["Nodes"]["Members"]} == {"unknown"}

    await train(world, count=1)
    # The first run has left some, and released how many subjects there are.
    told = plan(world)
    before = told["Privacy"]["Consumed Epsilon"]
    await train(world, count=2)

    assert told["Refusals"] == []
    assert {one["Takes Part"] for one in told["Nodes"]["Members"]} == {"can take part"}
    (made,) = world.query("SELECT plan FROM federated.run ORDER BY created_at DESC LIMIT 1")
    noises, done = releases(told), made["plan"]
    assert noises["statistics"] == [done["statistics_noise"]]
    assert noises["refine"] == done["refinement_noise"]
    # How many subjects there are is a noised count, and another one in each run.
    assert noises["train"][0] == pytest.approx(done["training_noise"], rel=0.2)
    assert told["Privacy"]["Epsilon after the Run"] == pytest.approx(done["epsilon"], rel=0.02)
    (spent,) = world.query("SELECT * FROM federated_privacy_budget(%s)", WORKSPACE)
    assert 0 < before < spent["consumed_epsilon"] <= 8.0
    assert spent["consumed_epsilon"] == pytest.approx(told["Privacy"]["Epsilon after the Run"], rel=0.02)

    steps = world.query(
        "SELECT DISTINCT round_number, exchange, step FROM federated.participation AS p JOIN federated.run USING (run_id)"
        " WHERE created_at = (SELECT max(created_at) FROM federated.run) ORDER BY 1, 2"
    )
    assert [one["step"] for one in steps if one["round_number"] == 0] == told["Rounds"]["Preparation"]
    assert {one["round_number"] for one in steps} == set(range(told["Rounds"]["Training Rounds"] + 1))
    assert [one["step"] for one in steps if one["round_number"] == 1][:1] == told["Rounds"]["Training Round"]
    evaluated = {one["round_number"] for one in steps if one["step"] == "evaluate"}
    assert len(evaluated) == told["Rounds"]["Rounds with an Evaluation"]
    assert (
        told["Rounds"]["Measured Bytes Up"]
        >= told["Rounds"]["Estimated Bytes Up"]
        == 8 * told["Rounds"]["Parameters"]
    )
    assert told["Time"]["Expected Seconds"] > 3 * told["Time"]["Median Seconds a Round"] > 0
