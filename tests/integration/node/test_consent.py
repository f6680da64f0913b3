"""Consent at a running node: what is ordered and what its own DBA says, and whose rows its answers are about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.ids import NodeName, OrderId, WorkspaceName
from heliosdb.domain.orders import Order, OrderKind
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from tests.support.cluster import Cluster
from tests.support.federation import (
    WORKSPACE,
    Federation,
    running_node,
    share,
    until,
)

TIMEOUT = 180.0
PEOPLE = """
CREATE TABLE person (person_id integer PRIMARY KEY, name text, age double precision, pressure double precision,
                     outcome integer);
SELECT setseed(0.5);
INSERT INTO person SELECT i, 'p' || i, 30 + 40 * random(), 90 + 60 * random(), (random() < 0.4)::integer
FROM generate_series(1, 200) AS i;
"""
COLUMNS = "person (age, pressure, outcome)"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(cluster: Cluster, federated_database: str) -> str:
    with cluster.connect(federated_database) as connection:
        connection.execute(PEOPLE)
    return federated_database


@pytest.fixture
def dba(cluster: Cluster, database: str) -> Iterator[psycopg.Connection[Any]]:
    with cluster.connect(database) as connection:
        yield connection


class Coordinator:
    """One that orders and asks as it likes."""

    def __init__(self, client: NodeClient, federation: Federation) -> None:
        self.client, self.federation = client, federation

    async def order(self, kind: OrderKind, subject: str, *, minutes: int = 0, **terms: Any) -> dict[str, Any]:
        """Order what was said so many minutes after the tests' noon; returns the statement's members."""
        said_at = (NOW + timedelta(minutes=minutes)).isoformat()
        order = Order(
            OrderId(uuid4()),
            kind,
            WorkspaceName(WORKSPACE),
            NodeName("node"),
            subject,
            {"said_at": said_at, **terms},
            datetime.now(UTC) + timedelta(days=30),
        )
        carried = await self.client.carry(order, TIMEOUT)
        return carried.signed.read()


@pytest.fixture
async def coordinator(cluster: Cluster, database: str, tmp_path: Path) -> AsyncIterator[Coordinator]:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, database)) as port:
        client = federation.client(port)
        yield Coordinator(client, federation)
        await client.close()


async def test_a_node_signs_the_same_whether_it_holds_the_subject_and_whatever_its_own_dba_has_said(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name')")
    await until(lambda: bool(dba.execute("SELECT FROM federated.node_key").fetchall()))
    dba.execute(
        "CALL federated.execute($$REVOKE FEDERATED CONSENT FOR SUBJECT 'p7' FROM WORKSPACE consortium$$)"
    )
    statements = [
        await coordinator.order(OrderKind.GRANT, subject, purpose="research", version="2")
        for subject in ("p7", "p8", "nobody we know", "ß\N{SNOWMAN}")
    ]
    for one in statements:
        assert one.pop("order")
        assert one.pop("at")
    assert all(one == statements[0] for one in statements)
    assert statements[0] == {
        "kind": "grant", "workspace": WORKSPACE, "node": "node", "outcome": "recorded", "datasets": [],
        "purpose": "research", "version": "2",
    }  # fmt: skip


async def test_what_was_said_at_the_node_is_in_its_register_without_a_task_and_without_the_subject(
    dba: psycopg.Connection[Any], coordinator: Coordinator
) -> None:
    share(dba, "people", COLUMNS, options="WITH (subject = 'name')")
    await until(lambda: bool(dba.execute("SELECT FROM federated.node_key").fetchall()))
    for text in (
        "GRANT FEDERATED CONSENT FOR SUBJECT 'p7' PURPOSE 'research' IN WORKSPACE consortium VERSION '2'",
        "REVOKE FEDERATED CONSENT FOR SUBJECT 'p7' PURPOSE 'sale' FROM WORKSPACE consortium",
    ):
        dba.execute("CALL federated.execute(%s)", [text])
    await coordinator.order(OrderKind.REVOKE, "p8")
    await until(lambda: not dba.execute("SELECT FROM federated.consent_request").fetchall())
    rows = dba.execute(
        "SELECT kind, purpose, version, origin, given_by, order_id IS NULL, digest FROM federated.consent"
        " ORDER BY origin DESC, consent_id"
    ).fetchall()
    assert [row[:6] for row in rows] == [
        ("grant", "research", "2", "node", "postgres", True),
        ("revoke", "sale", None, "node", "postgres", True),
        ("revoke", None, None, "coordinator", None, False),
    ]
    assert rows[0][6] == rows[1][6] != rows[2][6]
    shown = dba.execute(
        "SELECT purpose, status, recorded_by, nodes FROM federated_consent ORDER BY 1"
    ).fetchall()
    assert shown == [
        ("research", "granted", "node", None),
        ("sale", "opted out", "node", None),
        (None, "revoked", "node", None),
    ]


@pytest.mark.parametrize(
    "terms",
    [{"said_at": "yesterday"}, {"said_at": "2026-01-01T00:00:00"}, {"said_at": 7}, {"purpose": 7}, {"purpose": ""},
     {"purpose": "p" * 257}, {"version": ["1"]}, {"purpose": "a\0b"}],
)  # fmt: skip
async def test_an_order_that_says_nothing_sensible_is_refused_and_leaves_nothing(
    dba: psycopg.Connection[Any], coordinator: Coordinator, terms: dict[str, Any]
) -> None:
    with pytest.raises(NodeRefusedError) as caught:
        await coordinator.order(OrderKind.GRANT, "p7", **terms)
    assert caught.value.reason is ErrorCode.INVALID_VALUE
    assert dba.execute("SELECT FROM federated.consent").fetchall() == []
