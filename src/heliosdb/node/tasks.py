"""What a node does of all that it is asked: tasks, deliveries, subject orders, heads of audit logs.

What always holds: one task is computed once however often it is asked for at the same time; an asker that
goes away does not stop what was begun half way; whoever hears of a refusal finds it in the node's catalog.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

from heliosdb import faults
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits
from heliosdb.domain.subscription import Subscription
from heliosdb.domain.task import TaskKey
from heliosdb.domain.tree_head import WitnessAnswer, WitnessRequest
from heliosdb.node.consenting import Consents
from heliosdb.node.database import Database
from heliosdb.node.door import Door
from heliosdb.node.gathering import Aggregator
from heliosdb.node.orders import Orders
from heliosdb.node.refusals import record_refusal
from heliosdb.node.site import Site
from heliosdb.node.subscriptions import Subscriptions
from heliosdb.node.task_answers import About, Rules, TaskAnswers, to_the_end
from heliosdb.node.trainer import Trainer
from heliosdb.node.watch import TaskWatch, tells_times
from heliosdb.node.witnessing import Witness
from heliosdb.parts.extras import installed_extras
from heliosdb.transport.delivery_messages import DeliveryHeader, ReceivedDelivery
from heliosdb.transport.gather_messages import GatherRequest, Told
from heliosdb.transport.messages import ReceivedTask
from heliosdb.transport.order_messages import CarriedOrder, ReceivedOrder
from heliosdb.transport.possession import statement
from heliosdb.transport.update_messages import SealedUpdate

log = logging.getLogger(__name__)


class NodeTasks:
    """One node's `Performer`.

    rules: the site's word about answers. site: says whether tasks may be answered. subscriptions: what
    becomes of deliveries. orders: of subject orders. consents: the register of consent. witness: of heads of
    audit logs. data_residency, limits: the site's settings. certificate_sha256: of the certificate that the
    node signs with now; prove: signs with its key. aggregator: gathers what other nodes answer.
    """

    def __init__(
        self,
        database: Database,
        door: Door,
        trainer: Trainer,
        rules: Rules,
        *,
        site: Site,
        subscriptions: Subscriptions,
        orders: Orders,
        consents: Consents,
        witness: Witness,
        data_residency: str | None = None,
        certificate_sha256: Callable[[], bytes] = lambda: b"",
        prove: Callable[[bytes], bytes] = lambda _: b"",
        aggregator: Aggregator,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self._database = database
        self._answers = TaskAnswers(
            database,
            door,
            trainer,
            rules,
            consents=consents,
            subscriptions=subscriptions,
        )
        self._site = site
        self._subscriptions = subscriptions
        self._orders = orders
        self._witness = witness
        self._data_residency = data_residency
        self._certificate_sha256 = certificate_sha256
        self._prove = prove
        self._limits = limits
        self._aggregator = aggregator
        self._under_way: dict[tuple[TaskKey, bytes], asyncio.Task[SealedUpdate]] = {}
        self._shown: set[tuple[TaskKey, bytes]] = set()
        self._taken: set[asyncio.Task[Subscription] | asyncio.Task[CarriedOrder]] = set()

    async def introduce(self, greeting: Greeting) -> Introduction:
        """Say what is shared with the coordinator's workspace."""
        self._site.demand()
        described = await self._answers.describe(greeting.workspace)
        subscriptions = await self._subscriptions.read(greeting.workspace)
        await self._site.demand_ready()
        self._subscriptions.greeted(greeting.workspace, greeting.node)
        place, sha256 = self._data_residency, self._certificate_sha256()
        said = Introduction(
            tuple(described), installed_extras(), subscriptions, place, sha256, limits=self._limits
        )
        if greeting.challenge:
            said = replace(said, proof=self._prove(statement(greeting, sha256)))
        return self._aggregator.introduce(said)

    async def alive(self) -> None:
        """FederatedError UNREACHABLE where the node's database does not answer, or is not fit for tasks."""
        self._site.demand()
        try:
            await asyncio.to_thread(self._database.check)
        except FederatedError:
            self._site.doubt()
            raise
        await self._site.demand_ready()

    async def subscribed(self, workspace: WorkspaceName) -> Sequence[Subscription]:
        """Say to which of a workspace's models this node subscribes."""
        return await self._subscriptions.read_for_heartbeat(workspace)

    async def expect(self, header: DeliveryHeader) -> None:
        """FederatedError where a delivery is not for this node, or for no subscription of it."""
        self._site.demand()
        await self._subscriptions.expect(header)

    async def deliver(self, received: ReceivedDelivery) -> Subscription:
        """Take a delivery; one that is being written is not stopped half way."""
        work = await self._subscriptions.begin(received)
        self._taken.add(work)
        work.add_done_callback(self._taken.discard)
        return await to_the_end(work)

    async def carry(self, received: ReceivedOrder) -> CarriedOrder:
        """Carry out a subject order; one that is under way is not stopped half way."""
        self._site.demand()
        work = await self._orders.begin(received)
        self._taken.add(work)
        work.add_done_callback(self._taken.discard)
        return await to_the_end(work)

    async def witness(self, request: WitnessRequest) -> WitnessAnswer:
        """Cosign a head of an audit log, or say why not."""
        self._site.demand()
        return await self._witness.witness(request)

    def gather(self, request: GatherRequest) -> AsyncGenerator[Told]:
        """Ask other nodes what the coordinator has signed; this node's own rows are in none of it."""
        return self._aggregator.gather(request)

    async def forget(self, workspace: WorkspaceName, node: NodeName, ended: frozenset[RunId]) -> None:
        """Drop what is remembered of runs of a workspace that its own coordinator says are over."""
        del node  # One daemon's database is one node's.
        await self._answers.forget(workspace, sorted(ended))

    async def perform(self, received: ReceivedTask) -> SealedUpdate:
        """Answer a task, joining the same task where it is being answered already."""
        self._site.demand()
        faults.reach("node.task.received")
        name = (received.task.key, received.sha256)
        if name not in self._under_way:
            work = asyncio.create_task(self._answer(received))
            self._under_way[name] = work
            if tells_times(received.task):
                self._shown.add(name)
            work.add_done_callback(lambda done: self._end(name, done))
        return await asyncio.shield(self._under_way[name])

    def sent(self, received: ReceivedTask) -> None:
        """Hear that the whole update was handed to the wire."""
        del received
        faults.reach("node.update.sent")

    @property
    def under_way(self) -> int:
        """How many tasks without a budget are being answered: when the others end follows the rows."""
        return len(self._shown)

    async def close(self) -> None:
        """Stop what is being computed; what is at the door goes through it first."""
        for work in list(self._under_way.values()):
            work.cancel()
        await asyncio.gather(*self._under_way.values(), *self._taken, return_exceptions=True)

    def _end(self, name: tuple[TaskKey, bytes], done: asyncio.Task[SealedUpdate]) -> None:
        del self._under_way[name]
        self._shown.discard(name)
        if not done.cancelled():
            # Whoever asked may be gone; an error that nobody awaits is still retrieved.
            done.exception()

    async def _answer(self, received: ReceivedTask) -> SealedUpdate:
        key, about = received.task.key, About(received.task.reading.dataset)
        try:
            with TaskWatch(received.task):
                return await self._answers.answer(received, about)
        except FederatedError as error:
            log.warning(
                "refused: workspace=%s run=%s round=%s exchange=%s step=%s: %s",
                key.workspace,
                key.run,
                key.round,
                key.exchange,
                key.step,
                error.message,
            )
            if error.code in {ErrorCode.UNREACHABLE, ErrorCode.INTERNAL}:
                self._site.doubt()
            # Before it is told: whoever has heard of a refusal finds it in the node's catalog.
            await asyncio.to_thread(record_refusal, self._database, key, about.dataset, error)
            raise
