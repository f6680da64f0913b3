"""What becomes of orders that cannot be taken or asked, in the catalog of a coordinator and without a node."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from heliosdb.catalog import lease
from heliosdb.catalog import orders as catalog
from heliosdb.catalog.psycopg_connection import PsycopgConnection, connected
from heliosdb.coordinator.orders import Orders
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import Epoch, NodeName, OrderId
from heliosdb.domain.orders import Order, OrderKind
from heliosdb.domain.sealed_box import seal_box
from heliosdb.transport.messages import NodeRefusedError
from heliosdb.transport.sealing import AtRestKey, SealingKey
from heliosdb.transport.verification import rejected
from tests.support.cluster import Cluster
from tests.support.federation import until

WORKSPACE = "consortium"
PLACE = (
    "INSERT INTO federated.subject_order (order_id, batch_id, kind, workspace, sealed, message, requested_at)"
    " VALUES (%s, gen_random_uuid(), 'erase', %s, %s, %s, now() - %s * interval '1 minute')"
)


class Setting:
    """The orders of one term, and who looks at the catalog for them. answer: what the one node says."""

    def __init__(self, cluster: Cluster, database: str, session: psycopg.Connection[Any]) -> None:
        conninfo = cluster.dsn(database, user="heliosdb_daemon")
        with connected(conninfo, application_name="test") as connection:
            lease.become_daemon(connection)
            with connection.transaction():
                epoch: Epoch = lease.take_lease(connection, "test")
        self.conninfo, self.session = conninfo, session
        self.key = SealingKey.generate()
        self.answer: Exception = rejected("its statement is not signed by the node")
        self.asked: list[Order] = []
        config = SimpleNamespace(database=SecretStr(conninfo), reconnect_interval=5.0)
        self.orders = Orders(cast(Any, config), cast(Any, self), epoch, self.key, AtRestKey(bytes(32)))

    def place(
        self, sealed: bytes | None = None, *, message: str | None = None, minutes_ago: int = 0
    ) -> OrderId:
        """Place an order; sealed: what does not open."""
        order_id = OrderId(uuid4())
        about = catalog.bound_to(order_id, OrderKind.ERASE, WORKSPACE)
        box = sealed or seal_box(self.key.public, b"42", about=about)
        self.session.execute(PLACE, [order_id, WORKSPACE, box, message, minutes_ago])
        return order_id

    def look(self, connection: PsycopgConnection) -> None:
        """As the daemon does at every poll."""
        self.orders.refresh(catalog.list_order_work(connection, self.orders.untaken), float("inf"))

    def find_by_id(self, node_id: int) -> object:
        """The directory's member."""
        record = SimpleNamespace(id=node_id)
        return SimpleNamespace(record=record, name=NodeName("east"), client=self)

    async def carry(self, order: Order, _timeout: float, **_hooks: object) -> object:
        """The node's client."""
        self.asked.append(order)
        raise self.answer


@pytest.fixture
def session(cluster: Cluster, federated_database: str) -> Any:
    with cluster.connect(federated_database) as connection:
        connection.execute("CALL federated.execute(%s)", [f"CREATE FEDERATED WORKSPACE {WORKSPACE}"])
        yield connection


@pytest.fixture
async def setting(
    cluster: Cluster, federated_database: str, session: psycopg.Connection[Any]
) -> AsyncIterator[Setting]:
    made = Setting(cluster, federated_database, session)
    yield made
    await made.orders.close()


async def repeated(setting: Setting, condition: str, *args: object) -> None:
    """Look at the catalog as the daemon does until the condition holds."""
    with connected(setting.conninfo, application_name="test") as connection:
        lease.become_daemon(connection)

        def holds() -> bool:
            setting.look(connection)
            row = setting.session.execute(f"SELECT {condition}", args).fetchone()  # type: ignore[arg-type]
            return bool(row and row[0])

        await until(holds)


