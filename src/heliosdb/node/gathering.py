"""A node that aggregates: it asks the nodes below what the coordinator has signed, and tells of the answers.

What always holds: it remembers nothing of a gathering, and asked again it asks again; what it adds up was
verified and opened by what the coordinator gave it for that, and what it only passes on it cannot open; who
has not answered in time, or not as he should, is left out, and the coordinator asks him itself. Nothing of
this node's own database is in it.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from typing import Any

from heliosdb import faults
from heliosdb.aggregation.masked_sum import MaskedAdding, MaskedGathering, MaskedSum
from heliosdb.aggregation.partial_sum import PartialGathering, PartialSum
from heliosdb.domain.errors import FederatedError, invalid_value, place_of
from heliosdb.domain.handshake import Introduction
from heliosdb.domain.ids import NodeName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.update import Update
from heliosdb.domain.usage import Usage
from heliosdb.node.policy import refused
from heliosdb.transport.client import NodeClient
from heliosdb.transport.gather_messages import (
    AnyAdding,
    Contact,
    GatheredNode,
    GatherRequest,
    PassedOn,
    SignedTask,
    SignedTerm,
    Told,
)
from heliosdb.transport.gathering import AnySum, GatheredSum, close_sum
from heliosdb.transport.identity import Identity, fingerprint
from heliosdb.transport.limits import CHUNK_BYTES
from heliosdb.transport.messages import task_from_header
from heliosdb.transport.packing import open_update
from heliosdb.transport.room import Place, Room
from heliosdb.transport.server import ServerIdentity
from heliosdb.transport.update_messages import SealedUpdate, UpdateHeader
from heliosdb.transport.verification import UpdateCollector

log = logging.getLogger(__name__)

_AT_ONCE = 64
_LARGE = 100_000
"""Values of an update that is added beside the event loop."""

SHARE = 0.5
"""How much of an aggregator's patience one below it has: its own sum has to arrive in time."""

_MOST_CONTACTS = 10_000


