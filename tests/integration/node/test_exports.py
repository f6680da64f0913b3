"""What a node hands over about a data subject, and when it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from heliosdb.domain.errors import ErrorCode
from heliosdb.domain.ids import NodeName, OrderId, WorkspaceName
from heliosdb.domain.orders import Order, OrderKind
from heliosdb.domain.sealed_part import derive_private_key, open_part, public_key
from heliosdb.domain.subject_export import Holdings
from heliosdb.transport.client import NodeClient
from heliosdb.transport.messages import NodeRefusedError
from heliosdb.transport.order_messages import CarriedOrder
from tests.support.cluster import Cluster
from tests.support.federation import WORKSPACE, Federation, running_node

TIMEOUT = 180.0
PRIVATE = derive_private_key(b"s" * 32, b"salt")
TERMS = {"recipient": public_key(PRIVATE).hex()}


@dataclass(frozen=True)
class Asker:
    """Asks one node, and types what its DBA types."""

    client: NodeClient
    cluster: Cluster
    database: str

    def execute(self, statement: str) -> None:
        with self.cluster.connect(self.database) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def type(self, statement: str) -> None:
        with self.cluster.connect(self.database) as connection:
            connection.execute("CALL federated.execute(%s)", [statement])

    async def ask(
        self, subject: str, terms: Mapping[str, Any] = TERMS, order_id: OrderId | None = None
    ) -> CarriedOrder:
        deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        chosen = order_id or OrderId(uuid4())
        order = Order(
            chosen, OrderKind.EXPORT, WorkspaceName(WORKSPACE), NodeName("node"), subject, terms, deadline
        )
        return await self.client.carry(order, TIMEOUT)

    def exports(self) -> list[tuple[Any, ...]]:
        with self.cluster.connect(self.database) as connection:
            return connection.execute(
                "SELECT dataset, rows FROM federated.node_export ORDER BY exported_at"
            ).fetchall()


@pytest.fixture
async def asker(cluster: Cluster, federated_database: str, tmp_path: Path) -> AsyncIterator[Asker]:
    federation = Federation(tmp_path)
    async with running_node(federation.node_config(cluster, federated_database)) as port:
        client = federation.client(port)
        found = Asker(client, cluster, federated_database)
        found.execute(
            "CREATE TABLE visit (who text, paid numeric(10,3), level float8, seen boolean, notes jsonb, secret text);"
            "INSERT INTO visit VALUES ('p''17', 12.300, 'NaN', true, '{\"a\": \"b\"}', 'x'), ('p''17', NULL, 1e300, NULL, NULL, 'x'),"
            " ('p18', 1, 1, false, '[]', 'x')"
        )
        found.type(
            f"CREATE FEDERATED DATASET visits FOR TABLE visit (paid, level, seen, notes) IN WORKSPACE {WORKSPACE}"
            " WITH (subject = 'who', exports = true)"
        )
        yield found
        await client.close()


def opened(carried: CarriedOrder) -> Holdings:
    order_id = carried.signed.read()["order"]
    return Holdings.from_bytes(open_part(PRIVATE, carried.body, type(uuid4())(order_id), "node"))


async def test_a_subject_is_given_its_rows_as_they_are_and_nothing_beside_them(asker: Asker) -> None:
    carried = await asker.ask("p'17")
    holdings = opened(carried)
    [held] = holdings.datasets
    assert (holdings.subject, held.relation, held.action) == ("p'17", "public.visit", "exported")
    assert dict(held.columns) == {
        "who": "text", "paid": "numeric(10,3)", "level": "double precision", "seen": "boolean", "notes": "jsonb"
    }  # fmt: skip
    rows = [dict(zip((name for name, _ in held.columns), row, strict=True)) for row in held.rows]
    assert rows == [
        {"who": '"p\'17"', "paid": "12.300", "level": '"NaN"', "seen": "true", "notes": '{"a": "b"}'},
        {"who": '"p\'17"', "paid": None, "level": "1e+300", "seen": None, "notes": None},
    ]
    assert carried.signed.read()["outcome"] == "exported"
    assert b"p'17" not in carried.signed.statement
    assert asker.exports() == [("visits", 2)]


async def test_asked_again_it_sends_the_same_bytes_and_writes_nothing_down(asker: Asker) -> None:
    order_id = OrderId(uuid4())
    deadline = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    order = Order(
        order_id, OrderKind.EXPORT, WorkspaceName(WORKSPACE), NodeName("node"), "p18", TERMS, deadline
    )
    first = await asker.client.carry(order, TIMEOUT)
    asker.type("ALTER FEDERATED DATASET visits SET (exports = false)")
    assert await asker.client.carry(order, TIMEOUT) == first
    assert asker.exports() == [("visits", 1)]
    with pytest.raises(NodeRefusedError):
        await asker.ask("p'17", order_id=order_id)


async def test_what_the_coordinator_sees_is_the_same_of_who_is_not_held(asker: Asker) -> None:
    held, unheld = await asker.ask("p18"), await asker.ask("nobody")
    said = [one.signed.read() for one in (held, unheld)]
    for one in said:
        for of_the_order in ("order", "at", "body_sha256"):
            del one[of_the_order]
    assert said[0] == said[1]
    assert len(held.body) == len(unheld.body)
    assert not opened(unheld).is_any


@pytest.mark.parametrize(
    ("change", "outcome", "action"),
    [
        ("ALTER FEDERATED DATASET visits SET (exports = false)", "refused", "refused"),
        ("ALTER FEDERATED DATASET visits SET (paused = true)", "refused", "paused"),
        ("DROP FEDERATED DATASET visits", "not held", None),
    ],
)
async def test_where_the_dba_does_not_let_it_nothing_follows(
    asker: Asker, change: str, outcome: str, action: str | None
) -> None:
    asker.type(change)
    carried = await asker.ask("p18")
    said = carried.signed.read()
    assert (said["outcome"], carried.body) == (outcome, b"")
    assert [one["action"] for one in said["datasets"]] == ([] if action is None else [action])
    assert asker.exports() == []


@pytest.mark.parametrize(
    "terms", [{}, {"recipient": "00"}, {"recipient": 7}, {"recipient": "zz" * 32}, {"recipient": "00" * 32}]
)
async def test_an_export_to_no_key_is_refused(asker: Asker, terms: dict[str, Any]) -> None:
    with pytest.raises(NodeRefusedError) as caught:
        await asker.ask("p18", terms)
    assert caught.value.reason in (ErrorCode.INVALID_VALUE, ErrorCode.IDENTITY)
    assert asker.exports() == []


async def test_more_than_an_export_takes_is_refused_for_good(asker: Asker) -> None:
    asker.execute(
        "INSERT INTO visit SELECT 'p18', 1, 1, false, to_jsonb(repeat('x', 1000000)), 'x' FROM generate_series(1, 17)"
    )
    with pytest.raises(NodeRefusedError) as caught:
        await asker.ask("p18")
    assert caught.value.reason is ErrorCode.NODE_REFUSED
    assert "16 MiB" in caught.value.message
    assert asker.exports() == []
