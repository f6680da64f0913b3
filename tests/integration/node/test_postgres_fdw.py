"""A node whose table is divided over other servers by postgres_fdw answers what it does of one table with these rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

from heliosdb.domain.privacy import Budget
from heliosdb.node.config import NodeConfig
from tests.integration.node.test_erasures import Node
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    evaluate_task,
    measured,
    running_node,
    share,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
COLUMNS = "visit (age, pressure, outcome)"
OPTIONS = "WITH (subject = 'patient', erasure = 'delete', plain_answers = true)"
VISIT = "visit_id integer, patient text, age double precision, pressure double precision, outcome integer"
ROWS = """
INSERT INTO {} SELECT i, 'p' || i * 7 % 400, 30 + i * 31 % 401 / 10.0,
                      CASE WHEN i % 9 > 0 THEN 90 + i * 17 % 997 / 15.0 END,
                      (i * 13 % 10 < 4)::integer
FROM generate_series(1, 1000) AS i
"""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def divided(cluster: Cluster, federated_database: str) -> Iterator[list[str]]:
    """The databases of two other servers, which hold the partitions of the node's own table."""
    places = [cluster.create_database() for _ in range(2)]
    with cluster.connect(federated_database) as connection:
        connection.execute("CREATE EXTENSION postgres_fdw")
        connection.execute(f"CREATE TABLE visit ({VISIT}) PARTITION BY HASH (patient)".encode())
        for number, place in enumerate(places):
            with cluster.connect(place) as there:
                there.execute(f"CREATE TABLE visit_there ({VISIT})".encode())
            attach(connection, cluster, number, place)
        connection.execute(ROWS.format("visit").encode())
        share(connection, "visits", COLUMNS, options=OPTIONS)
    yield places
    with cluster.connect(federated_database) as connection:
        connection.execute("DROP SERVER part_0, part_1 CASCADE")
    for place in places:
        cluster.drop_database(place)


def attach(connection: psycopg.Connection[Any], cluster: Cluster, number: int, place: str) -> None:
    """Make a partition of a table in another database, as a site's DBA does."""
    named = sql.Identifier(f"part_{number}")
    connection.execute(
        sql.SQL(
            "CREATE SERVER {} FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host {}, port {}, dbname {})"
        ).format(named, str(cluster.directory), str(cluster.port), place)
    )
    connection.execute(sql.SQL("CREATE USER MAPPING FOR CURRENT_USER SERVER {}").format(named))
    connection.execute(
        sql.SQL(
            "CREATE FOREIGN TABLE {0} PARTITION OF visit FOR VALUES WITH (MODULUS 2, REMAINDER {1}) SERVER {0}"
            " OPTIONS (table_name 'visit_there')"
        ).format(named, number)
    )


async def answers(federation: Federation, config: NodeConfig) -> list[tuple[bytes, float]]:
    """What a node answers in a run: statistics, training, an evaluation."""
    train = train_task(parameters=np.array([0.5, -0.25, 0.1]))
    evaluate = replace(evaluate_task(run=train.key.run), state=train.state)
    async with running_node(config) as port:
        client = federation.client(port)
        await measured(client, federation, train)
        found = [await client.perform(task, federation.sealing, TIMEOUT) for task in (train, evaluate)]
        await client.close()
    return [(one.vector.tobytes(), one.weight) for one in found]


async def test_partitions_on_other_servers_lead_to_the_bits_of_one_table(
    cluster: Cluster, federated_database: str, federation: Federation, divided: list[str]
) -> None:
    whole = cluster.create_database("federated_template")
    with cluster.connect(whole) as connection:
        connection.execute(f"CREATE TABLE visit ({VISIT})".encode())
        connection.execute(ROWS.format("visit").encode())
        share(connection, "visits", COLUMNS, options=OPTIONS)
    with cluster.connect(divided[0]) as there:
        (held,) = there.execute("SELECT count(*) FROM visit_there").fetchone() or (0,)
        assert 300 < held < 700
    own = await answers(federation, federation.node_config(cluster, whole))
    config = federation.node_config(cluster, federated_database)
    assert await answers(federation, config) == own
    workers = federation.node_config(cluster, federated_database, engine="dask", dask={"workers": 2})
    assert await answers(federation, workers) == own
    cluster.drop_database(whole)


async def test_erasing_somebody_deletes_the_rows_where_they_are(
    cluster: Cluster, federated_database: str, federation: Federation, divided: list[str]
) -> None:
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        node = Node(client, federation)
        outcome, done = await node.erase("p7")
        assert (outcome, done) == ("erased", [("visits", 3, "erased", None)])
        assert await node.count("visits") == 997.0
        await client.close()
    for place in divided:
        with cluster.connect(place) as there:
            assert there.execute("SELECT count(*) FROM visit_there WHERE patient = 'p7'").fetchone() == (0,)


async def test_the_ledger_is_that_of_all_partitions_however_they_are_reached(
    cluster: Cluster, federated_database: str, federation: Federation, divided: list[str]
) -> None:
    del divided
    budget = Budget(10.0, 1e-5)
    task = statistics_task(noise_multiplier=5.0, budget=budget)
    with cluster.connect(federated_database) as connection:
        share(connection, "ward", "part_0 (age, pressure, outcome)", options="WITH (subject = 'patient')")
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        for dataset in ("visits", "ward"):
            reading = replace(task.reading, dataset=dataset)
            asked = replace(statistics_task(noise_multiplier=5.0, budget=budget), reading=reading)
            await client.perform(asked, federation.sealing, TIMEOUT)
        await client.close()
    with cluster.connect(federated_database) as connection:
        names = connection.execute(
            "SELECT s.epsilon_tight, array_agg(b.names[1] ORDER BY b.names[1]) FROM federated.spending AS s"
            " JOIN federated.base_table AS b ON b.base_table_id = ANY (s.base_tables)"
            " GROUP BY s.spending_id, s.epsilon_tight ORDER BY s.spending_id"
        ).fetchall()
    (first, tables), (second, again) = names
    assert tables == again == ["public.part_0", "public.part_1", "public.visit"]
    assert second > first