class Contacts:
    """A channel to each node below, kept open; made anew where one of what it says changes."""

    def __init__(self, identity: Callable[[], Identity]) -> None:
        self._identity = identity
        self._clients: dict[tuple[Contact, Identity], NodeClient] = {}

    def find(self, contact: Contact) -> NodeClient:
        """The client of a node."""
        place = contact, self._identity()
        if place not in self._clients:
            while len(self._clients) >= _MOST_CONTACTS:
                self._leave(next(iter(self._clients)))
            for former in [one for one in self._clients if one[0].endpoint == contact.endpoint]:
                self._leave(former)
            self._clients[place] = NodeClient(
                contact.endpoint, contact.pinned, self._identity(), limits=contact.limits
            )
        return self._clients[place]

    def _leave(self, place: tuple[Contact, Identity]) -> None:
        closing = asyncio.create_task(self._clients.pop(place).close())
        closing.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def close(self) -> None:
        """Close them all."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()


class Aggregator:
    """A node's place among others: it says which aggregators it lets in, and gathers what it is asked to.

    current: who the node is, which those below it let in, and whom it lets in. wanted: whether its DBA has it
    gather.
    """

    def __init__(self, current: Callable[[], ServerIdentity], *, wanted: bool) -> None:
        self._current = current
        self._wanted = wanted
        self._contacts = Contacts(lambda: current().identity)
        self._room = Room()

    def introduce(self, introduction: Introduction) -> Introduction:
        """Add what the coordinator has to know of it."""
        lets_in = tuple(map(fingerprint, self._current().aggregators))
        return replace(introduction, aggregators=lets_in, aggregates=self._wanted)

    async def close(self) -> None:
        """Leave the nodes below."""
        await self._contacts.close()

    async def gather(self, request: GatherRequest) -> AsyncGenerator[Told]:
        """Ask the nodes below, and tell what each answered, or of which the sum is that comes last.

        FederatedError NODE_REFUSED where the node's DBA has it gather nothing: it dials where it is told.
        """
        if not self._wanted:
            raise refused("this node gathers for no others", hint="Its setting aggregates says so.")
        faults.reach("node.gather.received")
        if request.adding is None:
            async with aclosing(_Passing(request, self._contacts).run()) as passed:
                async for one in passed:
                    yield one
            return
        adding = _Adding(request, request.adding, self._contacts, self._room)
        async with aclosing(adding.run()) as terms:
            async for term in terms:
                yield term
        partial = await asyncio.to_thread(adding.result)
        if partial is not None:
            faults.reach("node.sum.made")
            yield await asyncio.to_thread(
                close_sum, self._current().identity, request, partial, adding.usages
            )


class _Gathering(ABC):
    """One request under way: all below are asked at once, until all have answered or patience is over."""

    def __init__(self, request: GatherRequest, contacts: Contacts, *, waiting: int) -> None:
        """waiting: how many pieces may wait to be told; 0: any number."""
        self._request = request
        self._contacts = contacts
        self._told: asyncio.Queue[Told | None] = asyncio.Queue(waiting)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> AsyncGenerator[Told]:
        """Give what there is to tell, as it comes."""
        asking = asyncio.create_task(self._ask_all())
        try:
            while (one := await self._told.get()) is not None:
                yield one
            await asking
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    @abstractmethod
    async def _ask(self, asked: GatheredNode, task: SignedTask) -> None:
        """Ask a node that this one asks itself."""

    @abstractmethod
    async def _gather_below(self, contact: Contact, request: GatherRequest) -> None:
        """Have a node below gather its own."""

    @abstractmethod
    async def _settle(self) -> None:
        """Wait for what is not to be left half done."""

    async def _ask_all(self) -> None:
        request = self._request
        with suppress(TimeoutError):
            async with asyncio.timeout(request.patience), asyncio.TaskGroup() as group:
                for contact, below in request.below(request.patience * SHARE):
                    group.create_task(_guarded(below.key.node, self._gather_below(contact, below)))
                for asked in request.asked:
                    assert asked.task is not None
                    group.create_task(_guarded(asked.node, self._in_turn(asked, asked.task)))
        await self._settle()
        await self._told.put(None)

    async def _in_turn(self, asked: GatheredNode, task: SignedTask) -> None:
        async with self._slots:
            await self._ask(asked, task)


class _Passing(_Gathering):
    """Passes on what it cannot open, message by message: no more of it is here than is on its way."""

    def __init__(self, request: GatherRequest, contacts: Contacts) -> None:
        super().__init__(request, contacts, waiting=_AT_ONCE)
        self._turn = asyncio.Lock()

    async def _settle(self) -> None:
        """Nothing: what was passed on is whole, or not taken in."""

    async def _ask(self, asked: GatheredNode, task: SignedTask) -> None:
        client, state = self._contacts.find(asked.contact), self._request.state.raw
        async with AsyncExitStack() as turn:
            answers = await turn.enter_async_context(
                aclosing(client.forward(task, state, self._request.patience))
            )
            is_first = True
            async for raw in answers:
                # One after the other, where there is more than a message: whoever takes them in has room for
                # whole answers only.
                if is_first and len(raw) >= CHUNK_BYTES:
                    await turn.enter_async_context(self._turn)
                is_first = False
                await self._told.put(PassedOn(asked.node, raw))

    async def _gather_below(self, contact: Contact, request: GatherRequest) -> None:
        client = self._contacts.find(contact)
        gathered = client.gather(request, self._request.opening, self._request.patience)
        async with aclosing(gathered) as told:
            async for one in told:
                if isinstance(one, PassedOn):
                    await self._told.put(one)


class _Adding(_Gathering):
    """Opens updates and adds them up; tells of each as soon as it is in the sum, and of no other. What is
    masked stays so: it opens what was sealed for the way."""

    def __init__(self, request: GatherRequest, adding: AnyAdding, contacts: Contacts, room: Room) -> None:
        super().__init__(request, contacts, waiting=0)
        self._room = room
        self._gathering = _Sums(adding)
        self.usages: dict[NodeName, Usage | None] = {}
        self._turn = asyncio.Lock()
        self._entering: set[asyncio.Task[None]] = set()

    def result(self) -> AnySum | None:
        """The sum of what was told of; None where that is nothing."""
        return self._gathering.result()

    async def _ask(self, asked: GatheredNode, task: SignedTask) -> None:
        request, client, place = self._request, self._contacts.find(asked.contact), Place(self._room)
        header = task_from_header(task.header)
        if header.task.key != replace(request.key, node=asked.node):
            raise invalid_value("the task is of another exchange or node")
        collector = UpdateCollector(header.task, request.shape)
        try:
            async with aclosing(client.forward(task, request.state.raw, request.patience)) as answers:
                async for raw in answers:
                    announced = collector.take(raw)
                    if announced is not None:
                        await place.take(announced)
            collected = collector.finish()
            opened = open_update(
                header.task, header.task_sha256, collected, client.pinned, request.opening, traffic=(0, 0)
            )
            await self._enter(self._take(asked.node, opened, collected))
        finally:
            place.leave()

    async def _gather_below(self, contact: Contact, request: GatherRequest) -> None:
        client = self._contacts.find(contact)
        gathered = client.gather(request, self._request.opening, self._request.patience)
        async with aclosing(gathered) as told:
            async for one in told:
                if isinstance(one, GatheredSum):
                    await self._enter(self._join(one))

    async def _enter(self, entering: Coroutine[Any, Any, None]) -> None:
        """Have something added to the end, also where nobody waits for it any more: what is in the sum has to
        be told of."""
        task = asyncio.create_task(entering)
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)
        await asyncio.shield(task)

    async def _settle(self) -> None:
        if self._entering:
            await asyncio.wait(self._entering)

    async def _take(
        self, node: NodeName, opened: OpenedUpdate, collected: tuple[UpdateHeader, SealedUpdate]
    ) -> None:
        update = Update(node, opened.vector, opened.weight)
        async with self._turn:
            if update.vector.size < _LARGE:
                self._gathering.take(update)
            else:
                await asyncio.to_thread(self._gathering.take, update)
        header, sealed = collected
        self.usages[node] = opened.usage
        self._told.put_nowait(SignedTerm(node, header, sealed.header, sealed.signature))
        faults.reach("node.term.added")

    async def _join(self, gathered: GatheredSum) -> None:
        async with self._turn:
            await asyncio.to_thread(self._gathering.join, gathered.partial)
        self.usages |= gathered.usages
        for term in gathered.signed.values():
            self._told.put_nowait(term)


class _Sums:
    """A sum in the making, of updates or of masked vectors."""

    def __init__(self, adding: AnyAdding) -> None:
        self._made: MaskedGathering | PartialGathering
        if isinstance(adding, MaskedAdding):
            self._made = MaskedGathering(adding)
        else:
            self._made = PartialGathering(adding)

    def take(self, update: Update) -> None:
        """Add an update; FederatedError UPDATE_REJECTED for one that may not be added."""
        self._made.take(update)

    def join(self, one: AnySum) -> None:
        """Add what was added up below, which is of the kind that was asked for."""
        match self._made, one:
            case MaskedGathering() as made, MaskedSum():
                made.join(one)
            case PartialGathering() as made, PartialSum():
                made.join(one)

    def result(self) -> AnySum | None:
        """What is gathered so far; None where that is nothing."""
        return self._made.result()


async def _guarded(node: NodeName, asking: Coroutine[Any, Any, None]) -> None:
    """Whoever cannot be asked here costs the others nothing: the coordinator asks him itself."""
    try:
        await asking
    except FederatedError as error:
        log.info("not gathered: node=%s %s", node, error.message)
    except Exception as error:  # noqa: BLE001 -- whatever one node's bytes cause must not end the others' sum
        log.error("not gathered: node=%s %s", node, place_of(error))
