"""Two of three nodes die in the middle of a run: it waits, says for whom, and goes on to the same model."""

from __future__ import annotations

from tests.integration.coordinator.support import World, create_model, create_workspace


async def test_a_run_waits_for_the_nodes_that_it_lost_and_goes_on_when_they_are_back(world: World) -> None:
    create_workspace(world, min_nodes=3)
    for number, name in enumerate(("east", "north", "west")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, rounds=60, convergence_threshold=0, early_stopping_rounds=60, keep_best=False)
    coordinator = world.start_coordinator()
    world.execute("START FEDERATED TRAINING risk")
    await world.finished()

    # In the second run they die in the middle, wherever that is: a round can do without its evaluation, and the last
    # round is the version.
    world.execute("START FEDERATED TRAINING risk")
    await world.reached(
        "SELECT max(round_number) >= 2 FROM federated.round JOIN federated.run USING (run_id) WHERE run.status = 'running'"
    )
    for site in world.sites[1:]:
        site.kill()
    await world.reached(
        "EXISTS (SELECT FROM federated.run WHERE status = 'running' AND message LIKE '%%waiting for nodes%%'"
        " AND message LIKE '%%north: %%' AND message LIKE '%%west: %%')"
    )
    (status,) = world.query(
        "SELECT status, message FROM federated_training_status('risk') ORDER BY round_number DESC LIMIT 1"
    )
    assert status["status"] == "running"
    assert "waiting for nodes" in status["message"]
    for site in world.sites[1:]:
        await world.start_site(site)

    run = await world.finished(count=2)
    assert (run["status"], run["message"]) == ("completed", "all 60 rounds done")
    first, second = world.query(
        "SELECT encode(sha256, 'hex') AS sha256 FROM federated.version ORDER BY version"
    )
    assert first == second
    coordinator.check()
