"""One ledger for the same people, by whatever dataset, view, partition or name they are reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.task import Task
from heliosdb.privacy.accountant import spending
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError, encode_task, task_sha256
from tests.support.cluster import Cluster
from tests.support.federation import (
    Federation,
    NodeProcess,
    new_run,
    running_node,
    share,
    statistics_task,
    train_task,
)

pytestmark = pytest.mark.usefixtures("forked_training")

TIMEOUT = 180.0
BUDGET = Budget(1.0, 1e-5)
COLUMNS = "(age, pressure, outcome)"
ROWS = (
    "SELECT i AS person_id, i % 3 AS site, 30 + random() * 40 AS age, 90 + random() * 60 AS pressure,"
    " (random() < 0.4)::integer AS outcome FROM generate_series(1, 200) AS i"
)


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> Any:
    with cluster.connect(federated_database) as connection:
        connection.execute(f"CREATE TABLE person AS {ROWS}")  # type: ignore[arg-type]
        yield connection


@pytest.fixture
async def client(
    cluster: Cluster, federated_database: str, tmp_path: Path, dba: psycopg.Connection[Any]
) -> AsyncIterator[tuple[NodeClient, Federation]]:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        yield client, federation
        await client.close()


def private(dataset: str, noise: float = 6.0, budget: Budget = BUDGET) -> Task:
    task = train_task(noise_multiplier=noise, budget=budget)
    return replace(task, reading=replace(task.reading, dataset=dataset))


async def spends(client: tuple[NodeClient, Federation], dataset: str, noise: float = 6.0) -> float:
    """ε (tight) that the node's ledger shows after one more private answer."""
    update = await client[0].perform(private(dataset, noise), client[1].sealing, TIMEOUT)
    assert update.spending is not None
    return update.spending.epsilon_tight


async def refused(client: tuple[NodeClient, Federation], task: Task) -> NodeRefusedError:
    with pytest.raises(NodeRefusedError) as raised:
        await client[0].perform(task, client[1].sealing, TIMEOUT)
    return raised.value


ONE, TWO = (spending([Mechanism(6.0)] * times, 1e-5).epsilon_tight for times in (1, 2))

