"""One exchange: every node of it is asked, and asked again while it is away, until the exchange is over.

What always holds: an update that is handed on was verified by the transport, has the size, the finite
values and the privacy cost that were asked for, and kept to what the question accepts; a node that refuses
or whose update is rejected is not asked again, and costs the others nothing but its own part; an
exchange that is over asks nobody; a node counts as having released nothing only where that is certain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from heliosdb import faults
from heliosdb.aggregation.updates import check_update
from heliosdb.catalog.rounds import Settlement
from heliosdb.coordinator.breaches import breach_of
from heliosdb.coordinator.budget import signed_spending
from heliosdb.coordinator.course import Question
from heliosdb.coordinator.directory import Directory, may_pass
from heliosdb.coordinator.measuring import ExchangeMeter
from heliosdb.coordinator.room import Place, Room
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import UNREGISTERED, DeadlinePassed, Event, Loss, NodeLost, UpdateArrived
from heliosdb.domain.ids import NodeName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.run import Outcome
from heliosdb.domain.state import State
from heliosdb.domain.update import OversizedUpdateError, Update
from heliosdb.domain.usage import Moment
from heliosdb.observing import logs, observed
from heliosdb.observing.tracing import NO_SPAN, Span
from heliosdb.transport.client import UnsentError
from heliosdb.transport.messages import EncodedState, NodeRefusedError, reason_of
from heliosdb.transport.sealing import SealingKey

log = logging.getLogger(__name__)

# Refusals that a node may also give after its release was committed.
_NO_PROOF = (ErrorCode.INTERNAL, ErrorCode.UNREACHABLE, ErrorCode.TIMEOUT)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Wire:
    """How nodes are reached: who they are, what updates are sealed to, how many are asked at once, and how
    much of what they answer is held at once.
    """

    directory: Directory
    sealing: SealingKey
    slots: asyncio.Semaphore
    room: Room = field(default_factory=Room)


@dataclass(frozen=True, slots=True)
class Arrived:
    """An update, and how it came; None once it was handed on. rows: of its node, where it states them."""

    update: Update | None
    settlement: Settlement
    place: Place
    rows: int | None = None


class Exchange:
    """Asks nodes and reports events; `arrived` holds the updates by node."""

    def __init__(
        self,
        wire: Wire,
        question: Question,
        report: Callable[[Event], None],
        *,
        heard: State,
        fresh: bool,
        span: Span = NO_SPAN,
    ) -> None:
        """heard: what the sum protocol knows already. fresh: no coordinator has asked this before. span: ends
        with the exchange."""
        self._wire = wire
        self._question = question
        self._report = report
        self._heard = heard
        self._fresh = fresh
        self._workspace = question.plan.run.policy.workspace
        self._asking: dict[NodeName, asyncio.Task[None]] = {}
        self._away: dict[NodeName, str] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._in_doubt: set[NodeName] = set()
        self._in_flight: set[NodeName] = set()
        self._closing = False
        self._span = span
        self._lost_for: dict[NodeName, str] = {}
        self._is_settled = False
        self._state = EncodedState.of(question.asked.state)
        self.meter = ExchangeMeter(fresh)
        self.arrived: dict[NodeName, Arrived] = {}

    @property
    def question(self) -> Question:
        """What is asked."""
        return self._question

    async def open(self, nodes: Iterable[NodeName]) -> None:
        """Ask all of them."""
        loop, policy = asyncio.get_running_loop(), self._question.plan.run.policy
        self._timers = [
            loop.call_later(policy.stragglers_timeout, self._stragglers_due),
            loop.call_later(policy.round_timeout, self._deadline),
        ]
        deadline = loop.time() + policy.round_timeout
        if not self._fresh:
            self._in_doubt.update(nodes)
        for node in sorted(nodes):
            self._asking[node] = asyncio.create_task(self._ask(node, deadline))
        await asyncio.sleep(0)

    async def close(self, *, grace: float = 0.0) -> None:
        """Ask no more. grace: seconds to hear out those that were asked, to know what they released."""
        if not self._closing:
            self._note_end()
        self._closing = True
        for timer in self._timers:
            timer.cancel()
        if grace > 0 and self._in_flight:
            await asyncio.wait([self._asking[node] for node in self._in_flight], timeout=grace)
        open_tasks = [task for task in self._asking.values() if not task.done()]
        for task in open_tasks:
            task.cancel()
        if open_tasks:
            await asyncio.wait(open_tasks)
        for arrived in self.arrived.values():
            arrived.place.leave()

    def settle(self, answered: Iterable[NodeName], lost: Iterable[Loss]) -> list[Settlement]:
        """Return how it ended for each node, for the records."""
        counted = [self.arrived[node].settlement for node in sorted(answered) if node in self.arrived]
        settled = counted + [self._settle_loss(loss) for loss in lost]
        if not self._is_settled:
            self._is_settled = True
            self._note_outcomes(settled)
        return settled

    def part(self, answered: Sequence[NodeName], lost: Sequence[Loss]) -> list[Settlement]:
        """Return how it ended for these nodes, for the records, and wait for them no more; for the others it
        goes on."""
        settled = [self.arrived[node].settlement for node in answered]
        settled += [self._settle_loss(loss) for loss in lost]
        self._note_outcomes(settled)
        for one in settled:
            if one.node in self._asking:
                self._asking.pop(one.node).cancel()
            if one.node in self.arrived:
                self.arrived.pop(one.node).place.leave()
            self._away.pop(one.node, None)
        if self.is_over:
            self._note_end()
            self._closing = True
            for timer in self._timers:
                timer.cancel()
        return settled

    @property
    def is_over(self) -> bool:
        """Whether nobody is waited for any more, once it was opened."""
        return not self._asking

    def notes(self) -> list[str]:
        """What the round's message is to say of how the updates came: nothing."""
        return []

    def _note_end(self) -> None:
        traffic = self.meter.traffic.values()
        sent, received = sum(each.sent for each in traffic), sum(each.received for each in traffic)
        observed.exchange_ended(self._workspace, self._question.step.name, sent=sent, received=received)
        self._span.end()

    def _note_outcomes(self, settled: Iterable[Settlement]) -> None:
        for one in settled:
            if one.outcome is Outcome.RECEIVED:
                observed.update_received(self._workspace)
            else:
                reason = self._lost_for.get(one.node, "late")
                observed.update_lost(self._workspace, one.outcome, reason)

    def _settle_loss(self, loss: Loss) -> Settlement:
        traffic = self.meter.traffic.get(loss.node)
        if traffic is None:
            return Settlement(loss.node, loss.outcome, loss.reason, breach=loss.breach)
        return Settlement(
            loss.node,
            loss.outcome,
            loss.reason,
            bytes_sent=traffic.sent,
            bytes_received=traffic.received,
            breach=loss.breach,
        )

    def unspent(self) -> frozenset[NodeName]:
        """Return the nodes that have certainly released nothing; to be asked after `close`."""
        return frozenset(self._asking) - self._in_doubt - self.arrived.keys()

    def hand_on(self, node: NodeName) -> Update:
        """Return the update of a node, and hold it no longer."""
        arrived = self.arrived[node]
        assert arrived.update is not None
        arrived.place.leave()
        self.arrived[node] = replace(arrived, update=None)
        return arrived.update

    def rows(self, nodes: Iterable[NodeName]) -> dict[NodeName, int]:
        """Return the rows of the nodes whose updates state them."""
        found = {node: self.arrived[node].rows for node in sorted(nodes)}
        return {node: rows for node, rows in found.items() if rows is not None}

    def weights(self, nodes: Iterable[NodeName]) -> dict[NodeName, float]:
        """Return the weights of the nodes' updates."""
        return {node: self.arrived[node].settlement.weight or 0.0 for node in sorted(nodes)}

    async def _ask(self, node: NodeName, deadline: float) -> None:
        logs.note(node=node)
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        started = Moment.now()
        while True:
            place = Place(self._wire.room)
            try:
                update = await self._perform(node, deadline, place)
                self._take(node, update, Moment.now().wall - started.wall, place)
                return
            except FederatedError as error:
                if not may_pass(error):
                    self._lose(node, error)
                    return
                # Whoever has its task and does not answer is a straggler, not away.
                self._away.pop(node, None)
                if error.code is not ErrorCode.TIMEOUT:
                    self._away[node] = reason_of(error)
                if self._closing:
                    return
            except Exception:  # Whatever one node's bytes cause must not end the others' round.
                log.exception("asking node %s failed", node)
                self._lose(
                    node, FederatedError(ErrorCode.INTERNAL, "asking it failed inside the coordinator")
                )
                return
            finally:
                if node not in self.arrived:
                    place.leave()
            await self._wire.directory.wait_for_change(min(pause, max(deadline - loop.time(), 0.0)))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _perform(self, node: NodeName, deadline: float, place: Place) -> OpenedUpdate:
        question, wire = self._question, self._wire
        member = wire.directory.find(self._workspace, node)
        if member is None:
            if not wire.directory.is_registered(self._workspace, node):
                raise FederatedError(ErrorCode.UNDEFINED_OBJECT, UNREGISTERED)
            raise FederatedError(ErrorCode.UNREACHABLE, wire.directory.reason(self._workspace, node))
        task = question.task(node, member.record.dataset, self._heard)
        async with wire.slots:
            doubted = node in self._in_doubt
            self._in_doubt.add(node)
            self._in_flight.add(node)
            remaining = deadline - asyncio.get_running_loop().time()
            span = self._span.child("ask", node=node, step=question.step.name)
            asked = asyncio.ensure_future(
                member.client.perform(
                    task,
                    wire.sealing,
                    max(remaining, 0.1),
                    expected=question.shape,
                    private=question.mechanism is not None,
                    traffic=self.meter.count(node),
                    state=self._state,
                    admit=place.take,
                    traceparent=span.traceparent,
                )
            )
            try:
                await asyncio.sleep(0)
                faults.reach("coordinator.task.sent")
                update = await asked
                span.end("received")
                return update
            except FederatedError as error:
                span.end(_kind(error))
                if _released_nothing(error, asked_before=doubted):
                    self._in_doubt.discard(node)
                raise
            finally:
                self._in_flight.discard(node)
                asked.cancel()
                span.end("left")

    def _take(self, node: NodeName, opened: OpenedUpdate, seconds: float, place: Place) -> None:
        question, shape = self._question, self._question.shape
        update = Update(node, opened.vector, opened.weight)
        check_update(update, shape.size, shape.dtype)
        if opened.mechanism != question.mechanism:
            raise FederatedError(
                ErrorCode.UPDATE_REJECTED, "its update was not released under the noise that was asked for"
            )
        question.check(update)
        faults.reach("coordinator.update.received")
        settlement = Settlement(
            node,
            Outcome.RECEIVED,
            weight=opened.weight,
            bytes_sent=opened.bytes_sent,
            bytes_received=opened.bytes_received,
            duration_seconds=seconds if self._fresh else None,
            signed=signed_spending(opened),
            described=question.describe(update),
        )
        self.meter.usage[node] = opened.usage
        self.arrived[node] = Arrived(update, settlement, place, question.rows(update))
        self._report(UpdateArrived(question.plan.round, question.exchange, node))

    def _lose(self, node: NodeName, error: FederatedError) -> None:
        self._lost_for[node] = _kind(error)
        self._report(NodeLost(self._question.plan.round, self._question.exchange, loss_of(node, error)))

    def _stragglers_due(self) -> None:
        self._report(DeadlinePassed(self._question.plan.round, self._question.exchange, final=False))

    def _deadline(self) -> None:
        """Say of those that were away why, then that the time is over for all."""
        question = self._question
        for node, reason in sorted(self._away.items()):
            if node not in self.arrived:
                self._lost_for[node] = "unreachable"
                loss = Loss(node, Outcome.DROPPED, reason)
                self._report(NodeLost(question.plan.round, question.exchange, loss))
        self._report(DeadlinePassed(question.plan.round, question.exchange, final=True))


