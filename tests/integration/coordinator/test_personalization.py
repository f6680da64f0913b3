"""Each node's own part of a model: made at the end of a run, told beside the version's figures, what the node's own
database predicts with, and gone when a data subject of that node is erased."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.coordinator.orders_support import erase, share_by_patient
from tests.integration.coordinator.subscriptions_support import grant, reached, subscribe
from tests.integration.coordinator.support import MODEL, WORKSPACE, Site, World, create_workspace

pytestmark = [pytest.mark.usefixtures("forked_with_torch"), pytest.mark.xdist_group("personalization")]

MODELS = {
    MODEL: "algorithm = 'logistic_regression', personalization = 'fine_tune', personal_epochs = 20",
    "net": "algorithm = 'neural_network', layers = [4, 1], personalization = 'fine_tune'",
    "head": "algorithm = 'neural_network', layers = [4, 1], personalization = 'local_head'",
    "beside": "algorithm = 'logistic_regression', personalization = 'ditto', personal_term = 0.5",
    "plain": "algorithm = 'logistic_regression'",
}
ROW = {"age": 63.5, "pressure": 141.0}


async def found(world: World) -> tuple[Site, Site]:
    """Two sites of which one has the outcomes the other way round: no one model is right at both."""
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("east", "west")):
        site = await world.add_site(name, rows=150, seed=0.1 * (number + 1), shares=False)
        if name == "west":
            with world.cluster.connect(site.database) as connection:
                connection.execute("UPDATE patient SET outcome = 1 - outcome")
        share_by_patient(world, site, options=", min_rows = 2, min_cell = 1, plain_withdrawals = true")
        world.register(site)
    for name, options in MODELS.items():
        world.execute(
            f"CREATE FEDERATED MODEL {name} IN WORKSPACE {WORKSPACE} WITH ({options}, target = 'outcome',"
            " features = ['age', 'pressure'], rounds = 3, learning_rate = 0.1, seed = 7)"
        )
        grant(world, name)
    east, west = world.sites
    return east, west


def predicted(world: World, database: str, model: str) -> float:
    """What a database predicts for one row."""
    with world.cluster.connect(database) as connection:
        row = connection.execute(
            "SELECT federated_predict(%s, %s::jsonb)", [model, json.dumps(ROW)]
        ).fetchone()
    assert row is not None
    return float(row[0])


def own_parts(world: World, site: Site) -> dict[str, Any]:
    """What a participant's view says of its own parts, by model."""
    with world.cluster.connect(site.database) as connection:
        found = connection.execute(
            "SELECT model_name, personalization, held_out_rows, global_accuracy, personal_accuracy, predicts_version"
            " FROM federated_personal_models"
        ).fetchall()
    return {name: rest for name, *rest in found}


async def test_each_node_predicts_with_its_own_part_until_a_subject_of_it_is_erased(world: World) -> None:
    east, west = await found(world)
    world.start_coordinator()
    for name in MODELS:
        world.execute(f"START FEDERATED TRAINING {name}")
    await world.finished(count=len(MODELS))
    assert {run["status"] for run in world.runs()} <= {"completed", "converged"}, world.runs()
    for name in MODELS:
        for site in (east, west):
            subscribe(world, site, name)
    for name in MODELS:
        for site in (east, west):
            await reached(world, site, name, "current", 1)

    parts = own_parts(world, east)
    assert set(parts) == set(MODELS) - {"plain"}
    assert {one[0] for one in parts.values()} == {"fine_tune", "local_head", "ditto"}
    assert {one[-1] for one in parts.values()} == {1}
    for name in MODELS:
        at_all, here, there = (
            predicted(world, database, name) for database in (world.database, east.database, west.database)
        )
        if name == "plain":
            assert at_all == here == there
        else:
            assert len({at_all, here, there}) == 3, name
    # The one has learned that the old fall ill, the other that they do not.
    assert predicted(world, east.database, MODEL) > 0.5 > predicted(world, west.database, MODEL)

    told = world.query(
        "SELECT federated._evaluate_columns(%s, ARRAY['per_node_metrics']) -> 0 -> 'per_node_metrics' AS nodes",
        MODEL,
    )[0]["nodes"]
    for site in (east, west):
        beside, (_, rows, before, after, _) = (
            told[site.name]["personalization"],
            own_parts(world, site)[MODEL],
        )
        assert (beside["rows"], beside["global"]["accuracy"], beside["personal"]["accuracy"]) == (
            rows,
            before,
            after,
        )
        assert after > before
    message = world.query(
        "SELECT message FROM federated_training_status(%s) ORDER BY round_number DESC LIMIT 1", MODEL
    )[0]["message"]
    assert "2 nodes made a model of their own: accuracy " in message

    own = predicted(world, west.database, MODEL)
    with world.cluster.connect(west.database) as connection:
        connection.execute("DELETE FROM patient WHERE patient_id = 42")
    erase(world, "42")
    await world.reached("SELECT count(*) = 1 FROM federated.erasure WHERE completed_at IS NOT NULL")
    # East held the subject: what was trained anew has a part of its own again, made without the subject.
    await reached(world, east, MODEL, "current", 2)
    await reached(world, east, "head", "current", 2)
    assert own_parts(world, east)[MODEL][-1] == 2
    assert own_parts(world, west)[MODEL][-1] in {1, 2}
    await reached(world, west, MODEL, "current", 2)
    assert predicted(world, west.database, MODEL) != own
    with world.cluster.connect(east.database) as connection:
        kept = connection.execute("SELECT count(*) FROM federated.personal_part").fetchone()
    assert kept == (len(MODELS) - 1,)
