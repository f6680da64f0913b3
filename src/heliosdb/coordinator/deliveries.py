"""Brings nodes what they subscribe to: what is pending by their own word is offered, their answer recorded.

What always holds: a node is offered one thing at a time, and none waits for another's answer; what is sent
was offered when the catalog was last looked at; a version is in memory once, however many nodes it goes to,
and versions beyond `HELD` are read when others have left (or have been held for as long as they take over a
slow line: transport/room.py); nothing is remembered but when a failed delivery is tried again, so that a
coordinator that is started anew goes on from what the nodes say.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from heliosdb import faults
from heliosdb.catalog.deliveries import PendingDelivery, measure_offered_version, read_offered_version
from heliosdb.coordinator.config import CoordinatorConfig
from heliosdb.coordinator.directory import Directory, Member
from heliosdb.coordinator.dispatcher import CATALOG_GONE
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.errors import ErrorCode, FederatedError, place_of
from heliosdb.domain.ids import SubscriptionName, VersionKey
from heliosdb.domain.subscription import Content, Offer, Outcome, Subscription
from heliosdb.observing import observed
from heliosdb.transport.messages import reason_of
from heliosdb.transport.room import SLOWEST, Place, Room

log = logging.getLogger(__name__)

HELD = 64 * 1024 * 1024
"""Bytes of versions on their way."""

_FIRST_RETRY = 1.0
_RETRIES_FOR_ONE_RECONNECTION = 3.0
_PATIENCE = 300.0
"""Seconds for a node to look at a version and store it, beside those that its bytes take over a slow line."""


class Attempts:
    """When what failed is tried again: after a second, twice as long each time, at most `longest` seconds."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._failed: dict[tuple[int, SubscriptionName], tuple[Offer, int, float]] = {}

    def is_due(self, delivery: PendingDelivery, now: float) -> bool:
        """Whether it may be tried; another offer than the one that failed may at once."""
        failed = self._failed.get(_key(delivery))
        return failed is None or failed[0] != delivery.offer or now >= failed[2]

    def fail(self, delivery: PendingDelivery, now: float) -> None:
        """Note that it has failed."""
        former = self._failed.get(_key(delivery))
        count = former[1] + 1 if former is not None and former[0] == delivery.offer else 0
        pause = min(_FIRST_RETRY * 2.0 ** min(count, 30), self._longest)
        self._failed[_key(delivery)] = (delivery.offer, count, now + pause)

    def succeed(self, delivery: PendingDelivery) -> None:
        """Note that it has not."""
        self._failed.pop(_key(delivery), None)

    def keep(self, pending: Iterable[PendingDelivery]) -> None:
        """Forget what is not pending any more."""
        keys = {_key(one) for one in pending}
        self._failed = {key: value for key, value in self._failed.items() if key in keys}


@dataclass(slots=True)
class _Loaded:
    content: asyncio.Task[Content | None]
    place: Place
    users: int = field(default=0)


class Shelf:
    """Versions while they are on their way.

    measure: how many bytes a version has; load: reads it from the catalog, None where it is gone.
    """

    def __init__(
        self,
        measure: Callable[[VersionKey], Awaitable[int]],
        load: Callable[[VersionKey], Awaitable[Content | None]],
        room: Room,
    ) -> None:
        self._measure = measure
        self._load = load
        self._room = room
        self._loaded: dict[VersionKey, _Loaded] = {}

    @asynccontextmanager
    async def borrow(self, key: VersionKey) -> AsyncIterator[Content | None]:
        """A version, for the length of a block."""
        one = self._loaded.get(key)
        if one is None:
            place = Place(self._room)
            task = asyncio.create_task(self._bring(key, place), name=f"version {key}")
            one = self._loaded[key] = _Loaded(task, place)
        one.users += 1
        try:
            yield await asyncio.shield(one.content)
        finally:
            one.users -= 1
            if not one.users:
                del self._loaded[key]
                one.content.cancel()
                one.place.leave()

    async def _bring(self, key: VersionKey, place: Place) -> Content | None:
        await place.take(await self._measure(key))
        return await self._load(key)