def loss_of(node: NodeName, error: FederatedError) -> Loss:
    """Return what the round machine is told of a node that refused, or whose update is rejected."""
    outcome = {
        ErrorCode.UPDATE_REJECTED: Outcome.REJECTED,
        ErrorCode.IDENTITY: Outcome.DROPPED,
        ErrorCode.UNDEFINED_OBJECT: Outcome.DROPPED,
        ErrorCode.INTERNAL: Outcome.DROPPED,
    }.get(error.code, Outcome.REFUSED)
    over_budget = isinstance(error, NodeRefusedError) and error.reason is ErrorCode.BUDGET_EXHAUSTED
    # A node refuses so what it has computed itself and is not finite.
    not_finite = isinstance(error, NodeRefusedError) and error.reason is ErrorCode.UPDATE_REJECTED
    diverging = not_finite or isinstance(error, OversizedUpdateError)
    return Loss(node, outcome, reason_of(error), over_budget, diverging, error.hint, breach_of(error))


def _kind(error: FederatedError) -> str:
    """The kind of an error, in one of few words."""
    code = error.reason if isinstance(error, NodeRefusedError) else error.code
    return code.name.lower()


def _released_nothing(error: FederatedError, *, asked_before: bool) -> bool:
    """Whether an attempt that failed proves that its task was never answered.

    A node that has answered a task sends the same again, and looks for that before its budget: so a refusal
    for the budget proves it even where an earlier attempt broke off; any other failure speaks for itself.
    """
    if isinstance(error, NodeRefusedError):
        if error.reason is ErrorCode.BUDGET_EXHAUSTED:
            return True
        return not asked_before and error.reason not in _NO_PROOF
    return not asked_before and isinstance(error, UnsentError)
