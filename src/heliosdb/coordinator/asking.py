"""What a run asks: its open exchange and, where it is asynchronous, the training that outlives a round.

What always holds: one exchange is open at a time; an update is taken into the round once, when the machine
counts it; a question is fresh only where this driver has committed that it will be asked, and has not asked
it yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from heliosdb.coordinator.buffering import AnyExchange, BufferedExchange, StandingTasks
from heliosdb.coordinator.course import Question
from heliosdb.coordinator.exchange import Exchange, Wire
from heliosdb.coordinator.opened import RoundUnderWay
from heliosdb.coordinator.records import Settled
from heliosdb.coordinator.settling import settle_at_end
from heliosdb.coordinator.watch import RunWatch
from heliosdb.domain.events import Event, Loss, Names, SumArrived, UpdateArrived
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.run_state import RunState

_LARGE = 100_000
"""Values of an update that is taken in beside the event loop."""


class Asking:
    """Opens and closes a run's exchanges. report: takes what is heard of them."""

    def __init__(self, wire: Wire, report: Callable[[Event], None], watch: RunWatch) -> None:
        self._wire = wire
        self._report = report
        self._watch = watch
        self._tasks = StandingTasks(wire, report)
        self._exchange: AnyExchange | None = None
        self._committed_here: tuple[RoundNumber, int] | None = None  # an exchange that nobody asked yet

    @property
    def is_begun(self) -> bool:
        """Whether anything was asked here since the last round was closed."""
        return self._exchange is not None

    def committed(self, number: RoundNumber, exchange: int) -> None:
        """Note that this exchange has just been committed."""
        self._committed_here = number, exchange

    async def begin(
        self, question: Question, nodes: Collection[NodeName], opened: RoundUnderWay, *, sketch_key: int
    ) -> None:
        """Ask a question of the open round. sketch_key: as of an exchange."""
        number = question.plan.round
        fresh = self._committed_here == (number, question.exchange)
        span = self._watch.exchange(number, question.exchange, question.step.name)
        if question.plan.run.policy.buffer and number > 0 and question.exchange == 0:
            self._exchange = BufferedExchange(self._tasks, question, fresh=fresh, span=span)
        else:
            self._exchange = Exchange(
                self._wire,
                question,
                self._report,
                heard=opened.heard,
                fresh=fresh,
                sketch_key=sketch_key,
                span=span,
            )
        self._committed_here = None
        await self._exchange.open(nodes)

    async def ask_again(self, question: Question, nodes: Iterable[NodeName]) -> None:
        """Ask for what nodes were asked before in a round that is closed."""
        await self._tasks.ask(question, nodes, fresh=False)

    async def take_in(
        self, opened: RoundUnderWay, event: UpdateArrived | SumArrived, before: Names, counted: Names
    ) -> None:
        """Take in what the machine has just counted. before, counted: whose updates count, without it and
        with it."""
        exchange = self._exchange
        nodes = event.nodes if isinstance(event, SumArrived) else frozenset({event.node})
        if exchange is None or nodes & before or not nodes <= counted:
            return
        if isinstance(event, UpdateArrived):
            await _take(opened, exchange, event.node)
        elif isinstance(exchange, Exchange):
            await asyncio.to_thread(opened.take_sum, exchange.hand_on_sum(nodes))

    async def take_waiting(self, opened: RoundUnderWay, nodes: Names) -> None:
        """Take in what had come before the exchange was opened."""
        assert self._exchange is not None
        for node in sorted(nodes):
            await _take(opened, self._exchange, node)

    def settled_lost(self, lost: Iterable[Loss], step: StepName) -> Settled | None:
        """What became of tasks of earlier rounds since the last was closed."""
        settlements = self._tasks.settle_lost(lost)
        return Settled(0, step, settlements) if settlements else None

    def settled_at_end(self, state: RunState) -> Settled | None:
        """What there is to settle where a run ends within a round."""
        return settle_at_end(state, self._exchange, self._committed_here)

    async def ended(self) -> AnyExchange:
        """Ask no more in the exchange, which is there, and return it."""
        assert self._exchange is not None
        await self._exchange.close()
        return self._exchange

    async def pause(self, *, grace: float = 0.0) -> None:
        """Ask no more in the exchange, if there is one. grace: as of an exchange."""
        if self._exchange is not None:
            await self._exchange.close(grace=grace)

    async def break_off(self) -> None:
        """Ask no more in the exchange, all of which is asked again later."""
        await self.pause()
        if isinstance(self._exchange, BufferedExchange):
            await self._tasks.leave()
            self._exchange = None

    async def close(self, *, grace: float = 0.0) -> None:
        """Ask nothing any more, and wait for nobody."""
        await self.pause(grace=grace)
        await self._tasks.close()

    def round_closed(self) -> None:
        """Note that what the exchange led to is committed."""
        self._exchange = None


async def _take(opened: RoundUnderWay, exchange: AnyExchange, node: NodeName) -> None:
    update = exchange.hand_on(node)
    if update.vector.size < _LARGE:
        opened.take(update)
    else:
        await asyncio.to_thread(opened.take, update)
