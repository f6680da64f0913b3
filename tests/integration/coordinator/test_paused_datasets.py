"""What participants see of a run that trains at two nodes, and what a run makes of a dataset that one of them pauses."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.integration.coordinator.support import FEATURES, Site, World, create_model, create_workspace

pytestmark = pytest.mark.xdist_group("coordinator_paused")

PAUSED = 'dataset "patients" is paused by the node\'s own DBA'


def query(world: World, site: Site, statement: str) -> list[dict[str, Any]]:
    dsn = world.cluster.dsn(site.database)
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        return connection.execute(statement.encode()).fetchall()


def alter(world: World, site: Site, change: str) -> None:
    with world.cluster.connect(site.database) as connection:
        connection.execute("CALL federated.execute(%s)", [f"ALTER FEDERATED DATASET patients {change}"])


async def seen(world: World, site: Site, *, paused: bool) -> None:
    """Wait until the coordinator has heard of a pause, or of its end."""
    await world.reached(
        "SELECT status = 'active' AND (datasets -> 0 ->> 'paused')::boolean = %s FROM federated.node WHERE name = %s",
        paused,
        site.name,
    )


async def add_sites(world: World) -> list[Site]:
    sites = [await world.add_site(name, seed=seed) for name, seed in (("north", 0.1), ("south", 0.2))]
    for site in sites:
        world.register(site)
    return sites


async def test_both_participants_see_the_run_and_what_left_for_it(world: World) -> None:
    create_workspace(world, min_nodes=2)
    sites = await add_sites(world)
    create_model(world, rounds=2)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()

    run = await world.finished()

    assert run["status"] == "completed", run
    for site in sites:
        [seen_there] = query(world, site, "SELECT * FROM federated_node_runs")
        assert (seen_there["model_name"], seen_there["run_id"]) == ("risk", run["run_id"])
        assert (seen_there["node_name"], seen_there["dataset"]) == (site.name, "patients")
        assert (seen_there["features"], seen_there["target"]) == (list(FEATURES), "outcome")
        assert (seen_there["charges"], seen_there["epsilon_tight"]) == (0, None)
        received = world.query(
            "SELECT count(*) AS n FROM federated.participation AS p JOIN federated.node AS n USING (node_id)"
            " WHERE n.name = %s AND p.outcome = 'received'",
            site.name,
        )
        [left] = query(world, site, "SELECT sum(plain_vectors)::bigint AS n FROM federated_node_releases")
        assert received == [{"n": seen_there["vectors"]}] == [left]
        assert query(world, site, "SELECT * FROM federated_node_refusals") == []


async def test_a_run_that_needs_a_paused_dataset_says_so_and_trains_once_it_is_resumed(world: World) -> None:
    create_workspace(world, min_nodes=2)
    _, south = await add_sites(world)
    create_model(world, rounds=1)
    world.start_coordinator()
    alter(world, south, "SET (paused = true)")
    await seen(world, south, paused=True)
    heard: list[str] = []
    with world.catalog() as connection:
        connection.add_notice_handler(lambda notice: heard.append(str(notice.message_primary)))
        connection.execute("CALL federated.execute('START FEDERATED TRAINING risk')")
    assert any(PAUSED in line and "south" in line for line in heard), heard
    await world.reached("SELECT position(%s in message) > 0 FROM federated.run", PAUSED)

    alter(world, south, "RESET (paused)")

    run = await world.finished()
    assert run["status"] == "completed", run
    [row] = query(world, south, "SELECT run_id FROM federated_node_runs")
    assert row["run_id"] == run["run_id"]


async def test_a_run_under_way_goes_on_without_a_node_that_pauses(world: World) -> None:
    create_workspace(world, min_nodes=1)
    _, south = await add_sites(world)
    create_model(world, rounds=10_000, early_stopping_rounds=1000, convergence_threshold=0)
    world.start_coordinator()
    await seen(world, south, paused=False)
    world.execute("START FEDERATED TRAINING risk")
    await world.reached("SELECT max(round_number) >= 2 FROM federated.round")
    alter(world, south, "SET (paused = true)")
    before = query(world, south, "SELECT count(*) AS n FROM federated.release")

    await world.reached(
        "SELECT count(*) > 0 FROM federated.participation AS p JOIN federated.node AS n USING (node_id)"
        " WHERE n.name = 'south' AND p.outcome = 'refused'"
    )
    # One row a step: whether it was asked for one or for two by now depends on how far the run has come.
    refused = query(world, south, "SELECT DISTINCT message, dataset FROM federated_node_refusals")
    assert refused == [{"message": 'dataset "patients" is paused by its DBA', "dataset": "patients"}]
    await world.reached(
        "SELECT max(r.round_number) > (SELECT max(p.round_number) FROM federated.part_taken AS p"
        " JOIN federated.node AS n USING (node_id) WHERE n.name = 'south') + 2"
        " FROM federated.round AS r WHERE r.finished_at IS NOT NULL"
    )
    world.execute("STOP FEDERATED TRAINING risk")
    assert (await world.finished())["status"] == "stopped"
    assert query(world, south, "SELECT count(*) AS n FROM federated.release") == before
