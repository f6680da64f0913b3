"""Forests and boosting under a privacy budget on real nodes: from START to a prediction and to the ledgers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.integration.coordinator.support import MODEL, World, create_model, create_workspace
from tests.integration.coordinator.test_trees import INPUTS, add_sites, patients, predicted

FEATURES = [f"x{place}" for place in range(INPUTS)]
RELEASES = (
    "SELECT step, noise_multiplier, sampling_rate, steps FROM federated.release WHERE epsilon IS NOT NULL"
)


def forest(**more: object) -> dict[str, object]:
    return {"algorithm": "random_forest", "trees": 60, "rounds": 6, "learning_rate": None} | more


def boosting(**more: object) -> dict[str, object]:
    return {
        "algorithm": "gradient_boosting", "trees": 12, "max_depth": 3, "learning_rate": 0.3, "rounds": 12,
    } | more  # fmt: skip


def ledger(world: World) -> list[dict[str, object]]:
    """What the first node has charged, in order."""
    with world.cluster.connect(world.sites[0].database) as connection:
        found = connection.execute("SELECT * FROM federated.release ORDER BY round_number, exchange")
        names = [one.name for one in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.mark.parametrize("options", [forest(), boosting()], ids=lambda one: one["algorithm"])
async def test_trees_grow_under_a_budget_and_predict_in_sql(world: World, options: dict[str, object]) -> None:
    x, y = patients()
    kept = np.arange(len(y)) % 3 < 2
    create_workspace(world, min_nodes=3, privacy_budget=20.0)
    await add_sites(world, x[kept], y[kept])
    create_model(world, features=FEATURES, validation_frequency=6, **options)
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] in ("completed", "converged"), run
    charged = ledger(world)
    print(charged[-1])
    steps = [one["step"] for one in charged]
    rounds = int(str(options["rounds"]))
    assert steps.count("leaves") == rounds
    assert set(steps) <= {"statistics", "refine", "leaves", "evaluate"}
    new = x[~kept]
    assert roc_auc_score(y[~kept], predicted(world, new)) > 0.9
