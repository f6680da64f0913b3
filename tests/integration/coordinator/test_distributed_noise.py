"""Training under a budget where four real nodes share the noise of secure sums."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.rows import dict_row

from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    World,
    make_peers_world,
)
from tests.support.cluster import Cluster

NAMES = ("east", "north", "south", "west")
VALUES = 3 * 100 + 101 * 50 + 51
"""Of the network: more than are added up in as many bits as any value takes."""


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four nodes, each of which names the three others."""
    with make_peers_world(
        cluster,
        tmp_path_factory.mktemp("shared"),
        NAMES,
        policy={"min_nodes": 3, "privacy_budget": 1000.0, "noise_multiplier": 3.0},
        model={"rounds": 2, "learning_rate": 1.0, "batch_size": 100, "secure_aggregation": True},
    ) as made:
        yield made


async def trained(world: World, model: str = MODEL) -> dict[str, object]:
    already = len(world.runs())
    world.execute(f"START FEDERATED TRAINING {model}")
    coordinator = world.start_coordinator()
    run = await world.finished(count=already + 1)
    coordinator.kill()
    (found,) = world.query(
        "SELECT status::text, message, run_id FROM federated.run WHERE run_id = %s", run["run_id"]
    )
    return found


async def test_nodes_share_the_noise_and_the_ledger_says_on_what_that_rests(world: World) -> None:
    found = await trained(world)
    assert found["status"] == "completed", found
    steps = world.query(
        "SELECT step, count(*) AS lines FROM federated.ledger WHERE run_id = %s GROUP BY step ORDER BY step",
        found["run_id"],
    )
    assert {one["step"] for one in steps} >= {"gradient", "statistics"}
    (said,) = world.query("SELECT DISTINCT trust_model FROM federated_privacy_history")
    assert said["trust_model"] == "distributed"
    for site in world.sites:
        with world.cluster.connect(site.database) as node:
            node.row_factory = dict_row
            shares = node.execute(
                "SELECT DISTINCT nodes, threshold, honest, share FROM federated.noise_share"
            ).fetchall()
            runs = node.execute("SELECT trust_model, honest_nodes FROM federated_node_runs").fetchall()
        # Of four nodes three open the sum, and one may work with the coordinator.
        assert shares == [{"nodes": 4, "threshold": 3, "honest": 2, "share": 0.5}]
        assert runs == [{"trust_model": "distributed", "honest_nodes": 2}]


async def test_a_node_that_shares_no_noise_says_so(world: World) -> None:
    site = world.sites[1]
    site.kill()
    await world.start_site(site, distributed_noise=False)
    found = await trained(world)
    site.kill()
    await world.start_site(site)
    (said,) = world.query(
        "SELECT string_agg(p.reason, '') AS reason FROM federated.participation AS p WHERE p.run_id = %s",
        found["run_id"],
    )
    assert "the node shares no noise with others" in str(said["reason"]) + str(found["message"])


async def test_a_sum_of_too_few_is_refused_before_a_share_is_told(world: World) -> None:
    for site in world.sites:
        site.kill()
        await world.start_site(site, least_threshold=4)
    found = await trained(world)
    for site in world.sites:
        site.kill()
        await world.start_site(site)
    assert found["status"] == "failed", found
    assert "the node takes part in no sum of fewer than 4 nodes" in str(found["message"])


async def test_a_network_takes_one_gradient_a_round_of_a_word_a_value(world: World) -> None:
    world.execute(
        f"CREATE FEDERATED MODEL layered IN WORKSPACE {WORKSPACE} WITH (algorithm = 'neural_network', layers = [100, 50, 1],"
        " features = ['age', 'pressure'], target = 'outcome', rounds = 2, seed = 7, learning_rate = 0.1,"
        " batch_size = 100, secure_aggregation = true)"
    )
    found = await trained(world, "layered")
    assert found["status"] == "completed", found
    steps = world.query("SELECT DISTINCT step FROM federated.ledger WHERE run_id = %s", found["run_id"])
    assert {one["step"] for one in steps} >= {"gradient"}
    assert "train" not in {one["step"] for one in steps}
    (sent,) = world.query(
        "SELECT max(bytes_received) AS bytes FROM federated.participation WHERE run_id = %s AND step = 'gradient'",
        found["run_id"],
    )
    assert 8 * VALUES < sent["bytes"] < 9 * VALUES


async def test_under_local_trust_each_node_adds_the_whole(world: World) -> None:
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (trust_model = 'local')")
    found = await trained(world)
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} RESET (trust_model)")
    assert found["status"] == "completed", found
    steps = world.query("SELECT DISTINCT step FROM federated.ledger WHERE run_id = %s", found["run_id"])
    assert "train" in {one["step"] for one in steps}
