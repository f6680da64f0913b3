"""Runs under a privacy budget: planned, reserved, charged, and ended before the budget is exceeded."""

from __future__ import annotations

import pytest

from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.integration.coordinator.support import World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_privacy")


async def start(world: World, *, rows: int = 400, budget: float = 4.0, **options: object) -> None:
    """Two nodes in a workspace with a budget, and a run queued."""
    create_workspace(world, min_nodes=2, privacy_budget=budget)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))
    create_model(world, **options)
    world.execute("START FEDERATED TRAINING risk")


def ledger(world: World, node: str) -> list[dict[str, object]]:
    return world.query("SELECT * FROM federated.ledger WHERE node_name = %s ORDER BY ledger_id", node)


async def test_a_private_run_charges_what_it_releases_and_stays_within_its_budget(world: World) -> None:
    await start(world, rounds=4)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    charges = ledger(world, "north")
    assert {one["state"] for one in charges} == {"charged"}
    steps = [one["step"] for one in charges if one["step"] != "evaluate"]
    assert steps == ["statistics", "refine", "refine"] + ["train"] * 4
    made = [Mechanism(c["noise_multiplier"], c["sampling_rate"], c["steps"]) for c in charges]  # type: ignore[arg-type]
    accountant = Accountant(1e-5)
    for count, charge in enumerate(charges, 1):
        assert charge["epsilon"] == pytest.approx(accountant.epsilon(made[count - 1]))
        assert charge["epsilon_basic"] == pytest.approx(sum(accountant.epsilon(one) for one in made[:count]))
        assert charge["epsilon_tight"] == pytest.approx(accountant.epsilon(*made[:count]))
    assert 3.9 < charges[-1]["epsilon_tight"] <= 4.0  # type: ignore[operator]
    assert world.query("SELECT epsilon FROM federated.version")[0]["epsilon"] == charges[-1]["epsilon_tight"]


async def test_nodes_and_coordinator_count_the_same(world: World) -> None:
    await start(world, rounds=2)
    world.start_coordinator()

    await world.finished()

    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            spent = connection.execute(
                "SELECT epsilon_basic, epsilon_tight FROM federated.spending ORDER BY spending_id DESC LIMIT 1"
            ).fetchone()
        last = ledger(world, site.name)[-1]
        assert spent == pytest.approx((last["epsilon_basic"], last["epsilon_tight"]))


async def test_a_second_run_finds_the_budget_spent_and_leaves_the_version(world: World) -> None:
    await start(world, rounds=2)
    world.start_coordinator()
    await world.finished()
    with world.catalog() as connection:
        connection.execute(
            "INSERT INTO federated.run (model_id, options, policy) SELECT model_id, options, policy FROM federated.run"
        )

    run = await world.finished(count=2)

    assert run["status"] == "budget_exhausted", run
    assert world.query("SELECT version, is_current FROM federated.version") == [
        {"version": 1, "is_current": True}
    ]
    assert max(one["epsilon_tight"] for one in ledger(world, "north")) <= 4.0  # type: ignore[type-var]


async def test_a_budget_that_others_spent_meanwhile_ends_the_run_before_the_round(world: World) -> None:
    await start(world, rounds=300, local_epochs=1)
    world.start_coordinator()
    await world.reached(
        "SELECT count(*) >= 2 FROM federated.round WHERE status = 'closed' AND round_number > 0"
    )
    with world.catalog() as connection, connection.transaction():
        # As another run of the workspace would, under the ledger's lock: more than is left, on one node.
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('heliosdb_federated.ledger:' || name, 0)) "
            "FROM federated.workspace"
        )
        connection.execute(
            "INSERT INTO federated.ledger (workspace, run_id, model_name, round_number, step, node_name, "
            "noise_multiplier, sampling_rate, steps, epsilon, epsilon_basic, epsilon_tight) "
            "SELECT name, gen_random_uuid(), 'other', 1, 'train', 'south', 1.0, 1, 1, 4.4, 4.4, 4.4 "
            "FROM federated.workspace"
        )

    run = await world.finished()

    assert run["status"] == "budget_exhausted", run
    assert "south" in run["message"]
    rounds = world.query("SELECT max(round_number) AS last FROM federated.round WHERE status = 'closed'")
    version = world.query("SELECT round_number FROM federated.version WHERE is_current")
    assert version == [{"round_number": rounds[0]["last"]}]
    own = world.query("SELECT max(epsilon_tight) AS e FROM federated.ledger WHERE model_name = 'risk'")
    assert own[0]["e"] <= 4.0
