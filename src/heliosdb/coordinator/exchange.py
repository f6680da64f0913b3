"""One exchange: every node of it is asked, and asked again while it is away, until the exchange is over.

What always holds: an update that is handed on was verified by the transport, has the size, the finite
values and the privacy cost that were asked for, and kept to what the question accepts; a node that refuses
or whose update is rejected is not asked again, and costs the others nothing but its own part; an
exchange that is over asks nobody; a node counts as having released nothing only where that is certain;
whoever is in nothing that an aggregator has gathered is asked without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from heliosdb import faults
from heliosdb.aggregation.updates import check_update
from heliosdb.catalog.rounds import Settlement
from heliosdb.coordinator.branches import Branches, FaultyTermsError, OpenedSum, while_there
from heliosdb.coordinator.budget import signed_spending
from heliosdb.coordinator.course import Question
from heliosdb.coordinator.directory import Directory, may_pass
from heliosdb.coordinator.losses import kind_of, loss_of, released_nothing, settle_loss
from heliosdb.coordinator.measuring import ExchangeMeter
from heliosdb.domain.absence import Absence
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.events import (
    UNREGISTERED,
    DeadlinePassed,
    Event,
    Loss,
    NodeLost,
    NodesAway,
    SumArrived,
    UpdateArrived,
)
from heliosdb.domain.hierarchy import Branch
from heliosdb.domain.ids import NodeName
from heliosdb.domain.opened_update import OpenedUpdate
from heliosdb.domain.run import Outcome
from heliosdb.domain.state import State
from heliosdb.domain.update import Update
from heliosdb.observing import logs, observed
from heliosdb.observing.tracing import NO_SPAN, Span
from heliosdb.transport.carriers import UnsentError
from heliosdb.transport.gathering import AnySum
from heliosdb.transport.messages import EncodedState, reason_of
from heliosdb.transport.room import Place, Room
from heliosdb.transport.sealing import SealingKey

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0

_BOUNCE = 5.0
"""Seconds within which a node that was started anew is there again: who is away for longer is waited for."""


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
    """An update, and how it came; None once it was handed on."""

    update: Update | None
    settlement: Settlement
    place: Place


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
        sketch_key: int | None = None,
        span: Span = NO_SPAN,
    ) -> None:
        """heard: what the sum protocol knows. fresh: no coordinator has asked this before. sketch_key: of the
        sketches that compare updates; None: nothing goes by aggregators. span: ends with the exchange."""
        self._wire = wire
        self._question = question
        self._report = report
        self._heard = heard
        self._fresh = fresh
        self._workspace = question.plan.run.policy.workspace
        self._nodes: frozenset[NodeName] = frozenset()
        self._asking: dict[NodeName, asyncio.Task[None]] = {}
        self._gathering: dict[NodeName, asyncio.Task[None]] = {}
        self._sums: dict[frozenset[NodeName], tuple[AnySum, Place]] = {}
        self._deadline_at = 0.0
        self._away: dict[NodeName, str] = {}
        self._timers: list[asyncio.TimerHandle] = []
        self._stall: asyncio.TimerHandle | None = None
        self._in_doubt: set[NodeName] = set()
        self._in_flight: set[NodeName] = set()
        self._closing = False
        self._span = span
        self._lost_for: dict[NodeName, str] = {}
        self._is_settled = False
        self._state = EncodedState.of(question.asked.state)
        asks = wire.directory, wire.sealing, question
        self._branches = Branches(*asks, self._state, heard=heard, sketch_key=sketch_key)
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
        self._deadline_at = loop.time() + policy.round_timeout
        self._nodes = frozenset(nodes)
        if not self._fresh:
            self._in_doubt.update(self._nodes)
        self._begin(*self._branches.divide(self._nodes))
        await asyncio.sleep(0)

    def _begin(self, branches: Iterable[Branch], nodes: Iterable[NodeName]) -> None:
        """Ask aggregators for their branches, and these nodes for their own answers."""
        for branch in branches:
            gathering = asyncio.create_task(self._gather(branch))
            self._gathering[branch.aggregator] = gathering
        for node in nodes:
            self._asking[node] = asyncio.create_task(self._ask(node, self._deadline_at))

    async def close(self, *, grace: float = 0.0) -> None:
        """Ask no more. grace: seconds to hear out those that were asked, to know what they released."""
        if not self._closing:
            self._note_end()
        self._closing = True
        for timer in (*self._timers, *([] if self._stall is None else [self._stall])):
            timer.cancel()
        in_flight = [self._asking[node] for node in self._in_flight]
        in_flight += [task for task in self._gathering.values() if not task.done()]
        if grace > 0 and in_flight:
            await asyncio.wait(in_flight, timeout=grace)
        open_tasks = [task for task in (*self._asking.values(), *self._gathering.values()) if not task.done()]
        for task in open_tasks:
            task.cancel()
        if open_tasks:
            await asyncio.wait(open_tasks)
        for arrived in self.arrived.values():
            arrived.place.leave()
        for _, place in self._sums.values():
            place.leave()

    def settle(self, answered: Iterable[NodeName], lost: Iterable[Loss]) -> list[Settlement]:
        """Return how it ended for each node, for the records."""
        counted = [self.arrived[node].settlement for node in sorted(answered) if node in self.arrived]
        settled = counted + [settle_loss(loss, self.meter.traffic.get(loss.node)) for loss in lost]
        if not self._is_settled:
            self._is_settled = True
            self._note_outcomes(settled)
        return settled

    def part(self, answered: Sequence[NodeName], lost: Sequence[Loss]) -> list[Settlement]:
        """Return how it ended for these nodes, for the records, and wait for them no more; for the others it
        goes on."""
        settled = [self.arrived[node].settlement for node in answered]
        settled += [settle_loss(loss, self.meter.traffic.get(loss.node)) for loss in lost]
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

    def unspent(self) -> frozenset[NodeName]:
        """Return the nodes that have certainly released nothing; to be asked after `close`."""
        return self._nodes - self._in_doubt - self.arrived.keys()

    def hand_on(self, node: NodeName) -> Update:
        """Return the update of a node, and hold it no longer."""
        arrived = self.arrived[node]
        assert arrived.update is not None
        arrived.place.leave()
        self.arrived[node] = replace(arrived, update=None)
        return arrived.update

    def hand_on_sum(self, nodes: frozenset[NodeName]) -> AnySum:
        """Return the sum of these nodes' updates, and hold it no longer."""
        partial, place = self._sums.pop(nodes)
        place.leave()
        return partial

    def rows(self, nodes: Iterable[NodeName]) -> dict[NodeName, int]:
        """Return the rows of the nodes whose updates state them."""
        found = {node: self.arrived[node].settlement.stated_rows for node in sorted(nodes)}
        return {node: rows for node, rows in found.items() if rows is not None}

    def weights(self, nodes: Iterable[NodeName]) -> dict[NodeName, float]:
        """Return the weights of the nodes' updates."""
        return {node: self.arrived[node].settlement.weight or 0.0 for node in sorted(nodes)}

    async def _ask(self, node: NodeName, deadline: float) -> None:
        logs.note(node=node)
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        started = time.perf_counter()
        while True:
            place = Place(self._wire.room)
            try:
                update = await self._perform(node, deadline, place)
                self._take(node, update, time.perf_counter() - started, place)
                return
            except FederatedError as error:
                if not may_pass(error):
                    self._lose(node, error)
                    return
                # Whoever has its task and does not answer is a straggler, not away.
                self._away.pop(node, None)
                if error.code is not ErrorCode.TIMEOUT:
                    self._away[node] = reason_of(error)
                    self._look_for_stall()
                if self._closing or loop.time() >= deadline:
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
                    self._branches.sealing(node),
                    max(remaining, 0.1),
                    expected=question.shape_of(node, self._heard),
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
                span.end(kind_of(error))
                log.info("a call to node %s failed: %s", node, reason_of(error))
                if released_nothing(error, asked_before=doubted):
                    self._in_doubt.discard(node)
                raise
            finally:
                self._in_flight.discard(node)
                asked.cancel()
                span.end("left")

    async def _gather(self, branch: Branch) -> None:
        """Have a branch gathered; whoever is in nothing that comes back is asked without its aggregator."""
        doubted = branch.everybody & self._in_doubt
        try:
            directory = self._wire.directory
            await while_there(directory, self._workspace, branch, self._gather_once(branch))
        except UnsentError as error:
            self._in_doubt -= branch.everybody - doubted
            log.warning("aggregator %s: %s", branch.aggregator, error.message)
        except FederatedError as error:
            log.warning("aggregator %s: %s", branch.aggregator, error.message)
        except Exception:  # Whatever an aggregator's bytes cause must not end the round.
            log.exception("gathering by %s failed", branch.aggregator)
        if not self._closing:
            self._begin(*branch.missing(self.arrived))

    async def _gather_once(self, branch: Branch) -> None:
        """Take in what an aggregator gathers; once more without the updates that spoil its sum."""
        try:
            await self._gather_all(branch)
        except FaultyTermsError as error:
            log.warning("aggregator %s: %s", branch.aggregator, error.message)
            left = branch.without(error.nodes)
            if not self._closing and left.everybody:
                await self._gather_all(left)

    async def _gather_all(self, branch: Branch) -> None:
        started, places = time.perf_counter(), dict[NodeName, Place]()
        remaining = self._deadline_at - asyncio.get_running_loop().time()
        window = max(min(remaining, self._question.plan.run.policy.stragglers_timeout), 0.1)
        self._in_doubt.update(branch.everybody)

        def place(node: NodeName) -> Place:
            return places.setdefault(node, Place(self._wire.room))

        gathered = self._branches.gather(
            branch, window, traffic=self.meter.count, admit=lambda node: place(node).take
        )
        try:
            async with aclosing(gathered) as answers:
                async for one in answers:
                    seconds = time.perf_counter() - started
                    if isinstance(one, OpenedSum):
                        self._take_sum(one, seconds, place(branch.aggregator))
                        del places[branch.aggregator]
                    else:
                        self._take_passed(one, seconds, place(one.key.node))
                        places.pop(one.key.node)
        finally:
            for left in places.values():
                left.leave()

    def _take_passed(self, opened: OpenedUpdate, seconds: float, place: Place) -> None:
        node = opened.key.node
        try:
            self._take(node, opened, seconds, place)
        except FederatedError as error:
            # It is asked once more by itself, and lost for what it then says.
            log.info("not taken: node=%s %s", node, error.message)
            place.leave()

    def _take_sum(self, opened: OpenedSum, seconds: float, place: Place) -> None:
        """Take in a sum; its place is kept until it is handed on."""
        nodes = frozenset(opened.terms)
        for node, term in sorted(opened.terms.items()):
            traffic = self.meter.count(node)
            settlement = Settlement(
                node,
                Outcome.RECEIVED,
                weight=term.term.weight,
                bytes_sent=traffic.sent,
                bytes_received=traffic.received,
                duration_seconds=seconds if self._fresh else None,
                signed=signed_spending(term),
            )
            self.meter.usage[node] = opened.usages[node]
            self.arrived[node] = Arrived(None, settlement, Place(self._wire.room))
            faults.reach("coordinator.update.received")
        self._sums[nodes] = opened.partial, place
        log.info("sum received: nodes=%s", ",".join(sorted(nodes)))
        self._report(SumArrived(self._question.plan.round, self._question.exchange, nodes))

    def _take(self, node: NodeName, opened: OpenedUpdate, seconds: float, place: Place) -> None:
        question, shape = self._question, self._question.shape_of(node, self._heard)
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
            stated_rows=question.rows(update),
        )
        self.meter.usage[node] = opened.usage
        self.arrived[node] = Arrived(update, settlement, place)
        self._report(UpdateArrived(question.plan.round, question.exchange, node))

    def _lose(self, node: NodeName, error: FederatedError) -> None:
        self._lost_for[node] = kind_of(error)
        self._report(NodeLost(self._question.plan.round, self._question.exchange, loss_of(node, error)))

    def _stragglers_due(self) -> None:
        self._report(DeadlinePassed(self._question.plan.round, self._question.exchange, final=False))

    def _look_for_stall(self) -> None:
        """Where nobody is left who could answer, see in a while whether that is still so."""
        if self._stall is None and self.is_stalled:
            self._stall = asyncio.get_running_loop().call_later(_BOUNCE, self._stalled)

    @property
    def is_open(self) -> bool:
        """Whether an answer may still come."""
        return bool(self._open_nodes()) and not self._closing

    @property
    def is_stalled(self) -> bool:
        """Whether nobody is left who could answer now."""
        open_nodes = self._open_nodes()
        # Whoever has its task may be computing, even where it misses heartbeats.
        idle = self.is_open and open_nodes.isdisjoint(self._in_flight)
        return idle and open_nodes == self._absent().keys()

    @property
    def absent(self) -> tuple[Absence, ...]:
        """Who is not there of those that have not answered."""
        return tuple(Absence(node, reason) for node, reason in sorted(self._absent().items()))

    def _stalled(self) -> None:
        self._stall = None
        if self.is_stalled:
            self._report_away(final=False)

    def _open_nodes(self) -> set[NodeName]:
        return set(self._asking) - self.arrived.keys() - self._lost_for.keys()

    def _absent(self) -> dict[NodeName, str]:
        """Return who is not there by the directory, and why; also of those that have their task."""
        directory, workspace = self._wire.directory, self._workspace
        return {
            node: directory.reason(workspace, node)
            for node in self._open_nodes()
            if directory.find(workspace, node) is None and directory.is_registered(workspace, node)
        }

    def _report_away(self, *, final: bool) -> None:
        gone = self._absent()
        if final:
            # Also who is there and could not be asked: its own database is away, say.
            gone |= {node: self._away[node] for node in self._open_nodes() & self._away.keys()}
        absent = tuple(Absence(node, reason) for node, reason in sorted(gone.items()))
        self._report(NodesAway(self._question.plan.round, self._question.exchange, absent, final))

    def _deadline(self) -> None:
        """Say of those that were away why, then that the time is over for all."""
        question = self._question
        self._report_away(final=True)
        for node, reason in sorted(self._away.items()):
            if node not in self.arrived:
                self._lost_for[node] = "unreachable"
                loss = Loss(node, Outcome.DROPPED, reason)
                self._report(NodeLost(question.plan.round, question.exchange, loss))
        self._report(DeadlinePassed(question.plan.round, question.exchange, final=True))