class Deliveries:
    """Holds the deliveries of a term."""

    def __init__(self, config: CoordinatorConfig, directory: Directory) -> None:
        self._conninfo = config.database.get_secret_value()
        self._directory = directory
        self._shelf = Shelf(self._measure, self._load, Room(HELD))
        self._attempts = Attempts(config.reconnect_interval * _RETRIES_FOR_ONE_RECONNECTION)
        self._slots = asyncio.Semaphore(config.concurrent_tasks)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ended: dict[int, float] = {}
        self._pending: frozenset[PendingDelivery] = frozenset()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Wait; raises FENCED where a delivery found that the term is over."""
        try:
            await self._failure
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave every delivery where it is."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def refresh(self, pending: Sequence[PendingDelivery], as_of: float) -> None:
        """Take in what is pending; as_of: the loop's time just before it was read."""
        now = asyncio.get_running_loop().time()
        self._attempts.keep(pending)
        self._pending = frozenset(pending)
        due: defaultdict[int, list[PendingDelivery]] = defaultdict(list)
        for one in pending:
            # What was read before the node's last answer was recorded may be settled by it.
            free = one.node_id not in self._tasks and as_of >= self._ended.get(one.node_id, 0.0)
            if free and self._attempts.is_due(one, now):
                due[one.node_id].append(one)
        for node_id, deliveries in due.items():
            member = self._directory.find_by_id(node_id)
            if member is not None:
                self._begin(member, deliveries)

    def _begin(self, member: Member, deliveries: Sequence[PendingDelivery]) -> None:
        task = asyncio.create_task(self._serve(member, deliveries), name=f"deliveries to {member.name}")
        self._tasks[member.record.id] = task
        task.add_done_callback(partial(self._end, member.record.id))

    def _end(self, node_id: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(node_id, None)
        self._ended[node_id] = asyncio.get_running_loop().time()
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _serve(self, member: Member, deliveries: Sequence[PendingDelivery]) -> None:
        """Bring one node what it is due, one thing after the other."""
        for delivery in deliveries:
            try:
                # Revoked, rolled back or taken meanwhile: the node may have kept others waiting for long.
                if delivery in self._pending:
                    await self._attempt(member, delivery)
            except CATALOG_GONE as error:
                log.warning("delivery interrupted: node=%s %s", member.name, type(error).__name__)
                return

    async def _attempt(self, member: Member, delivery: PendingDelivery) -> None:
        offer = delivery.offer
        try:
            said = await self._deliver(member, delivery)
        except FederatedError as error:
            await self._note_failure(member, delivery, reason_of(error))
            return
        except CATALOG_GONE:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever one version causes must not end the term
            log.error("a delivery failed inside the coordinator: %s", place_of(error))
            await self._note_failure(member, delivery, "it failed inside the coordinator; its log says more")
            return
        faults.reach("coordinator.delivery.answered")
        await self._directory.hear_of(member, said)
        if not is_settled(delivery, said):
            await self._note_failure(member, delivery, "the node has heard the offer and does not follow it")
            return
        self._attempts.succeed(delivery)
        observed.delivery_ended(offer.workspace, taken=True)
        log.info(
            "delivered: node=%s subscription=%s outcome=%s version=%s held=%s",
            member.name,
            offer.subscription,
            offer.outcome,
            offer.version,
            said.held_version,
        )

    async def _note_failure(self, member: Member, delivery: PendingDelivery, reason: str) -> None:
        name = delivery.offer.subscription
        log.warning("delivery failed: node=%s subscription=%s reason=%s", member.name, name, reason)
        self._attempts.fail(delivery, asyncio.get_running_loop().time())
        observed.delivery_ended(delivery.offer.workspace, taken=False)
        await self._directory.hear_failure(member, name, reason)

    async def _deliver(self, member: Member, delivery: PendingDelivery) -> Subscription:
        if not delivery.carries or delivery.offer.key is None:
            return await self._send(member, delivery, None)
        async with self._shelf.borrow(delivery.offer.key) as content:
            if content is None:
                raise FederatedError(ErrorCode.WRONG_STATE, "the version is no longer there")
            return await self._send(member, delivery, content)

    async def _send(self, member: Member, delivery: PendingDelivery, content: Content | None) -> Subscription:
        size = 0 if content is None else content.size
        async with self._slots:
            if delivery not in self._pending:
                raise FederatedError(ErrorCode.WRONG_STATE, "this is no longer offered")
            return await member.client.deliver(
                delivery.offer,
                content,
                _PATIENCE + size / SLOWEST,
                sent=partial(faults.reach, "coordinator.delivery.sent"),
            )

    async def _measure(self, key: VersionKey) -> int:
        async with CatalogSession(self._conninfo, "deliveries") as session:
            return await session.call(measure_offered_version, key)

    async def _load(self, key: VersionKey) -> Content | None:
        async with CatalogSession(self._conninfo, "deliveries") as session:
            return await session.call(read_offered_version, key)


def is_settled(delivery: PendingDelivery, said: Subscription) -> bool:
    """Whether a node's word after a delivery is that it has heard it and, of a version, has it or never
    will; of one that was retired, that it does not have it."""
    offer = delivery.offer
    if offer.outcome is Outcome.RETIRED:
        return offer.key not in (said.held_key, *said.kept_keys)
    if (said.heard_outcome, said.heard_key) != (offer.outcome, offer.key):
        return False
    return not (delivery.carries and said.takes) or offer.key in (said.held_key, said.refused_key)


def _key(delivery: PendingDelivery) -> tuple[int, SubscriptionName]:
    return delivery.node_id, delivery.offer.subscription
