"""Training under a budget whose noise the coordinator adds, over real nodes, and what a kill or a restore gives away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    World,
    make_peers_world,
)
from tests.support.cluster import Cluster

NAMES = ("east", "north", "south")
PARAMETERS = (
    "SELECT p.round_number, p.sha256 FROM federated.run_parameters AS p JOIN federated.run AS r USING (run_id)"
    " WHERE r.status = 'running' ORDER BY p.round_number DESC LIMIT 1"
)


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three nodes that leave the noise to the coordinator."""
    with make_peers_world(
        cluster,
        tmp_path_factory.mktemp("central"),
        NAMES,
        policy={"min_nodes": 3, "privacy_budget": 1000.0, "noise_multiplier": 3.0, "trust_model": "central"},
        model={"rounds": 2, "learning_rate": 1.0, "batch_size": 100, "secure_aggregation": True},
        settings={"central_noise": True},
    ) as made:
        yield made


async def trained(world: World, *, faults: str = "") -> dict[str, object]:
    already = len(world.runs())
    world.execute(f"START FEDERATED TRAINING {MODEL}")
    if faults:
        await world.start_coordinator(faults=faults).died()
    coordinator = world.start_coordinator()
    run = await world.finished(count=already + 1)
    coordinator.kill()
    return run


async def test_the_coordinator_adds_the_noise_and_everybody_says_so(world: World) -> None:
    found = await trained(world)
    assert found["status"] == "completed", found
    (said,) = world.query("SELECT DISTINCT trust_model FROM federated_privacy_history")
    assert said["trust_model"] == "central"
    (check,) = world.query("SELECT * FROM federated._check_budget(%s)", WORKSPACE)
    assert check["evidence"].endswith("under trust_model central: 1")
    # An epsilon beyond 10 fails by itself.
    assert check["status"] == "FAIL"
    for site in world.sites:
        with world.cluster.connect(site.database) as node:
            shares = node.execute(
                "SELECT DISTINCT nodes, threshold, share FROM federated.noise_share"
            ).fetchall()
            runs = node.execute("SELECT trust_model, charges > 0 FROM federated_node_runs").fetchall()
        assert shares == [(3, 3, 0.0)]
        assert runs == [("central", True)]


async def test_a_node_whose_dba_has_not_allowed_it_says_so(world: World) -> None:
    site = world.sites[1]
    site.kill()
    await world.start_site(site, central_noise=False)
    found = await trained(world)
    site.kill()
    await world.start_site(site)
    assert found["status"] == "failed"
    assert "leaves no noise to the coordinator" in str(found["message"])


async def test_neither_a_kill_nor_a_restored_database_has_two_noises_of_one_sum(world: World) -> None:
    """The coordinator is killed with the noised sum of a round in its hands. Its database is then used twice: by a
    life that closes the round, and again as it was at the kill. Both come to the same numbers."""
    already = len(world.runs())
    world.execute(f"START FEDERATED TRAINING {MODEL} WITH (validation_frequency = 2)")
    # Three sums are round 0's.
    await world.start_coordinator(faults="coordinator.sum.noised:4=kill").died()
    found = []
    for life in (world.copied(), world):
        # Before nodes are asked for more, and drop what they have answered.
        await life.start_coordinator(faults="coordinator.round.closed=kill").died()
        found += life.query(PARAMETERS)
    assert found[0]["round_number"] == 1
    assert found[0] == found[1]
    coordinator = world.start_coordinator()
    run = await world.finished(count=already + 1)
    coordinator.kill()
    assert run["status"] == "completed", run
    (charges,) = world.query(
        "SELECT count(*) AS lines, count(DISTINCT (round_number, exchange, node_name)) AS places FROM federated.ledger"
        " WHERE run_id = %s",
        run["run_id"],
    )
    assert charges["lines"] == charges["places"] > 0
