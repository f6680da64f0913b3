"""Forests and boosting under a privacy budget on real nodes: from START to a prediction and to the ledgers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.integration.coordinator.support import MODEL, World, create_model, create_workspace
from tests.integration.coordinator.test_trees import INPUTS, add_sites, patients, predicted

FEATURES = [f"x{place}" for place in range(INPUTS)]
FOREST = {"algorithm": "random_forest", "trees": 60, "rounds": 6, "learning_rate": None}
BOOSTING = {
    "algorithm": "gradient_boosting", "trees": 12, "max_depth": 3, "learning_rate": 0.3, "rounds": 12,
}  # fmt: skip


def ledger(world: World, place: int = 0) -> list[tuple[str, Mechanism, float]]:
    """What a node has charged, in order: for which step, by which mechanism, and where that led to."""
    with world.cluster.connect(world.sites[place].database) as connection:
        found = connection.execute(
            "SELECT step, noise_multiplier, sampling_rate, steps, epsilon_tight FROM federated.release AS r"
            " JOIN federated.spending AS s USING (release_id) ORDER BY release_id"
        ).fetchall()
    return [(step, Mechanism(noise, rate, steps), tight) for step, noise, rate, steps, tight in found]


async def train(world: World, x: np.ndarray, y: np.ndarray, **options: object) -> None:
    create_workspace(world, min_nodes=3, privacy_budget=20.0)
    await add_sites(world, x, y)
    create_model(world, features=FEATURES, **options)
    world.execute(f"START FEDERATED TRAINING {MODEL}")


@pytest.mark.parametrize("options", [FOREST, BOOSTING], ids=["forest", "boosting"])
async def test_trees_grow_under_a_budget_and_predict_in_sql(world: World, options: dict[str, object]) -> None:
    x, y = patients()
    kept = np.arange(len(y)) % 3 < 2
    await train(world, x[kept], y[kept], validation_frequency=6, **options)
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] in ("completed", "converged"), run
    charged, rounds = ledger(world), int(str(options["rounds"]))
    steps = [step for step, _, _ in charged]
    assert steps[:3] == ["statistics", "refine", "refine"]
    assert steps.count("leaves") == rounds
    assert set(steps[3:]) <= {"leaves", "evaluate", "report"}
    assert "report" not in steps[:-1]
    spent = Accountant(1e-5).epsilon(*(mechanism for _, mechanism, _ in charged))
    assert spent == pytest.approx(charged[-1][2], abs=1e-6)
    assert 0.9 * 20.0 < spent <= 20.0
    (told,) = world.query("SELECT consumed_epsilon FROM federated_privacy_budget_status")
    assert told["consumed_epsilon"] == pytest.approx(spent, abs=1e-6)
    norms = world.query("SELECT DISTINCT clipping_norm FROM federated.ledger WHERE step = 'leaves'")
    assert norms == [{"clipping_norm": 1.0}]
    assert roc_auc_score(y[~kept], predicted(world, x[~kept])) > 0.9


async def test_a_coordinator_that_dies_pays_for_no_round_twice(world: World) -> None:
    x, y = patients()
    await train(world, x, y, **BOOSTING)
    coordinator = world.start_coordinator(faults="coordinator.aggregated:6=kill")
    await coordinator.died()
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] in ("completed", "converged"), run
    for place in range(3):
        assert [step for step, _, _ in ledger(world, place)].count("leaves") == 12
        assert ledger(world, place)[-1][2] <= 20.0
