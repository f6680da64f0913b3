"""Levels that no catalog declares are found under a budget: from the statement to the prediction, whoever adds the
noise, and at a price that is told before and stands in every ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from heliosdb.domain.encoding import Encoding
from tests.integration.coordinator.support import (
    MODEL,
    WORKSPACE,
    Site,
    World,
    create_workspace,
    make_world,
)
from tests.support.cluster import Cluster

NAMES = ("east", "north", "south")
LEVELS = ("Köln", "Rom", "Ulm")
ROWS = """CREATE TABLE t (who integer, city text, age integer, ill integer CHECK (ill IN (0, 1)));
INSERT INTO t SELECT i, (ARRAY['Rom', 'Ulm', 'Köln', NULL])[1 + i % 4], 30 + i % 40,
((i % 4 = 0) <> (random() < 0.1))::integer FROM generate_series(1, 1600) AS i;
INSERT INTO t VALUES (1601, 'only here', 40, 1);
INSERT INTO t SELECT 1602, 'one of a thousand ' || i, 40, 0 FROM generate_series(1, 1000) AS i"""

SHARED = (
    f"CREATE FEDERATED DATASET d FOR TABLE t (city, age, ill) IN WORKSPACE {WORKSPACE} WITH (subject = 'who')"
)


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three nodes that share the noise of secure sums, or leave it to the coordinator."""
    directory: Path = tmp_path_factory.mktemp("vocabulary")
    with make_world(cluster, directory, cluster.create_database("federated_template")) as made:
        asyncio.run(prepare(made))
        yield made


async def prepare(world: World) -> None:
    create_workspace(world, min_nodes=3, privacy_budget=100.0, noise_multiplier=3.0)
    peers = world.federation.directory / "peers.pem"
    for name in NAMES:
        world.federation.node_config(world.cluster, "none", name)
    peers.write_bytes(b"".join((peers.parent / f"{name}.pem").read_bytes() for name in NAMES))
    world.node_settings |= {"peers": peers, "central_noise": True}
    for name in NAMES:
        site = Site(name, world.cluster.create_database("federated_template"))
        with world.cluster.connect(site.database) as connection:
            connection.execute(ROWS)
            connection.execute("CALL federated.execute(%s)", [SHARED])
        world.sites.append(site)
        await world.start_site(site)
        world.register(site)
    world.start_coordinator()
    await world.reached("(SELECT count(datasets) = 3 FROM federated.node)")


@pytest.mark.parametrize("trust", ["local", "distributed", "central"])
async def test_levels_of_many_subjects_are_found_and_predicted_by(world: World, trust: str) -> None:
    secure = str(trust != "local").lower()
    world.execute(f"ALTER FEDERATED WORKSPACE {WORKSPACE} SET (trust_model = '{trust}')")
    world.execute(
        f"CREATE FEDERATED MODEL {MODEL}_{trust} IN WORKSPACE {WORKSPACE} WITH (algorithm = 'logistic_regression',"
        f" features = ['city', 'age'], target = 'ill', rounds = 2, seed = 7, secure_aggregation = {secure})"
    )
    told = world.query(f"SELECT * FROM federated.explain('EXPLAIN START FEDERATED TRAINING {MODEL}_{trust}')")
    assert "vocabulary" in json.dumps(told, default=str), told
    already = len(world.runs())
    notices = list[str]()
    with world.catalog() as connection:
        connection.add_notice_handler(
            lambda one: notices.append(f"{one.message_primary} {one.message_detail}")
        )
        connection.execute("CALL federated.execute(%s)", [f"START FEDERATED TRAINING {MODEL}_{trust}"])
    assert 'the levels of feature "city" are not declared at east, north, south' in " ".join(notices)
    run = await world.finished(count=already + 1)
    assert run["status"] == "completed", run

    (row,) = world.query("SELECT scaling FROM federated.run ORDER BY created_at DESC LIMIT 1")
    found = Encoding.from_json(row["scaling"]["encoding"]).columns[0]
    assert found.levels == LEVELS
    assert (found.null_level, found.other_level) == (True, True)
    lines = world.query(
        "SELECT node_name, noise_multiplier FROM federated.ledger"
        " WHERE step = 'vocabulary' AND run_id = (SELECT run_id FROM federated.run ORDER BY created_at DESC LIMIT 1)"
    )
    assert len(lines) == 3, lines
    for site in world.sites:
        with world.cluster.connect(site.database) as node:
            own = node.execute(
                "SELECT s.noise_multiplier FROM federated.spending AS s JOIN federated.release USING (release_id)"
                " WHERE step = 'vocabulary' ORDER BY release_id DESC LIMIT 1"
            ).fetchall()
        assert own == [(lines[0]["noise_multiplier"],)]
    predicted = world.query(
        "SELECT federated_predict(%s, jsonb_build_object('city', c, 'age', 40)) AS p"
        " FROM unnest(ARRAY['Rom', 'nowhere', NULL]) AS c",
        f"{MODEL}_{trust}",
    )
    assert len({round(float(one["p"]), 6) for one in predicted}) == 3, predicted
