"""After a real run under a budget the views and functions for analysts and auditors show what happened."""

from __future__ import annotations

import pytest

from tests.integration.coordinator.support import World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_reports")


async def test_views_and_functions_show_what_a_private_run_did(world: World) -> None:
    create_workspace(world, min_nodes=2, privacy_budget=4.0)
    for number, name in enumerate(("north", "south")):
        world.register(await world.add_site(name, rows=400, seed=0.1 * (number + 1)))
    create_model(world, rounds=3)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    [budget] = world.query("SELECT * FROM federated_privacy_budget_status")
    [version] = world.query("SELECT epsilon, global_loss, global_accuracy FROM federated.version")
    assert budget["rounds_completed"] == 3
    assert budget["consumed_epsilon"] == version["epsilon"]
    assert budget["remaining_epsilon"] == pytest.approx(4.0 - version["epsilon"])
    # All of the budget was planned into the three rounds.
    assert budget["estimated_remaining_rounds"] == 0

    history = world.query('SELECT * FROM federated_privacy_history ORDER BY "timestamp"')
    assert [row["round_number"] for row in history] == [0, 1, 2, 3]
    cumulative = [row["cumulative_epsilon"] for row in history]
    assert cumulative == sorted(cumulative)
    assert cumulative[-1] == version["epsilon"]
    assert [row["clipping_threshold"] for row in history] == [None, 1.0, 1.0, 1.0]
    plan = world.query("SELECT plan FROM federated.run")[0]["plan"]
    noise = [plan["statistics_noise"]] + [plan["training_noise"]] * 3
    assert [row["noise_multiplier"] for row in history] == noise

    evaluation = {
        row["metric"]: row["value"] for row in world.query("SELECT * FROM federated_evaluate('risk')")
    }
    assert evaluation["global_loss"] == version["global_loss"]
    assert evaluation["global_accuracy"] == version["global_accuracy"]
    [quality] = world.query("SELECT * FROM federated_data_quality_check('risk')")
    assert set(quality["feature_statistics"]) == set(
        world.query("SELECT features FROM federated.version")[0]["features"]
    )
    assert all(found["scale"] > 0 for found in quality["feature_statistics"].values())

    workspace = world.query("SELECT name FROM federated.workspace")[0]["name"]
    [status] = world.query("SELECT active_nodes, status FROM federated_workspace_status")
    assert status == {"active_nodes": 2, "status": "budget_exhausted"}
    [log] = world.query("SELECT is_intact, reason FROM federated_audit_verify(%s)", workspace)
    assert log == {"is_intact": True, "reason": None}
    found = {
        row["requirement"]: row["status"]
        for row in world.query(
            "SELECT requirement, status FROM federated_compliance_check(%s, 'GDPR')", workspace
        )
    }
    for requirement in ("Accountability", "Data protection by design", "Authentication of nodes",
                        "Encryption between coordinator and nodes"):  # fmt: skip
        assert found[requirement] == "PASS", requirement
