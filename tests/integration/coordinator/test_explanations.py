"""What moves a model is told by a real run's nodes, without who has opted out of explanations, and by nobody else left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest

from tests.integration.coordinator.orders_support import share_by_patient
from tests.integration.coordinator.support import (
    FEATURES,
    WORKSPACE,
    Site,
    World,
    create_model,
    create_workspace,
)
from tests.support.federation import until

pytestmark = pytest.mark.xdist_group("coordinator_evaluation")

OPTED_OUT = 8
GROUP = 20
"""Subjects: the smallest of 5, 10, … that is no less than the min_rows of these datasets."""


def held_out(world: World) -> int:
    [row] = world.query(
        "SELECT sum((n.value -> 'figures' ->> 'rows')::int)::int AS rows FROM federated.version AS v,"
        " jsonb_each(v.report -> 'nodes') AS n WHERE v.is_current"
    )
    return int(row["rows"])


def features_of(world: World, site: Site) -> np.ndarray:
    with world.cluster.connect(site.database) as connection:
        return np.array(connection.execute("SELECT age, pressure FROM patient").fetchall())


def told(world: World) -> dict[str, dict[str, Any]]:
    return {row["feature"]: row for row in world.query("SELECT * FROM federated_explain_model('risk')")}


def explained(world: World) -> tuple[float, float]:
    """The score that an explanation adds up to, and the log-odds of what is predicted."""
    lines = world.query("SELECT * FROM federated_explain('risk', '{\"age\": 61, \"pressure\": 140}')")
    [predicted] = world.query("SELECT federated_predict('risk', '{\"age\": 61, \"pressure\": 140}') AS p")
    assert [(line["feature"], line["value"]) for line in lines] == [("age", "61"), ("pressure", "140")]
    assert {(line["class"], line["scale"]) for line in lines} == {("1", "log-odds")}
    share = predicted["p"]
    return lines[0]["base_value"] + sum(line["contribution"] for line in lines), np.log(share / (1 - share))


async def test_nodes_tell_what_moves_a_model_without_who_has_opted_out(world: World) -> None:
    create_workspace(world, min_nodes=2)
    for number, name in enumerate(("east", "west")):
        site = await world.add_site(name, rows=300, seed=0.1 * (number + 1), shares=False)
        share_by_patient(world, site)
        world.register(site)
    east = world.sites[0]
    with world.cluster.connect(east.database) as dba:
        await until(lambda: bool(dba.execute("SELECT FROM federated.node_key").fetchall()))
    with psycopg.connect(world.cluster.dsn(east.database), autocommit=True) as dba:
        for subject in range(1, OPTED_OUT + 1):
            dba.execute(
                "CALL federated.execute(%s)",
                [
                    f"REVOKE FEDERATED CONSENT FOR SUBJECT '{subject}' PURPOSE 'Explanation' FROM WORKSPACE {WORKSPACE}"
                ],
            )
    create_model(world, rounds=2, validation_split=0.5)
    world.execute("START FEDERATED TRAINING risk")
    world.start_coordinator()
    assert (await world.finished())["status"] == "completed"

    found, rows = told(world), held_out(world)
    assert set(found) == set(FEATURES)
    assert {(row["class"], row["scale"]) for row in found.values()} == {("1", "log-odds")}
    # Those who have opted out leave with their groups; their rows count for everything else.
    assert found["age"]["rows"] % GROUP == 0
    left_out = rows - found["age"]["rows"]
    assert 2 * GROUP <= left_out <= rows - 3 * GROUP
    assert rows > 240
    [trained] = world.query("SELECT sum(dataset_size)::int AS rows FROM federated_node_status")
    assert trained["rows"] == 600
    [version] = world.query("SELECT prediction FROM federated.version")
    everyone = np.concatenate([features_of(world, site) for site in world.sites])
    moved = np.abs((everyone - version["prediction"]["fills"]) * version["prediction"]["slopes"]).mean(axis=0)
    assert [found[name]["importance"] for name in FEATURES] == pytest.approx(list(moved), rel=0.3)
    assert explained(world)[0] == pytest.approx(explained(world)[1], rel=1e-9)

    world.execute(
        "ALTER FEDERATED MODEL risk SET (algorithm = 'gradient_boosting', trees = 6, max_depth = 3)"
    )
    world.execute("START FEDERATED TRAINING risk")
    assert (await world.finished(count=2))["status"] == "completed"
    assert {row["rows"] for row in told(world).values()} == {held_out(world) - left_out}
    assert all(row["importance"] > 0 for row in told(world).values())
    assert explained(world)[0] == pytest.approx(explained(world)[1], rel=1e-9)
