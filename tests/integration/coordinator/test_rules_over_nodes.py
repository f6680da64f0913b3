"""Rules over real nodes: each leads to a version, and one that cannot work says why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.coordinator.support import Site, World, create_model, create_workspace, fill

RULES: list[dict[str, Any]] = [
    {"aggregation": "weighted"},
    {"aggregation": "fedavg", "weighted_aggregation": False},
    {"aggregation": "fedprox", "proximal_term": 0.5},
    {"aggregation": "scaffold"},
    {"aggregation": "fednova", "local_epochs": 2},
    {"aggregation": "fedopt"},
    {"aggregation": "fedadagrad"},
    {"aggregation": "fedadam", "server_learning_rate": 0.3},
    {"aggregation": "fedyogi", "tau": 0.01, "beta1": 0.8, "beta2": 0.9},
    {"aggregation": "median"},
    {"aggregation": "trimmed_mean", "trim_ratio": 0.4},
    {"aggregation": "krum", "byzantine_nodes": 0},
    {"aggregation": "multi_krum"},
    {"aggregation": "bulyan"},
    {"aggregation": "geometric_median"},
    {"aggregation": "fltrust", "root_node": "root"},
    {"aggregation": "median", "adaptive_learning": True, "learning_rate": 0.5},
]


async def prepare(world: World, **policy: object) -> None:
    create_workspace(world, min_nodes=3, **policy)
    for number, name in enumerate(("east", "north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1), rows=200 + 50 * number))
    world.start_coordinator()


async def add_root(world: World) -> None:
    """Share trusted rows of the coordinator's own database, by a node beside it."""
    fill(world.cluster, world.database, rows=120, seed=0.9)
    root = Site("root", world.database)
    world.sites.append(root)
    await world.start_site(root)
    world.register(root)


async def test_every_rule_learns(world: World) -> None:
    await prepare(world)
    await add_root(world)
    await world.reached("(SELECT count(*) = 4 FROM federated.node WHERE status = 'active')")
    create_model(world, rounds=4)
    losses = set()
    for count, options in enumerate(RULES, start=1):
        given = ", ".join(
            f"{k} = {v!r}" if not isinstance(v, bool) else f"{k} = {v}" for k, v in options.items()
        )
        world.execute(f"START FEDERATED TRAINING risk WITH ({given})")
        run = await world.finished(count=count)
        assert run["status"] in ("completed", "converged"), (options, run)
        rounds = world.query(
            "SELECT global_loss FROM federated.round WHERE run_id = %s AND round_number > 0 ORDER BY round_number",
            run["run_id"],
        )
        found = [one["global_loss"] for one in rounds]
        assert found[-1] < found[0] < 0.72, (options, found)
        losses.add(found[-1])
    # weighted and fedavg are one; of three nodes median and krum may meet.
    assert len(losses) >= len(RULES) - 3


@pytest.mark.parametrize("rule", ["fedprox", "fedadam", "median"])
async def test_rules_work_on_private_updates(world: World, rule: str) -> None:
    await prepare(world, privacy_budget=20)
    create_model(world, rounds=2, aggregation=rule, target_classes=["0", "1"])
    world.execute("START FEDERATED TRAINING risk")
    run = await world.finished()
    assert run["status"] in ("completed", "converged"), run


async def test_a_round_with_too_few_updates_fails_with_the_reason(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("east", "north", "south")):
        world.register(await world.add_site(name, seed=0.1 * (number + 1), shares=number > 0))
    create_model(world, aggregation="krum", byzantine_nodes=0)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    run = await world.finished()
    assert run["status"] == "failed"
    assert "krum with these settings needs 3 updates, and has 2" in run["message"]
    closed = world.query("SELECT max(round_number) AS last FROM federated.round WHERE status = 'closed'")
    assert closed == [{"last": 0}]
