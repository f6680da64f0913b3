"""A node's subscriptions: what the coordinator delivers is checked, rebuilt, and given to the database.

What always holds: a delivery is for this node's own certificate and for a subscription that its database has;
its numbers were read and put in place, as for scoring, before the database sees them; what is heard and what
is taken is one transaction, so that there is the former version or the new one, and its functions whole. No
row is read.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from heliosdb import faults
from heliosdb.catalog import deliveries as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.failures import condition
from heliosdb.catalog.personal import find_personal
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.state import state_to_bytes
from heliosdb.domain.subscription import Content, Offer, Outcome, Subscription
from heliosdb.node.database import Database
from heliosdb.node.memory import MemoryKey
from heliosdb.observing import observed
from heliosdb.scoring import soundness
from heliosdb.scoring.session import find_fault
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery
from heliosdb.transport.encoding_messages import encoding_from_proto, encoding_to_proto
from heliosdb.transport.messages import printable

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_MOST_WORKSPACES = 1000

_MOST_PARTS = 4_000_000
"""Lists and objects of a prediction, each of which takes twenty times as much in memory as what it is
written with; brackets in the names of levels count too."""


class Subscriptions:
    """What a node says of its subscriptions, and what it does with deliveries.

    database: the node's own. taking: another connection to it, for deliveries alone, which may be large:
    nothing else waits for them. is_ours: whether a hash is that of a certificate of this node. key: opens the
    node's own parts of models.
    """

    def __init__(
        self, database: Database, taking: Database, is_ours: Callable[[bytes], bool], key: MemoryKey
    ) -> None:
        self._database = database
        self._taking = taking
        self._is_ours = is_ours
        self._key = key
        self._called: dict[WorkspaceName, NodeName] = {}
        self._known: dict[WorkspaceName, tuple[Subscription, ...]] = {}
        # One at a time: a body is held whole while it is looked at.
        self._turn = asyncio.Lock()

    def greeted(self, workspace: WorkspaceName, node: NodeName) -> None:
        """Note what the coordinator calls this node."""
        _keep(self._called, workspace, node)

    def check_called(self, workspace: WorkspaceName, node: NodeName, what: str) -> None:
        """FederatedError IDENTITY where a workspace's coordinator calls this node by another name than `what`
        is for; before it has greeted the node any is good."""
        if self._called.get(workspace, node) != node:
            raise FederatedError(ErrorCode.IDENTITY, f"{what} is for another node")

    async def read(self, workspace: WorkspaceName) -> tuple[Subscription, ...]:
        """Say to which of a workspace's models this node subscribes."""
        found = await asyncio.to_thread(
            self._database.run, lambda connection: catalog.list_subscriptions(connection, workspace)
        )
        _keep(self._known, workspace, found)
        return found

    async def read_for_heartbeat(self, workspace: WorkspaceName) -> tuple[Subscription, ...]:
        """The same, without waiting for what the database does for others: then what was so a moment ago."""
        if self._database.is_busy and workspace in self._known:
            return self._known[workspace]
        return await self.read(workspace)

    async def expect(self, header: DeliveryHeader) -> None:
        """FederatedError IDENTITY for what is another node's, UNDEFINED_OBJECT for another subscription."""
        offer = header.offer
        try:
            self._demand_ours(header)
            _find(await self.read(offer.workspace), offer)
        except FederatedError as error:
            named = [printable(name) for name in (offer.workspace, offer.subscription)]
            log.warning(
                "delivery refused: workspace=%s subscription=%s: %s", *named, printable(error.message)
            )
            raise

    def _demand_ours(self, header: DeliveryHeader) -> None:
        if not self._is_ours(header.recipient):
            raise FederatedError(ErrorCode.IDENTITY, "the delivery is for another node's certificate")
        self.check_called(header.offer.workspace, header.offer.node, "the delivery")

    async def begin(self, received: ReceivedDelivery) -> asyncio.Task[Subscription]:
        """Begin to take it, once those before it were taken; whose end is the node's word after it, or
        FederatedError where it may be taken another time.

        Who is cancelled while it waits leaves nothing behind: somebody may have the database wait for long,
        and each time that it is tried again a body comes along.
        """
        await self._turn.acquire()
        return asyncio.create_task(self._in_turn(received))

    async def _in_turn(self, received: ReceivedDelivery) -> Subscription:
        try:
            faults.reach("node.delivery.received")
            said = await asyncio.to_thread(self._deliver, received)
            observed.delivery_taken(taken=True)
            return said
        except BaseException:
            observed.delivery_taken(taken=False)
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the connection for deliveries."""
        self._taking.close()

    def _deliver(self, received: ReceivedDelivery) -> Subscription:
        failure = None if received.content is None else find_failure(received.content)

        def operation(connection: Connection) -> Subscription:
            try:
                with connection.transaction():
                    catalog.limit_waiting(connection)
                    found = _record(connection, received, failure, self._key)
            except psycopg.errors.ObjectNotInPrerequisiteState:
                raise changed(received.offer) from None
            faults.reach("node.delivery.committed")
            return found

        return self._taking.run(operation)


def _keep(kept: dict[WorkspaceName, _T], workspace: WorkspaceName, value: _T) -> None:
    """Keep what is known of the workspaces that were named last: the coordinator may name any number."""
    kept.pop(workspace, None)
    kept[workspace] = value
    if len(kept) > _MOST_WORKSPACES:
        del kept[next(iter(kept))]


def _record(
    connection: Connection, received: ReceivedDelivery, failure: str | None, key: MemoryKey
) -> Subscription:
    """Hear the offer and take what it offers, inside a transaction; the word that is true once it commits."""
    offer, content = received.offer, received.content
    if offer.outcome is Outcome.RETIRED:
        if catalog.withdraw_version(connection, offer):
            faults.reach("node.delivery.withdrawn")
            log.info(
                "subscription %s: version %s of %s is withdrawn: it was retired",
                offer.subscription,
                offer.version,
                offer.model,
            )
    elif catalog.hear_offer(connection, offer) and content is not None:
        if failure is not None:
            catalog.refuse_version(connection, offer, failure)
        else:
            failure = _take(connection, received, content, key)
        if failure is None:
            faults.reach("node.delivery.defined")
            log.info("subscription %s: version %s of %s", offer.subscription, offer.version, offer.model)
        else:
            log.warning(
                "subscription %s: version %s is not taken: %s", offer.subscription, offer.version, failure
            )
    return _find(catalog.list_subscriptions(connection, offer.workspace), offer)


def _take(connection: Connection, received: ReceivedDelivery, content: Content, key: MemoryKey) -> str | None:
    """Have the database take a version, with the node's own part of it where there is one; why it cannot,
    where that is so for good."""
    offer = received.offer
    content, personal_run = _make_own(connection, offer, content, key)
    try:
        with connection.transaction():
            return catalog.take_version(connection, offer, content, _proof(received), personal_run)
    except psycopg.DataError as error:
        failure = f"this database cannot store it ({condition(error.sqlstate)})"
    catalog.refuse_version(connection, offer, failure)
    return failure


def _make_own(
    connection: Connection, offer: Offer, content: Content, key: MemoryKey
) -> tuple[Content, UUID | None]:
    """Put the node's own numbers in the place of a version's, and say of which run; as delivered and None
    where the node has none, cannot read its own, or has one that does not fit what was delivered."""
    stored = find_personal(connection, offer)
    if stored is None:
        return content, None
    try:
        part = key.open_personal(stored, offer.node, offer.workspace)
        prediction = part.replace_numbers(json.loads(content.prediction))
    except FederatedError as error:
        log.error(
            "subscription %s: version %s without its own part: %s", offer.subscription, offer.version, error
        )
        return content, None
    arrays = state_to_bytes(part.prediction.arrays) if part.prediction.arrays else b""
    own = replace(content, prediction=json.dumps(prediction).encode(), arrays=arrays)
    # What was delivered is sound, and of other inputs, it may be: its coordinator knows the run's name.
    if (failure := find_failure(own)) is not None:
        log.error(
            "subscription %s: version %s without its own part: %s", offer.subscription, offer.version, failure
        )
        return content, None
    return own, stored.run


def _proof(received: ReceivedDelivery) -> catalog.Proof:
    header = received.header
    return catalog.Proof(header.body_sha256, header.raw, received.signature, received.certificate_sha256)


def _find(subscriptions: Sequence[Subscription], offer: Offer) -> Subscription:
    """The subscription that an offer is for; FederatedError where there is none, or it is another by now."""
    found = next((one for one in subscriptions if one.name == offer.subscription), None)
    if found is None:
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            f'this node has no subscription "{offer.subscription}" in workspace "{offer.workspace}"',
        )
    if found.model != offer.model:
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT, f'subscription "{offer.subscription}" is not to model "{offer.model}"'
        )
    if found.wanted != offer.wanted:
        raise changed(offer)
    return found


def changed(offer: Offer) -> FederatedError:
    """The error for an offer that answers what is not asked any more."""
    return FederatedError(
        ErrorCode.WRONG_STATE, f'subscription "{offer.subscription}" has been altered meanwhile'
    )


def find_failure(content: Content) -> str | None:
    """Why what was delivered predicts nothing; None where its numbers are sound."""
    found: list[str | None] = []

    def check() -> None:
        if content.prediction.count(b"[") + content.prediction.count(b"{") > _MOST_PARTS:
            raise invalid_value("its prediction has too many parts")
        text = content.prediction.decode()
        prediction = json.loads(text, parse_constant=_no_number)
        if not isinstance(prediction, dict):
            raise invalid_value("its prediction is not an object")
        encoding = _encoding(prediction, content.features).to_json()
        found.append(find_fault(text, content.arrays or None, json.dumps(encoding)))
        flags = prediction.get("booleans")
        if not isinstance(flags, list) or len(flags) != len(content.features):
            found.append("it has no flag for each feature")

    return soundness.find_fault(check) or next(filter(None, found), None)


def _no_number(text: str) -> float:
    raise invalid_value(f"a number of its prediction is {text}")


def _encoding(prediction: dict[str, Any], features: Sequence[str]) -> Encoding:
    """How its columns become inputs; those of one that has no encoding are numbers, or booleans."""
    if (stored := prediction.get("encoding")) is not None:
        if not isinstance(stored, dict) or set(stored) != {"columns", "classes"}:
            raise invalid_value("its encoding is none")
        # The same limits hold as for the encoding of a task.
        return encoding_from_proto(encoding_to_proto(Encoding.from_json(stored)), features)
    return Encoding(tuple(map(ColumnEncoding, features)))
