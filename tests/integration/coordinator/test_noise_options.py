"""Options about noise: what is refused, what START says, and nodes whose ε add up."""

from __future__ import annotations

import psycopg
import pytest

from tests.integration.coordinator.support import World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_privacy")


async def queue(world: World, rows: int = 600, rounds: int = 2, **policy: object) -> None:
    """Two nodes in a workspace, and a run queued."""
    create_workspace(world, min_nodes=2, **policy)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=rows, seed=0.1 * (number + 1)))
    create_model(world, rounds=rounds)
    world.execute("START FEDERATED TRAINING risk")


async def test_where_subjects_overlap_the_workspace_has_spent_the_sum_of_its_nodes(world: World) -> None:
    await queue(world, privacy_budget=8.0, subjects_overlap=True, max_nodes=10)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    nodes = world.query("SELECT max(epsilon_tight) AS e FROM federated.ledger GROUP BY node_name")
    assert len(nodes) == 2
    together = sum(one["e"] for one in nodes)
    assert 7.8 < together <= 8.0
    (shown,) = world.query("SELECT * FROM federated_privacy_budget('consortium')")
    assert shown["consumed_epsilon"] == pytest.approx(together)
    (status,) = world.query("SELECT * FROM federated_privacy_budget_status")
    assert status["consumed_epsilon"] == pytest.approx(together)
    assert status["estimated_remaining_rounds"] == 0
    # So do the figures of rounds.
    (last,) = world.query("SELECT max(cumulative_epsilon) AS e FROM federated_privacy_history")
    assert last["e"] == pytest.approx(together)
    (metric,) = world.query(
        "SELECT max(privacy_consumed_epsilon) AS e FROM federated_training_metrics('risk')"
    )
    assert metric["e"] == pytest.approx(together)
    # Each node counts at its part of delta, so that the sum is at the workspace's.
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            spent = connection.execute("SELECT DISTINCT delta FROM federated.spending").fetchall()
        assert spent == [(pytest.approx(1e-6),)]
    world.execute("ALTER FEDERATED WORKSPACE consortium SET (privacy_budget = 7.5)")
    with pytest.raises(psycopg.Error, match="is spent") as caught:
        world.execute("START FEDERATED TRAINING risk")
    assert caught.value.sqlstate == "UF001"


@pytest.mark.parametrize(
    ("given", "wins"), [(0.5, "would pass the privacy budget"), (900.0, "is stricter than")]
)
async def test_of_noise_multiplier_and_budget_the_stricter_wins_and_that_is_said(
    world: World, given: float, wins: str
) -> None:
    await queue(world, rounds=1, privacy_budget=8.0, noise_multiplier=given)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] in {"completed", "diverged"}, run
    said = world.query("SELECT message FROM federated.round WHERE round_number = 0")
    assert wins in str(said), said
    used = world.query("SELECT min(noise_multiplier) AS s FROM federated.ledger WHERE step = 'train'")[0]["s"]
    assert used >= given


async def test_a_budget_smaller_than_one_round_ends_the_run_before_anything_is_released(world: World) -> None:
    await queue(world, privacy_budget=1e-7)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "budget_exhausted", run
    assert "less than one round needs" in run["message"]
    assert "1e-07" in run["message"]
    assert world.query("SELECT count(*) AS n FROM federated.ledger")[0]["n"] == 0
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            assert connection.execute("SELECT count(*) FROM federated.spending").fetchone() == (0,)
