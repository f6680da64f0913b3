"""Networks, and linear models of several classes, under a privacy budget: over real nodes, planned, charged and
measured as any private run."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine

from heliosdb.domain.privacy import Mechanism
from heliosdb.privacy.accountant import Accountant
from tests.integration.coordinator.network_support import trained
from tests.integration.coordinator.support import World, create_model, create_workspace
from tests.integration.coordinator.test_neural_networks import split_up

# Under a budget gradients are numpy's, each row's by itself: no node imports torch.
pytestmark = pytest.mark.xdist_group("neural_networks")


def check_ledgers(world: World, budget: float, *, rounds: int) -> list[dict[str, Any]]:
    """Coordinator and nodes count the same, as the accountant does, and stay within the budget."""
    found = world.query("SELECT * FROM federated.ledger WHERE node_name = 'east' ORDER BY ledger_id")
    assert [one["step"] for one in found if one["step"] in ("statistics", "train")] == ["statistics"] + [
        "train"
    ] * rounds
    made = [Mechanism(one["noise_multiplier"], one["sampling_rate"], one["steps"]) for one in found]
    tight = Accountant(1e-5).epsilon(*made)
    assert found[-1]["epsilon_tight"] == pytest.approx(tight)
    assert 0.97 * budget < tight <= budget
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            spent = connection.execute(
                "SELECT epsilon_tight FROM federated.spending ORDER BY spending_id DESC LIMIT 1"
            ).fetchone()
            assert spent is not None
            assert spent[0] == pytest.approx(tight)
    return found


async def test_a_private_network_learns_and_is_charged_what_it_releases(world: World) -> None:
    features, classes = load_breast_cancer(return_X_y=True)
    features = features[:, :10]
    create_workspace(world, min_nodes=3, privacy_budget=8.0)
    await split_up(world, features, [bool(one) for one in classes], "boolean", shared="min_rows = 20")
    create_model(
        world, features=[f"f{place}" for place in range(1, 11)], algorithm="neural_network", layers="[8, 1]",
        rounds=5, local_epochs=8, batch_size=64, optimizer="momentum", learning_rate=0.2, activation="tanh",
        early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    found = check_ledgers(world, 8.0, rounds=5)
    assert {one["clipping_norm"] for one in found if one["step"] == "train"} == {1.0}
    told = world.query(
        "SELECT outcome, federated_predict('risk', to_jsonb(patient) - 'id' - 'outcome') AS p FROM patient"
    )
    assert np.mean([(one["p"] > 0.5) == one["outcome"] for one in told]) > 0.8


async def test_private_regression_of_three_classes_and_a_network_of_them(world: World) -> None:
    wine = load_wine()
    labels = [f"cultivar {'abc'[one]}" for one in wine.target]
    several = np.random.default_rng(5).integers(0, len(labels), size=1800)
    features, target = wine.data[several], [labels[place] for place in several]
    create_workspace(world, min_nodes=3, privacy_budget=16.0)
    await split_up(world, features, target, "text", shared="min_rows = 20")
    names = ["cultivar a", "cultivar b", "cultivar c"]
    create_model(
        world, features=[f"f{place}" for place in range(1, 14)], algorithm="logistic_regression",
        target_classes=names, rounds=4, local_epochs=4, batch_size=100, learning_rate=1.0, early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    check_ledgers(world, 16.0, rounds=4)
    figures = world.query("SELECT global_loss, global_accuracy FROM federated.round ORDER BY round_number")
    assert figures[-1]["global_accuracy"] is None or figures[-1]["global_accuracy"] > 0.7
    told = world.query(
        "SELECT outcome, federated_predict_class('risk', to_jsonb(patient) - 'id' - 'outcome') AS c FROM patient"
    )
    assert np.mean([one["c"] == one["outcome"] for one in told]) > 0.8


async def test_a_clipping_norm_follows_the_gradients_and_each_count_is_charged(world: World) -> None:
    features, classes = load_breast_cancer(return_X_y=True)
    create_workspace(world, min_nodes=3, privacy_budget=4.0, adaptive_clipping=True, clipping_threshold=100.0)
    await split_up(world, features[:, :5], [bool(one) for one in classes], "boolean", shared="min_rows = 20")
    create_model(
        world, features=[f"f{place}" for place in range(1, 6)], rounds=6, local_epochs=2, batch_size=64,
        learning_rate=0.01, early_stopping_rounds=20,
    )  # fmt: skip
    world.start_coordinator()

    run = await trained(world)

    assert run["status"] == "completed", run
    found = check_ledgers(world, 4.0, rounds=6)
    steps = [
        one["step"] for one in found if one["round_number"] > 0 and one["step"] not in ("evaluate", "report")
    ]
    assert steps == ["train", "norms"] * 5 + ["train"]
    norms = [one["clipping_norm"] for one in found if one["step"] == "train"]
    # All gradients are shorter than 100: every round's norm is a tenth less, but for the noise of the count.
    assert norms[0] == 100.0
    assert all(0.9 < after / before < 0.93 for before, after in pairwise(norms))
    shown = world.query(
        "SELECT clipping_threshold FROM federated_privacy_history WHERE round_number > 0 ORDER BY round_number"
    )
    assert [one["clipping_threshold"] for one in shown] == norms
    planned = world.query("SELECT plan FROM federated.run")[0]["plan"]
    assert {one["noise_multiplier"] for one in found if one["step"] == "norms"} == {planned["clipping_noise"]}