WAYS = {
    "a second dataset": ("SELECT 1", "person"),
    "a view": ("CREATE VIEW v AS SELECT * FROM person WHERE age > 0", "v"),
    "a view over a view over a function": (
        "CREATE FUNCTION f() RETURNS SETOF person LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT * FROM person; END;"
        "CREATE VIEW inner_view AS SELECT * FROM f(); CREATE VIEW v AS SELECT * FROM inner_view",
        "v",
    ),
    "a materialized view": ("CREATE MATERIALIZED VIEW v AS SELECT * FROM person", "v"),
    "a table that inherits": (
        "CREATE TABLE child () INHERITS (person);INSERT INTO child SELECT * FROM person",
        "child",
    ),
    "the renamed table": ("ALTER TABLE person RENAME TO people", "people"),
    "the table in another schema": (
        "CREATE SCHEMA moved; ALTER TABLE person SET SCHEMA moved",
        "moved.person",
    ),
    "the table made anew under its name": (
        f"ALTER TABLE person RENAME TO old; CREATE TABLE person AS {ROWS}",
        "person",
    ),
    "a join with another table": (
        "CREATE TABLE site AS SELECT generate_series(0, 2) AS site;"
        "CREATE VIEW v AS SELECT p.* FROM person AS p JOIN site USING (site)",
        "v",
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_spent_is_spent_by_every_way_to_the_same_people(
    way: str, dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    share(dba, "first", f"person {COLUMNS}")
    assert await spends(client, "first") == ONE
    statements, table = WAYS[way]
    dba.execute(statements)  # type: ignore[arg-type]
    share(dba, "second", f"{table} {COLUMNS}")
    assert await spends(client, "second") == TWO
    plain = replace(statistics_task(), reading=private("second").reading)
    assert "a plain answer would undo" in (await refused(client, plain)).message


async def test_a_partition_and_its_parent_have_one_ledger_in_both_directions(
    dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    dba.execute("CREATE TABLE visit (LIKE person) PARTITION BY LIST (site)")
    dba.execute("CREATE TABLE visit_0 PARTITION OF visit FOR VALUES IN (0)")
    dba.execute("CREATE TABLE visit_rest PARTITION OF visit DEFAULT")
    dba.execute("INSERT INTO visit SELECT * FROM person")
    share(dba, "part", f"visit_0 {COLUMNS}")
    share(dba, "whole", f"visit {COLUMNS}")
    assert await spends(client, "part") == ONE
    assert await spends(client, "whole") == TWO
    share(dba, "unrelated", f"person {COLUMNS}")
    assert await spends(client, "unrelated") == ONE


async def test_the_smallest_ceiling_ever_shared_over_the_people_holds_for_all_their_datasets(
    dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    share(dba, "strict", f"person {COLUMNS}", options="WITH (max_epsilon = 0.7)")
    dba.execute("CALL federated.execute('DROP FEDERATED DATASET strict')")
    dba.execute("CREATE VIEW v AS SELECT * FROM person")
    share(dba, "lax", f"v {COLUMNS}", options="WITH (max_epsilon = 100)")
    share(dba, "open", f"person {COLUMNS}")
    assert await spends(client, "open") == ONE
    for dataset in ("lax", "open"):
        error = await refused(client, private(dataset, budget=Budget(1000.0, 1e-5)))
        assert error.reason is ErrorCode.BUDGET_EXHAUSTED
        assert "max_epsilon of the table" in error.message
    plain = replace(statistics_task(), reading=private("open").reading)
    assert "has a max_epsilon" in (await refused(client, plain)).message


async def test_a_join_charges_every_table_that_it_reads(
    dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    dba.execute("CREATE TABLE measured AS SELECT person_id, pressure, age FROM person")
    dba.execute(
        "CREATE VIEW both_tables AS SELECT m.age, m.pressure, p.outcome FROM person AS p"
        " JOIN measured AS m USING (person_id)"
    )
    share(dba, "joined", f"both_tables {COLUMNS}")
    assert await spends(client, "joined") == ONE
    share(dba, "alone", f"person {COLUMNS}")
    assert await spends(client, "alone") == TWO
    [(tables,)] = dba.execute(
        "SELECT cardinality(base_tables) FROM federated.spending ORDER BY spending_id LIMIT 1"
    ).fetchall()
    assert tables == 2


async def test_a_view_that_is_replaced_is_charged_where_its_rows_come_from_now(
    dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    dba.execute("CREATE TABLE decoy AS SELECT * FROM person")
    dba.execute("CREATE VIEW v AS SELECT * FROM decoy")
    share(dba, "viewed", f"v {COLUMNS}")
    assert await spends(client, "viewed") == ONE
    share(dba, "direct", f"person {COLUMNS}")
    assert await spends(client, "direct") == ONE
    dba.execute("CREATE OR REPLACE VIEW v AS SELECT * FROM person")
    assert await spends(client, "viewed") == TWO


async def test_what_a_workspace_spent_is_signed_beside_what_the_people_spent_in_all(
    dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    share(dba, "first", f"person {COLUMNS}")
    assert await spends(client, "first") == ONE
    dba.execute(
        "CALL federated.execute('CREATE FEDERATED DATASET elsewhere FOR TABLE person"
        " (age, pressure, outcome) IN WORKSPACE other')"
    )
    task = private("elsewhere")
    task = replace(task, key=replace(task.key, workspace="other"))  # type: ignore[arg-type]
    update = await client[0].perform(task, client[1].sealing, TIMEOUT)
    assert update.spending is not None
    assert update.spending.epsilon_tight == ONE
    rows = dba.execute(
        "SELECT epsilon_tight, workspace_epsilon_tight FROM federated.spending ORDER BY spending_id"
    ).fetchall()
    assert rows == [(ONE, ONE), (TWO, ONE)]


TREES = {
    "a partition that is detached": (
        "CREATE TABLE visit (LIKE person) PARTITION BY LIST (site);"
        "CREATE TABLE visit_all PARTITION OF visit DEFAULT; INSERT INTO visit SELECT * FROM person",
        "visit",
        "ALTER TABLE visit DETACH PARTITION visit_all",
        "visit_all",
    ),
    "a table that is attached": (
        "CREATE TABLE visit (LIKE person) PARTITION BY LIST (site)",
        "person",
        "ALTER TABLE visit ATTACH PARTITION person DEFAULT",
        "visit",
    ),
    "a child that inherits no more": (
        "CREATE TABLE parent (LIKE person); ALTER TABLE person INHERIT parent",
        "parent",
        "ALTER TABLE person NO INHERIT parent",
        "person",
    ),
    "a child that comes to inherit": (
        "CREATE TABLE parent (LIKE person)",
        "person",
        "ALTER TABLE person INHERIT parent",
        "parent",
    ),
}


@pytest.mark.parametrize("tree", TREES)
async def test_what_was_spent_goes_along_when_tables_join_or_leave_a_tree(
    tree: str, dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    before, first, change, second = TREES[tree]
    dba.execute(before)  # type: ignore[arg-type]
    share(dba, "first", f"{first} {COLUMNS}")
    assert await spends(client, "first") == ONE
    dba.execute(change)  # type: ignore[arg-type]
    share(dba, "second", f"{second} {COLUMNS}")
    assert await spends(client, "second") == TWO


async def test_terms_hold_for_the_tables_that_a_view_comes_to_read(
    dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    dba.execute("CREATE TABLE decoy AS SELECT * FROM person; CREATE VIEW v AS SELECT * FROM decoy")
    share(dba, "viewed", f"v {COLUMNS}")
    await spends(client, "viewed")
    dba.execute("CREATE OR REPLACE VIEW v AS SELECT * FROM person")
    await spends(client, "viewed")
    error = await refused(client, private("viewed", budget=Budget(1000.0, 1e-5)))
    assert "cannot raise" in error.message


async def test_rows_in_memory_are_not_charged_to_the_tables_that_a_view_reads_now(
    dba: psycopg.Connection[Any], client: tuple[NodeClient, Federation]
) -> None:
    dba.execute("CREATE TABLE decoy AS SELECT * FROM person LIMIT 3; CREATE VIEW v AS SELECT * FROM person")
    share(dba, "viewed", f"v {COLUMNS}")
    run, budget = new_run(), Budget(100_000.0, 1e-5)
    count = []
    for number in range(2):
        task = statistics_task(run=run, noise_multiplier=0.01, budget=budget)
        task = replace(task, key=replace(task.key, round=number))  # type: ignore[arg-type]
        count.append(float((await client[0].perform(task, client[1].sealing, TIMEOUT)).vector[-1]))
        dba.execute("CREATE OR REPLACE VIEW v AS SELECT * FROM decoy")
    assert count == pytest.approx([200, 3], abs=1)


FORGED = (
    "WITH r AS (INSERT INTO federated.release (workspace, run_id, round_number, exchange, step, node_name, dataset,"
    " task_sha256, state) VALUES (%s, %s, %s, %s, %s, %s, 'first', %s, 'charged') RETURNING release_id)"
    " INSERT INTO federated.spending (dataset, relation, base_tables, release_id, noise_multiplier, sampling_rate, steps,"
    " epsilon_basic, epsilon_tight, workspace_epsilon_basic, workspace_epsilon_tight, delta)"
    " SELECT 'first', 'x', %s, release_id, %s, 1, 1, 0, 0, 0, 0, 1e-5 FROM r"
)


@pytest.mark.parametrize(
    ("tables", "noise"), [([1], 1e6), ([999], 0.01)], ids=["another noise", "other tables"]
)
async def test_a_charge_for_something_else_lets_nothing_out(
    tables: list[int],
    noise: float,
    cluster: Cluster,
    dba: psycopg.Connection[Any],
    client: tuple[NodeClient, Federation],
) -> None:
    share(dba, "first", f"person {COLUMNS}", options="WITH (max_epsilon = 0.1)")
    task = statistics_task(noise_multiplier=0.01, budget=Budget(1e6, 1e-5))
    key = task.key
    sha256 = task_sha256(encode_task(task, client[1].sealing.public)[0])
    place = [key.workspace, key.run, key.round, key.exchange, key.step, key.node]
    with cluster.connect(dba.info.dbname, user="heliosdb_daemon") as daemon:
        daemon.execute(FORGED, [*place, sha256, tables, noise])  # type: ignore[arg-type]
    error = await refused(client, task)
    assert "the charge is not for what" in error.message


async def test_a_ledger_is_read_as_it_is_after_the_lock_whatever_the_isolation_level(
    cluster: Cluster, dba: psycopg.Connection[Any], tmp_path: Path
) -> None:
    name = sql.Identifier(dba.info.dbname)
    dba.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'").format(name)
    )
    share(dba, "first", f"person {COLUMNS}", options="WITH (max_epsilon = 0.7)")
    federation = Federation(tmp_path)
    nodes = [NodeProcess(federation.node_config(cluster, dba.info.dbname), tmp_path) for _ in range(2)]
    try:
        clients = [federation.client(await node.port()) for node in nodes]
        outcomes = await asyncio.gather(
            *(
                clients[number % 2].perform(private("first"), federation.sealing, TIMEOUT)
                for number in range(6)
            ),
            return_exceptions=True,
        )
        for client in clients:
            await client.close()
    finally:
        for node in nodes:
            node.kill()
    answered = [one for one in outcomes if not isinstance(one, BaseException)]
    assert len(answered) == 1, outcomes


def test_a_ceiling_and_leave_to_answer_plainly_exclude_each_other(dba: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="exclude each other"):
        share(dba, "mixed", f"person {COLUMNS}", options="WITH (plain_answers = true, max_epsilon = 1)")
    share(dba, "alone", f"person {COLUMNS}", options="WITH (plain_answers = false, max_epsilon = 1)")
