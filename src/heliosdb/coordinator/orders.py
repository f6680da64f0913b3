"""Carries subject orders to the nodes: takes what statements asked for, asks every node, records its word.

What always holds: an identifier is opened when a node is asked and kept nowhere; a node is asked one thing at
a time, again and again, until it has answered, has refused for good, or the order is over; what it signed is
recorded once. Nothing is remembered but when a failed question is asked again, so that a coordinator that is
started anew goes on from the catalog.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import psycopg

from heliosdb import faults
from heliosdb.catalog import orders as catalog
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.lease import fenced
from heliosdb.catalog.orders import OpenOrder, OrderWork, PendingAnswer
from heliosdb.coordinator.breaches import Breach, breach_of, raise_breach
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.directory import Directory, Member
from heliosdb.coordinator.dispatcher import CATALOG_GONE
from heliosdb.coordinator.exports import keep_export
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.ids import Epoch, OrderId, WorkspaceName
from heliosdb.domain.orders import MAX_SUBJECT_BYTES, Order, OrderKind
from heliosdb.domain.sealed_box import UnopenedBoxError
from heliosdb.domain.sealed_subject import unwrap
from heliosdb.transport.messages import NodeRefusedError, reason_of
from heliosdb.transport.order_messages import CarriedOrder
from heliosdb.transport.sealing import AtRestKey, SealingKey

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_PATIENCE = 120.0
"""Seconds for a node to carry an order out."""
_FIRST_RETRY = 1.0
_AT_ONCE = 8
"""Nodes that are asked at the same time, each over a session of its own."""

_UNOPENED = "what was sealed of it does not open with this coordinator's key"

FINAL = frozenset({ErrorCode.NODE_REFUSED, ErrorCode.NOT_SUPPORTED, ErrorCode.INVALID_VALUE})
"""A node's codes after which it is not asked again."""

Keeper = Callable[[Connection, PendingAnswer, CarriedOrder], None]
"""Stores what followed a statement, in the transaction that records the statement."""

KEEPERS: Mapping[OrderKind, Keeper] = {OrderKind.EXPORT: keep_export}
"""Of kinds whose answers have something behind their statement."""


class _UnreadableSubjectError(UnopenedBoxError):
    """The order opens, and the subject that its statement named sealed does not: it never will."""


