"""What ends a run: a node's own budget, a policy that is no longer the workspace's, options nobody can read."""

from __future__ import annotations

import pytest

from tests.integration.coordinator.support import WORKSPACE, World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_privacy")


async def add_private_site(world: World, name: str, *, options: str) -> None:
    """A node whose dataset has options of its own."""
    site = await world.add_site(name, rows=400, shares=False)
    with world.cluster.connect(site.database) as connection:
        connection.execute(
            "CALL federated.execute(%s)",
            [
                "CREATE FEDERATED DATASET patients FOR TABLE patient (age, pressure, outcome) "
                f"IN WORKSPACE {WORKSPACE} WITH ({options})"
            ],
        )
    world.register(site)


async def met(world: World) -> None:
    """Have a coordinator meet every node: how long that takes is none of a round's time."""
    world.start_coordinator()
    await world.reached("(SELECT every(status = 'active') FROM federated.node)")


def reserved(world: World) -> list[tuple[str, str]]:
    found = world.query("SELECT node_name, state::text FROM federated.ledger ORDER BY ledger_id")
    return [(one["node_name"], one["state"]) for one in found]


async def test_a_nodes_own_ceiling_ends_the_run_with_the_version_of_the_last_closed_round(
    world: World,
) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4)
    world.register(await world.add_site("north", rows=400))
    await add_private_site(world, "south", options="max_epsilon = 3")
    create_model(world, rounds=6)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "budget_exhausted", run
    assert "south refused: the release would pass max_epsilon" in run["message"]
    last = world.query(
        "SELECT max(round_number) AS n FROM federated.round WHERE status = 'closed' AND round_number > 0"
    )
    version = world.query("SELECT round_number AS n, epsilon FROM federated.version WHERE is_current")
    assert [one["n"] for one in version] == [one["n"] for one in last] != [None]
    assert {state for node, state in reserved(world) if node == "south"} == {"charged"}
    south = world.query("SELECT max(epsilon_tight) AS e FROM federated.ledger WHERE node_name = 'south'")
    assert south[0]["e"] <= 3


async def test_a_start_that_nodes_refuse_reserves_nothing(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4)
    for name in ("north", "south"):
        site = await world.add_site(name, rows=400)
        with world.cluster.connect(site.database) as connection:
            connection.execute(
                "INSERT INTO federated.agreement (workspace, relation, epsilon, delta, base_tables)"
                " SELECT workspace, relation, 0.5, 1e-5, base_tables FROM federated.dataset"
            )
        world.register(site)
    create_model(world)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "failed", run
    assert "refused: dataset" in run["message"]
    assert "stays reserved" not in run["message"]
    assert reserved(world) == []
    removed = world.query(
        "SELECT details ->> 'node' AS node FROM federated.event WHERE kind = 'reservation.removed'"
    )
    # Of each node the three releases of round 0.
    assert sorted(one["node"] for one in removed) == ["north"] * 3 + ["south"] * 3


async def test_what_nobody_knows_stays_reserved_and_is_said(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4, round_timeout=4)
    sites = [await world.add_site(name, rows=400) for name in ("north", "south")]
    sites[1].kill()
    await world.start_site(sites[1], faults="node.task.received:1=kill")
    for site in sites:
        world.register(site)
    create_model(world)
    await met(world)
    world.execute("START FEDERATED TRAINING risk")

    run = await world.finished()

    assert run["status"] == "failed", run
    assert run["message"].endswith("stays reserved)"), run
    assert ("south", "reserved") in reserved(world)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("policy = policy - 'privacy_budget'", "the run has no privacy_budget, and workspace"),
        ("policy = policy || '{\"privacy_budget\": 8}'", "privacy_budget 8 is larger than the workspace's 4"),
        ("policy = policy || '{\"delta\": 0.01}'", "delta 0.01 is larger than the workspace's 1e-05"),
        ("policy = policy - 'delta'", 'cannot be read: "delta" is missing'),
        ("options = options - 'rounds'", 'cannot be read: "rounds" is missing'),
        ('options = options || \'{"validation_split": "half"}\'', "cannot be read: a value is not of"),
        ('options = options || \'{"learning_rate": "fast"}\'', "learning_rate is not of its type"),
        (
            'options = options || \'{"aggregation": "guess"}\'',
            'federated aggregation function "guess" does not exist',
        ),
    ],
)
async def test_a_run_whose_row_was_written_by_another_hand_fails_with_the_reason(
    world: World, change: str, reason: str
) -> None:
    create_workspace(world, privacy_budget=4)
    create_model(world)
    world.execute("START FEDERATED TRAINING risk")
    world.query(f"UPDATE federated.run SET {change}")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "failed", run
    assert reason in run["message"]


async def test_a_plain_run_is_refused_once_its_workspace_has_come_under_a_compliance_mode(
    world: World,
) -> None:
    create_workspace(world)
    create_model(world)
    world.execute("START FEDERATED TRAINING risk")
    # Past the statement, which asks for the run's end first.
    with world.cluster.connect(world.database) as connection:
        connection.execute(
            'UPDATE federated.workspace SET options = options || \'{"compliance_mode": "HIPAA"}\''
        )
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "failed", run
    assert "started under compliance_mode none, and workspace consortium is under HIPAA" in run["message"]


async def test_text_of_which_no_value_is_of_many_ends_a_private_run_after_that_was_charged(
    world: World,
) -> None:
    create_workspace(world, min_nodes=1, privacy_budget=4, round_timeout=60)
    site = await world.add_site("north", shares=False)
    with world.cluster.connect(site.database) as connection:
        connection.execute("ALTER TABLE patient ALTER age TYPE text")
        connection.execute(
            "CALL federated.execute(%s)",
            [
                f"CREATE FEDERATED DATASET patients FOR TABLE patient (age, pressure, outcome) IN WORKSPACE {WORKSPACE}"
            ],
        )
    world.register(site)
    create_model(world)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert 'no level of feature "age" stands out of the privacy noise' in run["message"], run
    assert reserved(world) == [("north", "charged")]
