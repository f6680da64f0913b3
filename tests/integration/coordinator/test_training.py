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


async def test_a_run_without_the_columns_fails_at_once_and_names_them(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for name in ("north", "south"):
        world.register(await world.add_site(name))
    create_model(world, features=["age", "height"])
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "failed"
    assert run["message"].startswith("no node shares column height (")


async def test_a_node_without_the_columns_is_left_out_and_the_round_says_so(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for name, shares in (("north", True), ("south", True), ("west", False)):
        world.register(await world.add_site(name, shares=shares))
    create_model(world, rounds=1)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    await world.reached("(SELECT count(*) = 3 FROM federated.node WHERE status = 'active')")

    run = await world.finished()

    assert run["status"] == "completed", run
    taking_part = world.query(
        "SELECT DISTINCT n.name FROM federated.participation JOIN federated.node AS n USING (node_id) ORDER BY 1"
    )
    assert [one["name"] for one in taking_part] == ["north", "south"]
    (first,) = world.query("SELECT message FROM federated.round WHERE round_number = 0")
    assert first["message"] == "left out: west: shares no dataset with this workspace"


async def test_two_models_train_at_the_same_time(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, rounds=20)
    world.execute(
        "CREATE FEDERATED MODEL other IN WORKSPACE consortium WITH (algorithm = 'linear_regression', "
        "features = ['age'], target = 'pressure', rounds = 20)"
    )
    world.execute("START FEDERATED TRAINING risk")
    world.execute("START FEDERATED TRAINING other")
    world.start_coordinator()

    await world.finished(count=2)

    assert {run["status"] for run in world.runs()} <= {"completed", "converged"}
    overlap = world.query(
        "SELECT a.started_at < b.finished_at AND b.started_at < a.finished_at AS both FROM federated.run AS a, "
        "federated.run AS b WHERE a.run_id < b.run_id"
    )
    assert overlap == [{"both": True}]


async def test_a_run_ends_when_its_accuracy_is_reached(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for name in ("north", "south"):
        world.register(await world.add_site(name))
    create_model(world, rounds=50, target_accuracy=0.6)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "converged", run
    assert "target_accuracy" in run["message"]


async def test_an_error_inside_the_coordinator_ends_the_run_and_not_the_coordinator(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for name in ("north", "south"):
        world.register(await world.add_site(name))
    create_model(world, rounds=2)
    world.execute("START FEDERATED TRAINING risk")
    coordinator = world.start_coordinator(faults="coordinator.aggregated:2=fail")

    run = await world.finished()
    assert run["status"] == "failed"
    assert run["message"].startswith("internal error in the coordinator")
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished(count=2))["status"] == "completed"
    coordinator.check()


async def test_a_random_selection_asks_so_many_nodes_in_a_round_and_all_in_round_zero(world: World) -> None:
    create_workspace(world, min_nodes=3, min_nodes_per_round=2, node_selection="random(2)")
    for number, name in enumerate(("east", "north", "west")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))
    create_model(world, rounds=3)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    asked = world.query(
        "SELECT round_number, exchange, count(*) AS nodes, max(asked) AS asked FROM federated.participation "
        "WHERE outcome = 'received' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert [(one["round_number"], one["exchange"], one["nodes"]) for one in asked] == [
        (0, 0, 3),
        *((number, exchange, 2) for number in (1, 2, 3) for exchange in (0, 1)),
        # Of what is published the last round's nodes report.
        (3, 2, 2),
    ]
    assert all(one["nodes"] == one["asked"] for one in asked)
