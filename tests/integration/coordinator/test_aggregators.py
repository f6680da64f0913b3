"""Aggregators in a workspace with a budget: what is noised is added up, and every ledger is as it would be without."""

from __future__ import annotations

import pytest

from tests.integration.coordinator.support import Site, World, create_model, create_workspace, filled


async def prepare(world: World) -> None:
    """Three nodes, of which one gathers for the other two, and a run under a budget."""
    directory = world.federation.directory
    create_workspace(world, min_nodes=3, privacy_budget=4.0)
    for number, name in enumerate(("east", "north", "south")):
        site = Site(name, filled(world.cluster, rows=400, seed=0.1 * (number + 1)))
        world.sites.append(site)
        settings: dict[str, object] = {"aggregator_certificate": directory / "east.pem"}
        await world.start_site(site, **({"aggregates": True} if name == "east" else settings))
        world.register(site)
    for name in ("north", "south"):
        world.execute(f"ALTER FEDERATED NODE '{name}' IN WORKSPACE consortium SET (aggregator = 'east')")
    create_model(world, rounds=2)
    world.execute("START FEDERATED TRAINING risk")


async def test_noised_updates_are_added_up_and_charged_node_by_node(world: World) -> None:
    await prepare(world)
    coordinator = world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    assert coordinator.log.read_text().count("sum received: nodes=north,south") == 2
    lines = world.query(
        "SELECT round_number, step, node_name, state::text, epsilon, epsilon_basic, epsilon_tight "
        "FROM federated.ledger ORDER BY round_number, ledger_id"
    )
    by_node = {
        name: [{**line, "node_name": ""} for line in lines if line["node_name"] == name]
        for name in ("east", "north", "south")
    }
    assert by_node["north"] == by_node["south"] == by_node["east"]
    assert {line["state"] for line in lines} == {"charged"}
    [signed] = world.query("SELECT count(*) AS n FROM federated.node_spending")
    assert signed["n"] == len(lines)
    assert [line["step"] for line in by_node["north"]].count("train") == 2
    for site in world.sites:
        with world.cluster.connect(site.database) as connection:
            spent = connection.execute(
                "SELECT epsilon_basic, epsilon_tight FROM federated.spending ORDER BY spending_id DESC LIMIT 1"
            ).fetchone()
        last = by_node[site.name][-1]
        assert spent == pytest.approx((last["epsilon_basic"], last["epsilon_tight"]))
    [problems] = world.query("SELECT count(*) AS n FROM federated.event WHERE kind LIKE 'breach%%'")
    assert problems == {"n": 0}
