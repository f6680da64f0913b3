"""Subject orders at a node: what the coordinator asks about a data subject is carried out, once, and signed.

What always holds: an order is for this node's own certificate; what it asks for and the node's word about it
are one transaction of the node's database; asked again, the same bytes. The identifier is in no log, no row,
no statement and no error of the node.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from heliosdb import faults
from heliosdb.catalog import node_orders as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.node_orders import StoredOrder
from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported
from heliosdb.domain.orders import Order, OrderKind, OrderOutcome, SignedStatement, canonical_json
from heliosdb.node.carrying import Carrying, Handler
from heliosdb.node.consenting import record_consent
from heliosdb.node.database import Database
from heliosdb.node.datasets import table_key
from heliosdb.node.erasing import erase
from heliosdb.node.exporting import export
from heliosdb.node.policy import refused
from heliosdb.observing import observed
from heliosdb.transport.identity import Identity
from heliosdb.transport.messages import printable
from heliosdb.transport.order_messages import CarriedOrder, ReceivedOrder
from heliosdb.transport.verification import sign_statement

log = logging.getLogger(__name__)

HANDLERS: Mapping[OrderKind, Handler] = {
    OrderKind.ERASE: erase,
    OrderKind.GRANT: record_consent,
    OrderKind.REVOKE: record_consent,
    OrderKind.EXPORT: export,
}
"""What carries out an order of each kind; one of another kind answers 0A000."""


class Orders:
    """Carries out one node's orders.

    database: a connection for orders alone, which may wait for locks. is_ours: whether a hash is that of a
    certificate of this node. secret: 32 bytes, never leaving.
    """

    def __init__(
        self,
        database: Database,
        identity: Callable[[], Identity],
        is_ours: Callable[[bytes], bool],
        secret: bytes,
        handlers: Mapping[OrderKind, Handler] = HANDLERS,
    ) -> None:
        self._database = database
        self._identity = identity
        self._is_ours = is_ours
        self._subject_key = table_key(secret)
        self._mac_key = hmac.digest(secret, b"subject orders", hashlib.sha256)
        self._handlers = handlers
        # One at a time: the order of two about one subject is that of their arrival.
        self._turn = asyncio.Lock()

    async def begin(self, received: ReceivedOrder) -> asyncio.Task[CarriedOrder]:
        """Begin to carry an order out, once those before it were; whose end is what was done, signed, or
        FederatedError where it was not."""
        await self._turn.acquire()
        return asyncio.create_task(self._in_turn(received))

    def close(self) -> None:
        """Close the connection for orders."""
        self._database.close()

    async def _in_turn(self, received: ReceivedOrder) -> CarriedOrder:
        order = received.order
        try:
            faults.reach("node.order.received")
            carried = await asyncio.to_thread(self._carry, received)
            observed.order_ended(carried=True)
            return carried
        except FederatedError as error:
            observed.order_ended(carried=False)
            log.warning(
                "order refused: workspace=%s order=%s kind=%s: %s",
                printable(order.workspace),
                order.order_id,
                order.kind,
                error.message,
            )
            raise
        finally:
            self._turn.release()

    def _carry(self, received: ReceivedOrder) -> CarriedOrder:
        identity, order = self._identity(), received.order
        if not self._is_ours(received.recipient):
            raise FederatedError(ErrorCode.IDENTITY, "the order is for another node's certificate")
        handler = self._handlers.get(order.kind)
        if handler is None:
            raise not_supported(f"this node carries out no orders of kind {order.kind}")

        def operation(connection: Connection) -> StoredOrder:
            with connection.transaction():
                catalog.limit_waiting(connection)
                return self._carry_once(connection, order, handler, identity)

        stored = self._database.run(operation)
        faults.reach("node.order.committed")
        return CarriedOrder(stored.signed, stored.body)

    def _carry_once(
        self, connection: Connection, order: Order, handler: Handler, identity: Identity
    ) -> StoredOrder:
        mac = self._mac(order)
        found = catalog.find_order(connection, order)
        if found is not None:
            if not hmac.compare_digest(found.mac, mac):
                raise refused("another order was carried out under the same id")
            return _signed_by(connection, order, found, identity)
        outcome = handler(Carrying(connection, order, self._subject_key))
        stored = StoredOrder(mac, _sign(identity, _statement(order, outcome)), outcome.body)
        catalog.insert_order(connection, order, stored)
        faults.reach("node.order.done")
        log.info(
            "order carried out: order=%s kind=%s outcome=%s", order.order_id, order.kind, outcome.outcome
        )
        return stored

    def _mac(self, order: Order) -> bytes:
        """Tells whether an order is the same as one before: what it asks for, and about whom."""
        terms = canonical_json(order.terms)
        parts = (order.workspace.encode(), order.kind.value.encode(), order.subject.encode(), terms)
        framed = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        return hmac.digest(self._mac_key, order.order_id.bytes + framed, hashlib.sha256)


def _signed_by(connection: Connection, order: Order, found: StoredOrder, identity: Identity) -> StoredOrder:
    """The same statement; signed once more where the node has another certificate by now."""
    if found.signed.certificate_sha256 == bytes.fromhex(identity.fingerprint):
        return found
    signed = _sign(identity, found.signed.statement)
    catalog.sign_order_anew(connection, order, signed)
    return StoredOrder(found.mac, signed, found.body)


def _sign(identity: Identity, statement: bytes) -> SignedStatement:
    signature = sign_statement(identity, statement)
    return SignedStatement(statement, signature, bytes.fromhex(identity.fingerprint))


def _statement(order: Order, outcome: OrderOutcome) -> bytes:
    said = {
        **outcome.further,
        "order": str(order.order_id),
        "kind": order.kind.value,
        "workspace": order.workspace,
        "node": order.node,
        "outcome": outcome.outcome,
        "datasets": [one.to_json() for one in outcome.datasets],
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    if outcome.body:
        said["body_sha256"] = hashlib.sha256(outcome.body).hexdigest()
        said["body_bytes"] = len(outcome.body)
    return canonical_json(said)
