"""Erasure at a node: what is deleted, what is left out where it cannot be, and what the statement says of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from heliosdb.domain.ids import NodeName, OrderId, WorkspaceName
from heliosdb.domain.orders import Order, OrderKind
from heliosdb.transport.client import NodeClient
from tests.support.cluster import Cluster
from tests.support.federation import WORKSPACE, Federation, new_run, running_node, share, statistics_task

TIMEOUT = 180.0
VISITS = """
CREATE TABLE visit (visit_id integer PRIMARY KEY, patient text, day date, age double precision, pressure double precision,
                    outcome integer);
INSERT INTO visit SELECT i, 'p' || (i + 1) / 2, '2026-01-01'::date + (i + 1) / 2, 30 + i % 40, 90 + i % 50, i % 2
FROM generate_series(1, 200) AS i;
"""
COLUMNS = "visit (age, pressure, outcome)"
DELETING = "WITH (subject = 'patient', erasure = 'delete')"


@pytest.fixture
def dba(cluster: Cluster, federated_database: str) -> Any:
    with cluster.connect(federated_database) as connection:
        connection.execute(VISITS)
        yield connection


class Node:
    """A node that is asked by its coordinator."""

    def __init__(self, client: NodeClient, federation: Federation) -> None:
        self.client, self.federation = client, federation

    async def erase(self, subject: str) -> tuple[str, list[tuple[str, int | None, str, str | None]]]:
        """The statement's outcome, and of each dataset what was done."""
        deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        place = WorkspaceName(WORKSPACE), NodeName("node")
        order = Order(OrderId(uuid4()), OrderKind.ERASE, *place, subject, {}, deadline)
        said = (await self.client.carry(order, TIMEOUT)).signed.read()
        done = [(one["dataset"], one["rows"], one["action"], one.get("failure")) for one in said["datasets"]]
        return said["outcome"], done

    async def count(self, dataset: str) -> float:
        """How many rows the dataset's answers are about."""
        task = statistics_task(run=new_run())
        reading = replace(task.reading, dataset=dataset, validation_split=0.0)
        answer = await self.client.perform(replace(task, reading=reading), self.federation.sealing, TIMEOUT)
        return float(answer.vector[0])


@pytest.fixture
async def node(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any], tmp_path: Path
) -> AsyncIterator[Node]:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        yield Node(client, federation)
        await client.close()


def rows(dba: psycopg.Connection[Any], patient: str) -> int:
    [(found,)] = dba.execute("SELECT count(*) FROM visit WHERE patient = %s", [patient]).fetchall()
    return int(found)


async def test_each_dataset_goes_by_its_own_rule(dba: psycopg.Connection[Any], node: Node) -> None:
    share(dba, "anonymous", COLUMNS)
    share(dba, "deleting", f"{COLUMNS} WHERE (visit_id <> 13)", options=DELETING)
    share(dba, "keeping", COLUMNS, options="WITH (subject = 'patient')")
    share(dba, "by_day", COLUMNS, options="WITH (subject = 'day')")
    assert await node.erase("p7") == (
        "erased",
        [
            ("anonymous", None, "not identifiable", None),
            ("by_day", 0, "not held", None),
            ("deleting", 1, "erased", None),
            ("keeping", 2, "suppressed", None),
        ],
    )
    # What the predicate leaves out was not shared, and is not the coordinator's to have deleted.
    assert rows(dba, "p7") == 1
    assert await node.count("keeping") == 198.0
    outcome, done = await node.erase("2026-01-04")
    assert (outcome, done[1]) == ("suppressed", ("by_day", 2, "suppressed", None))


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
async def test_who_cannot_be_deleted_is_suppressed_and_it_is_said_why(
    deferred: str, dba: psycopg.Connection[Any], node: Node
) -> None:
    share(dba, "visits", COLUMNS, options=DELETING)
    dba.execute(f"CREATE TABLE bill (visit_id integer REFERENCES visit {deferred})".encode())
    dba.execute("INSERT INTO bill VALUES (5)")
    violated = "23503 foreign_key_violation"
    assert await node.erase("p3") == ("suppressed", [("visits", 2, "suppressed", violated)])
    assert rows(dba, "p3") == 2
    assert await node.count("visits") == 198.0
    dba.execute("DELETE FROM bill")
    assert (await node.erase("p3"))[0] == "erased"


async def test_who_cannot_be_counted_is_suppressed(dba: psycopg.Connection[Any], node: Node) -> None:
    dba.execute(
        "CREATE VIEW ratio AS SELECT patient, age / (visit_id - 5) AS age, pressure, outcome FROM visit"
    )
    share(
        dba, "ratios", "ratio (age, pressure, outcome) WHERE (age > 0)", options="WITH (subject = 'patient')"
    )
    expected = [("ratios", None, "suppressed", "22012 division_by_zero")]
    assert await node.erase("p3") == ("suppressed", expected)
    assert dba.execute("SELECT count(*), min(reason) FROM federated.withdrawn_subject").fetchall() == [
        (1, "erased")
    ]


async def test_a_subject_is_who_its_collation_says(dba: psycopg.Connection[Any], node: Node) -> None:
    dba.execute(
        "CREATE COLLATION careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    )
    dba.execute("ALTER TABLE visit ALTER patient TYPE text COLLATE careless")
    share(dba, "visits", COLUMNS, options="WITH (subject = 'patient')")
    assert await node.erase("P9") == ("suppressed", [("visits", 2, "suppressed", None)])
    assert await node.count("visits") == 198.0


def test_deleting_is_for_what_can_be_deleted_from(dba: psycopg.Connection[Any]) -> None:
    dba.execute(
        "CREATE VIEW summed AS SELECT patient, avg(age) AS age, avg(outcome) AS outcome FROM visit GROUP BY 1"
    )
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="cannot be deleted through it") as refused:
        share(dba, "sums", "summed (age, outcome)", options=DELETING)
    assert "erasure = 'suppress'" in (refused.value.diag.message_hint or "")
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="needs a subject"):
        share(dba, "visits", COLUMNS, options="WITH (erasure = 'delete')")
    may = "SELECT has_table_privilege('federated_probe', 'federated_dataset.visits', 'DELETE')"
    share(dba, "visits", COLUMNS, options="WITH (subject = 'patient')")
    assert dba.execute(may).fetchall() == [(False,)]
    for change, lets in (("SET (erasure = 'delete')", True), ("RESET (erasure)", False)):
        dba.execute("CALL federated.execute(%s)", [f"ALTER FEDERATED DATASET visits {change}"])
        assert dba.execute(may).fetchall() == [(lets,)]


def test_the_owner_alone_accepts_and_only_what_was_until_now(
    cluster: Cluster, federated_database: str, dba: psycopg.Connection[Any]
) -> None:
    share(dba, "visits", COLUMNS, options="WITH (subject = 'patient')")
    with pytest.raises(psycopg.errors.UndefinedObject):
        dba.execute("SELECT federated_accept_withdrawals('nothing')")
    dba.execute("CREATE ROLE other_dba LOGIN IN ROLE federated_admin")
    try:
        with cluster.connect(federated_database, user="other_dba") as other:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
                other.execute("SELECT federated_accept_withdrawals('visits')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(
                    "INSERT INTO federated.withdrawal_acceptance (dataset_id, accepted_at) SELECT dataset_id, 'infinity'"
                    " FROM federated.dataset"
                )
    finally:
        dba.execute("DROP OWNED BY other_dba")
        dba.execute("DROP ROLE other_dba")