async def test_orders_that_do_not_open_keep_no_other_waiting_and_end_at_their_deadline(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    # As another coordinator left them, whose key this one has not: more than are taken at one look, all older.
    strange = [
        setting.place(b"x" * 80, message="it was tried before", minutes_ago=60)
        for _ in range(catalog.MOST_TAKEN + 3)
    ]
    good = setting.place(message="it was tried before")
    new = setting.place()

    taken = "(SELECT bool_and(pseudonym IS NOT NULL) FROM federated.subject_order WHERE order_id = ANY (%s))"
    await repeated(setting, taken, [good, new])
    noted = "(SELECT bool_and(message LIKE '%%does not open%%') FROM federated.subject_order WHERE order_id = ANY (%s))"
    await repeated(setting, noted, strange)
    states = setting.session.execute(
        "SELECT DISTINCT state, message FROM federated_orders WHERE order_id = ANY (%s)", [strange]
    ).fetchall()
    assert states == [("requested", "what was sealed of it does not open with this coordinator's key")]
    # Each is tried and logged once by one key.
    said = [record.getMessage() for record in caplog.records if "order not taken" in record.getMessage()]
    assert len(said) == len(set(said)) == len(strange)

    setting.session.execute("UPDATE federated.subject_order SET deadline = clock_timestamp()")
    await repeated(setting, "(SELECT bool_and(ended_at IS NOT NULL) FROM federated.subject_order)")
    ended = setting.session.execute(
        "SELECT DISTINCT state, sealed, message FROM federated.subject_order WHERE order_id = ANY (%s)",
        [strange],
    ).fetchall()
    assert ended == [("expired", None, "what was sealed of it does not open with this coordinator's key")]


def node(setting: Setting) -> None:
    setting.session.execute(
        "INSERT INTO federated.node (workspace_id, name) SELECT workspace_id, 'east' FROM federated.workspace"
    )


FAILED = "EXISTS (SELECT FROM federated.order_answer WHERE state <> 'pending' OR message IS NOT NULL)"


def breaches(setting: Setting) -> list[tuple[Any, ...]]:
    return setting.session.execute(
        "SELECT alert_name, workspace_name, observed FROM federated_alerts WHERE kind = 'breach'"
    ).fetchall()


async def test_an_order_that_stops_to_open_while_nodes_are_asked_says_so(setting: Setting) -> None:
    node(setting)
    order_id = setting.place()
    setting.session.execute("SELECT federated._take_order(%s, '\\x01')", [order_id])
    setting.session.execute("UPDATE federated.subject_order SET sealed = %s", [b"x" * 80])

    await repeated(setting, FAILED)

    assert setting.session.execute("SELECT state, message FROM federated.order_answer").fetchall() == [
        ("pending", "what was sealed of it does not open with this coordinator's key")
    ]
    assert setting.asked == []


async def test_a_forged_answer_is_a_breach_that_is_counted(setting: Setting) -> None:
    node(setting)
    setting.place()

    await repeated(setting, "EXISTS (SELECT FROM federated.firing WHERE kind = 'breach' AND events > 1)")

    reason = setting.answer.message  # type: ignore[attr-defined]
    assert breaches(setting) == [("update_rejected", WORKSPACE, {"node": "east", "reason": reason})]
    assert setting.session.execute("SELECT state, message FROM federated.order_answer").fetchall() == [
        ("pending", reason)
    ]


@pytest.mark.parametrize(
    "answer",
    [
        FederatedError(ErrorCode.TIMEOUT, "east did not answer in time"),
        NodeRefusedError("east", ErrorCode.NODE_REFUSED, "not subject 42", detail=None, hint=None),
        # What a node says in words of its own is told to nobody else; its greeting raises that breach.
        NodeRefusedError("east", ErrorCode.IDENTITY, "not subject 42", detail=None, hint=None),
    ],
)
async def test_what_a_network_does_or_a_node_says_is_none(setting: Setting, answer: Exception) -> None:
    setting.answer = answer
    node(setting)
    setting.place()

    await repeated(setting, FAILED)

    assert breaches(setting) == []