class Orders:
    """Holds the orders of a term."""

    def __init__(
        self,
        config: CoordinatorConfig,
        directory: Directory,
        epoch: Epoch,
        sealing: SealingKey,
        at_rest: AtRestKey,
    ) -> None:
        self._conninfo = config.database.get_secret_value()
        self._longest_pause = config.reconnect_interval
        self._directory = directory
        self._epoch = epoch
        self._sealing = sealing
        self._at_rest = at_rest
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._keeping: asyncio.Task[None] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ended: dict[int, float] = {}
        self._failed: dict[PendingAnswer, tuple[int, float]] = {}
        # Sealed to another key: this term's never opens them, however often that is tried.
        self._untaken: set[OrderId] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def untaken(self) -> frozenset[OrderId]:
        """Orders that this term has found not to open: they wait for another key, or for their deadline."""
        return frozenset(self._untaken)

    async def run(self) -> None:
        """Publish the key and wait; raises FENCED where a write found that the term is over."""
        try:
            async with CatalogSession(self._conninfo, "orders") as session:
                await session.call(_write, self._epoch, catalog.publish_sealing_key, self._sealing.public)
            await self._failure
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave every order where it is."""
        tasks = [*self._tasks.values(), *([] if self._keeping is None else [self._keeping])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def refresh(self, work: OrderWork, as_of: float) -> None:
        """Take in what there is to do; as_of: the loop's time just before it was read."""
        # The catalog may have been read before one of them was found.
        work = replace(work, requested=tuple(one for one in work.requested if one not in self._untaken))
        if (work.requested or work.settles) and self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(work), name="orders")
            self._keeping.add_done_callback(self._kept)
        now = asyncio.get_running_loop().time()
        pending = set(work.pending)
        self._failed = {one: when for one, when in self._failed.items() if one in pending}
        due: defaultdict[int, list[PendingAnswer]] = defaultdict(list)
        for one in work.pending:
            free = one.node_id not in self._tasks and as_of >= self._ended.get(one.node_id, 0.0)
            if free and now >= self._failed.get(one, (0, 0.0))[1]:
                due[one.node_id].append(one)
        for node_id, questions in due.items():
            member = self._directory.find_by_id(node_id)
            if member is not None:
                self._begin(member, questions)

    def _begin(self, member: Member, questions: Sequence[PendingAnswer]) -> None:
        task = asyncio.create_task(self._serve(member, questions), name=f"orders to {member.name}")
        self._tasks[member.record.id] = task
        task.add_done_callback(partial(self._served, member.record.id))

    def _served(self, node_id: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(node_id, None)
        self._ended[node_id] = asyncio.get_running_loop().time()
        self._note_end(task)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keeping = None
        self._note_end(task)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _keep(self, work: OrderWork) -> None:
        """Take the orders that were placed, and settle those that are over."""
        try:
            async with CatalogSession(self._conninfo, "orders") as session:
                for order_id in work.requested:
                    await self._take(session, order_id)
                for order_id, state in await session.call(_write, self._epoch, catalog.settle_orders):
                    log.info("order ended: order=%s state=%s", order_id, state)
        except CATALOG_GONE as error:
            log.warning("orders interrupted: %s", type(error).__name__)

    async def _take(self, session: CatalogSession, order_id: OrderId) -> None:
        found = await session.call(catalog.read_open_order, order_id)
        if found is None:
            return
        try:
            subject = self._open(found)
        except _UnreadableSubjectError:
            reason = "the sealed data subject was not sealed to this coordinator for such a statement"
            log.warning("order dropped: order=%s: %s", order_id, reason)
            await session.call(_write, self._epoch, catalog.drop_order, order_id, reason)
            return
        except UnopenedBoxError:
            log.warning("order not taken: order=%s: %s", order_id, _UNOPENED)
            self._untaken.add(order_id)
            await session.call(_write, self._epoch, catalog.note_untaken, order_id, _UNOPENED)
            return
        key = self._at_rest.derive_key(b"subject pseudonym\0" + found.workspace.encode())
        pseudonym = hmac.digest(key, subject.encode(), hashlib.sha256)
        if await session.call(_write, self._epoch, catalog.take_order, order_id, pseudonym):
            log.info("order taken: order=%s kind=%s workspace=%s", order_id, found.kind, found.workspace)
        faults.reach("coordinator.order.taken")

    def _open(self, order: OpenOrder) -> str:
        about = catalog.bound_to(order.order_id, order.kind, order.workspace)
        named = self._sealing.open_box(order.sealed, about=about)
        try:
            identifier = unwrap(
                named, order.kind, lambda raw, about: self._sealing.open_box(raw, about=about)
            )
            subject = identifier.decode()
        except (UnopenedBoxError, UnicodeDecodeError):
            raise _UnreadableSubjectError from None
        if not 0 < len(identifier) <= MAX_SUBJECT_BYTES or "\0" in subject:
            raise _UnreadableSubjectError
        return subject

    async def _serve(self, member: Member, questions: Sequence[PendingAnswer]) -> None:
        """Ask one node what it has not answered, one thing after the other."""
        try:
            async with self._slots, CatalogSession(self._conninfo, "orders") as session:
                for one in questions:
                    await self._ask(session, member, one)
        except CATALOG_GONE as error:
            log.warning("orders interrupted: node=%s %s", member.name, type(error).__name__)

    async def _ask(self, session: CatalogSession, member: Member, pending: PendingAnswer) -> None:
        found = await session.call(catalog.read_open_order, pending.order_id)
        # Over, answered or of a node that was unregistered, while others were asked.
        if found is None or not await session.call(catalog.is_pending, pending):
            return
        try:
            carried = await self._carry(member, found)
            faults.reach("coordinator.order.answered")
            recorded = await session.call(_write, self._epoch, _record, pending, found.kind, carried)
        except CATALOG_GONE:
            raise
        except Exception as error:  # whatever one answer causes must not end the term
            if isinstance(error, FederatedError) and error.code is ErrorCode.FENCED:
                raise
            await self._note_failure(session, member, pending, found.workspace, error)
            return
        faults.reach("coordinator.order.recorded")
        self._failed.pop(pending, None)
        if recorded:
            outcome = carried.signed.read()["outcome"]
            log.info("order answered: order=%s node=%s outcome=%s", pending.order_id, member.name, outcome)

    async def _carry(self, member: Member, found: OpenOrder) -> CarriedOrder:
        order = Order(
            found.order_id,
            found.kind,
            found.workspace,
            member.name,
            self._open(found),
            found.terms,
            found.deadline,
        )
        sent = partial(faults.reach, "coordinator.order.sent")
        return await member.client.carry(order, _PATIENCE, sent=sent)

    async def _note_failure(
        self,
        session: CatalogSession,
        member: Member,
        pending: PendingAnswer,
        workspace: WorkspaceName,
        error: Exception,
    ) -> None:
        reason = _reason(error)
        final = isinstance(error, NodeRefusedError) and error.reason in FINAL
        log.warning(
            "order not answered: order=%s node=%s final=%s: %s", pending.order_id, member.name, final, reason
        )
        count = self._failed.get(pending, (0, 0.0))[0]
        pause = min(_FIRST_RETRY * 2.0 ** min(count, 30), self._longest_pause)
        self._failed[pending] = (count + 1, asyncio.get_running_loop().time() + pause)
        breach = _breach_of(error)

        def note(connection: Connection, words: str) -> None:
            (catalog.record_refusal if final else catalog.note_failure)(connection, pending, words)
            if breach is not None:
                raise_breach(connection, self._epoch, workspace, breach, words, node=member.name)

        try:
            await session.call(_write, self._epoch, note, reason)
        except (UnicodeEncodeError, psycopg.DataError):
            # A node's own words, with characters that the catalog's encoding has not.
            plain = reason.encode("ascii", "replace").decode()
            await session.call(_write, self._epoch, note, plain)


def _reason(error: Exception) -> str:
    """Why an order was not answered, as the catalog keeps it."""
    if isinstance(error, FederatedError):
        return reason_of(error)
    if isinstance(error, UnopenedBoxError):
        return _UNOPENED
    log.error("an order failed inside the coordinator: %s", place_of(error))
    return "it failed inside the coordinator; its log says more"


def _breach_of(error: Exception) -> Breach | None:
    """Which breach a failed question is. What a node says in words of its own is none: they may be about the
    subject, and a breach is told to others. That a node refuses the coordinator, its greeting tells."""
    if not isinstance(error, FederatedError) or isinstance(error, NodeRefusedError):
        return None
    return breach_of(error)


def _record(connection: Connection, pending: PendingAnswer, kind: OrderKind, carried: CarriedOrder) -> bool:
    """Record what a node answered, and keep what came with it."""
    if not catalog.record_answer(connection, pending, carried.signed):
        return False
    if carried.body:
        KEEPERS[kind](connection, pending, carried)
    return True


def _write(
    connection: Connection,
    epoch: Epoch,
    change: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Make a change that only the holder of the epoch can commit."""
    with fenced(connection, epoch):
        return change(connection, *args, **kwargs)
