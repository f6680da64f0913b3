"""Subject orders in the coordinator's catalog: placed by statements, taken and recorded by the daemon.

What always holds: the identifier is there only as sealed to the coordinator's key, bound to its order; what a
node answered is recorded once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import OrderId, WorkspaceName
from heliosdb.domain.orders import OrderKind, SignedStatement, read_statement

_SQL = Statements("orders.sql")

MOST_TAKEN = 100
"""At one look."""
_MOST_PENDING = 20
"""Of each node, at one look."""


@dataclass(frozen=True, slots=True)
class NewOrders:
    """A statement's orders. sealed: by its order, each subject's identifier."""

    batch_id: UUID
    kind: OrderKind
    workspace: str
    model: str | None
    terms: Mapping[str, Any]
    sealed: Mapping[OrderId, bytes]


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order that is not over."""

    order_id: OrderId
    kind: OrderKind
    workspace: WorkspaceName
    terms: Mapping[str, Any]
    deadline: datetime
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PendingAnswer:
    """That a node has not answered an order yet."""

    order_id: OrderId
    node_id: int


@dataclass(frozen=True, slots=True)
class OrderWork:
    """What there is to do: which orders to take, whether any has to be settled, who is to be asked.

    The first of each, oldest first: more come into sight when these are done.
    """

    requested: tuple[OrderId, ...] = ()
    settles: bool = False
    pending: tuple[PendingAnswer, ...] = ()


def bound_to(order_id: OrderId, kind: OrderKind, workspace: str) -> bytes:
    """What a sealed identifier is bound to: it opens as this order's alone."""
    return b"heliosdb subject order v1\0" + order_id.bytes + kind.value.encode() + b"\0" + workspace.encode()


def read_sealing_key(connection: Connection) -> bytes | None:
    """Return the coordinator's public key; None where none has published one here."""
    rows = _SQL.query(connection, "read_sealing_key")
    return bytes(rows[0]["sealing_key"]) if rows else None


def publish_sealing_key(connection: Connection, public: bytes) -> None:
    """Say to which key identifiers are sealed from now on."""
    _SQL.query(connection, "publish_sealing_key", public)


def insert_orders(connection: Connection, new: NewOrders) -> None:
    """Place a statement's orders; a trigger lets only members of the workspace's owner role."""
    _SQL.query(
        connection,
        "insert_orders",
        str(new.batch_id),
        new.kind.value,
        new.workspace,
        new.model,
        json.dumps(new.terms),
        [str(one) for one in new.sealed],
        list(new.sealed.values()),
    )


def list_order_work(connection: Connection, untaken: Collection[OrderId] = ()) -> OrderWork:
    """Return what there is to do about orders. untaken: those that are left out of what is to be taken."""
    requested = _SQL.query(
        connection, "list_requested_orders", MOST_TAKEN, [str(order_id) for order_id in untaken]
    )
    pending = _SQL.query(connection, "list_pending_answers", _MOST_PENDING)
    return OrderWork(
        tuple(OrderId(row["order_id"]) for row in requested),
        bool(_SQL.query(connection, "may_settle")[0]["may"]),
        tuple(PendingAnswer(OrderId(row["order_id"]), row["node_id"]) for row in pending),
    )


def read_open_order(connection: Connection, order_id: OrderId) -> OpenOrder | None:
    """Return an order; None where it is over."""
    rows = _SQL.query(connection, "read_open_order", order_id)
    if not rows:
        return None
    row = rows[0]
    return OpenOrder(
        OrderId(row["order_id"]),
        OrderKind(row["kind"]),
        WorkspaceName(row["workspace"]),
        json.loads(row["terms"]),
        row["deadline"],
        bytes(row["sealed"]),
    )


def take_order(connection: Connection, order_id: OrderId, pseudonym: bytes) -> bool:
    """List the nodes that an order is for; False where it was taken, or is over."""
    return bool(_SQL.query(connection, "take_order", order_id, pseudonym)[0]["taken"])


def note_untaken(connection: Connection, order_id: OrderId, reason: str) -> None:
    """Record why an order cannot be taken."""
    _SQL.query(connection, "note_untaken", order_id, reason)


def drop_order(connection: Connection, order_id: OrderId, reason: str) -> None:
    """End an order that nobody can be asked, and destroy what was sealed of it."""
    _SQL.query(connection, "drop_order", order_id, reason)


def settle_orders(connection: Connection) -> Sequence[tuple[OrderId, str]]:
    """Have nodes asked that were registered meanwhile, and end what is over; returns what ended, and how."""
    return [(OrderId(row["order_id"]), row["state"]) for row in _SQL.query(connection, "settle_orders")]


def is_pending(connection: Connection, pending: PendingAnswer) -> bool:
    """Whether the node is still to be asked."""
    return bool(_SQL.query(connection, "is_pending", pending.order_id, pending.node_id)[0]["pending"])


def record_answer(connection: Connection, pending: PendingAnswer, signed: SignedStatement) -> bool:
    """Record what a node answered; False where there is an answer, or none is waited for any more."""
    outcome = str(read_statement(signed.statement)["outcome"])
    said = (outcome, signed.statement, signed.signature, signed.certificate_sha256)
    return bool(_SQL.query(connection, "record_answer", pending.order_id, pending.node_id, *said))


def record_refusal(connection: Connection, pending: PendingAnswer, reason: str) -> None:
    """Record that a node does not carry the order out, and is not asked again."""
    _SQL.query(connection, "record_refusal", pending.order_id, pending.node_id, reason)


def note_failure(connection: Connection, pending: PendingAnswer, reason: str) -> None:
    """Record why a node has not answered yet."""
    _SQL.query(connection, "note_failure", pending.order_id, pending.node_id, reason)
