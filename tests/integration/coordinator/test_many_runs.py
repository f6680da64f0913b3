"""More runs than a coordinator carries out at once: priorities, giving way, and what those without a turn say."""

from __future__ import annotations

from tests.integration.coordinator.support import WORKSPACE, World, create_model, create_workspace

OTHER = (
    "CREATE FEDERATED MODEL {name} IN WORKSPACE consortium WITH (algorithm = 'linear_regression',"
    " features = ['age'], target = 'pressure', rounds = 3, priority = {priority})"
)


async def pair(world: World, **options: object) -> None:
    create_workspace(world, **options)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1)))


def of(name: str) -> str:
    return f"(SELECT r.{{}} FROM federated.run AS r JOIN federated.model AS m USING (model_id) WHERE m.name = '{name}')"


async def test_a_long_run_gives_way_to_one_of_a_higher_priority_and_goes_on_behind_it(world: World) -> None:
    await pair(world, min_nodes=2)
    create_model(world, rounds=10_000, early_stopping_rounds=100_000)
    world.execute(OTHER.format(name="urgent", priority=5))
    world.execute(OTHER.format(name="patient", priority=-10))
    coordinator = world.start_coordinator(faults="coordinator.run.gave_way=kill", concurrent_runs=1)
    world.execute("START FEDERATED TRAINING risk")
    await world.reached("EXISTS (SELECT FROM federated.round WHERE round_number = 2)")
    world.execute("START FEDERATED TRAINING patient")
    await world.reached(f"{of('patient').format('message')} = 'queued behind 1 run'")

    world.execute("START FEDERATED TRAINING urgent")
    # Killed as it gives way, the run is as it was between two rounds.
    await coordinator.died()
    world.start_coordinator(concurrent_runs=1)
    await world.finished()

    assert world.query(f"SELECT {of('urgent').format('status::text')} AS status") == [{"status": "completed"}]
    # The long one goes on from where it was, every round once.
    closed = world.query("SELECT count(*) AS rounds FROM federated.round WHERE status = 'closed'")[0][
        "rounds"
    ]
    await world.reached("(SELECT count(*) > %s FROM federated.round WHERE status = 'closed')", closed + 2)
    world.execute("STOP FEDERATED TRAINING patient")
    # Whoever is to stop needs no turn.
    await world.reached(f"{of('patient').format('status')} = 'stopped'")
    assert world.query(f"SELECT {of('risk').format('status::text')} AS status") == [{"status": "running"}]
    world.execute("STOP FEDERATED TRAINING risk")
    await world.finished(count=3)
    rounds = world.query(
        "SELECT d.round_number FROM federated.round AS d JOIN federated.run AS r USING (run_id)"
        " JOIN federated.model AS m USING (model_id) WHERE m.name = 'risk' AND d.status = 'closed' ORDER BY 1"
    )
    assert [row["round_number"] for row in rounds] == list(range(len(rounds)))


async def test_a_run_that_waits_for_nodes_leaves_its_turn_and_takes_it_when_they_come(world: World) -> None:
    await pair(world, min_nodes=3)
    create_model(world, rounds=2)
    world.execute(OTHER.format(name="small", priority=-10))
    first = world.start_coordinator(faults="coordinator.run.waits=kill", concurrent_runs=1)
    world.execute("START FEDERATED TRAINING risk")
    await first.died()
    world.start_coordinator(concurrent_runs=1)
    await world.reached(f"{of('risk').format('message')} LIKE 'waiting for nodes: 2 of 3 %%'")

    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (min_nodes = 2)")
    world.execute("START FEDERATED TRAINING small")
    run = await world.finished()
    assert run["status"] == "completed", run
    (waiting,) = world.query(f"SELECT {of('risk').format('message')} AS message")
    assert waiting["message"].startswith("waiting for nodes: 2 of 3 active")

    world.register(await world.add_site("west", seed=0.3))
    run = await world.finished(count=2)
    assert run["status"] == "completed", run
