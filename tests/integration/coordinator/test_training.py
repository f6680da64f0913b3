"""From START to a version and its prediction, over real nodes."""

from __future__ import annotations

from tests.integration.coordinator.support import FEATURES, World, create_model, create_workspace


async def test_start_leads_to_a_version_that_predicts(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, rounds=3)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    rounds = world.query("SELECT round_number, status::text, global_loss FROM federated.round ORDER BY 1")
    assert [(one["round_number"], one["status"]) for one in rounds] == [(n, "closed") for n in range(4)]
    assert rounds[3]["global_loss"] < rounds[1]["global_loss"]
    version = world.query("SELECT version, is_current, features, round_number FROM federated.version")
    assert version == [{"version": 1, "is_current": True, "features": list(FEATURES), "round_number": 3}]
    high, low = (
        world.query("SELECT federated_model.risk(age => %s, pressure => %s) AS p", age, pressure)[0]["p"]
        for age, pressure in ((70, 150), (30, 90))
    )
    assert 0 < low < 0.5 < high < 1
