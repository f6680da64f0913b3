"""The training tasks of an asynchronous run: who is at work over several rounds, and what each round takes.

What always holds: a task that a node is at work on is asked for until it is settled, whichever rounds close
meanwhile; an update is handed on once, with its staleness in it; what is settled here was taken by the open
round, or is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from heliosdb.aggregation.staleness import discounted
from heliosdb.catalog.rounds import Settlement
from heliosdb.coordinator.course import Question
from heliosdb.coordinator.exchange import Arrived, Exchange, Wire
from heliosdb.coordinator.measuring import ExchangeMeter
from heliosdb.domain.events import Event, Loss, NodesAway
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from heliosdb.observing.tracing import NO_SPAN, Span

_MOST_NAMED = 10


class StandingTasks:
    """One exchange for each round of which nodes are still at work."""

    def __init__(self, wire: Wire, report: Callable[[Event], None]) -> None:
        self._wire = wire
        self._tell = report
        self._asked: dict[RoundNumber, Exchange] = {}

    async def ask(
        self, question: Question, nodes: Iterable[NodeName], *, fresh: bool, span: Span = NO_SPAN
    ) -> None:
        """Ask these nodes to train, in the question's round. fresh, span: as of an exchange."""
        exchange = Exchange(self._wire, question, self._report, heard=NO_STATE, fresh=fresh, span=span)
        self._asked[question.plan.round] = exchange
        await exchange.open(nodes)

    def hand_on(self, node: NodeName) -> tuple[RoundNumber, Arrived, Update]:
        """Return a node's update, with the round in which it was asked, and hold it no longer."""
        number = next(of for of in sorted(self._asked) if node in self._asked[of].arrived)
        exchange = self._asked[number]
        arrived = exchange.arrived[node]
        return number, arrived, exchange.hand_on(node)

    def meter(self, number: RoundNumber) -> ExchangeMeter:
        """Return what was counted of the tasks of a round."""
        return self._asked[number].meter

    def settle(
        self, number: RoundNumber, answered: Sequence[NodeName], lost: Sequence[Loss]
    ) -> list[Settlement]:
        """Return how it ended for these nodes of a round, and wait for them no more."""
        settled = self._asked[number].part(answered, lost)
        if self._asked[number].is_over:
            del self._asked[number]
        return [replace(one, asked=number) for one in settled]

    def settle_lost(self, lost: Iterable[Loss]) -> list[Settlement]:
        """Return how it ended for lost ones, whenever they were asked."""
        return [
            one
            for loss in lost
            if loss.asked is not None and loss.asked in self._asked
            for one in self.settle(loss.asked, (), (loss,))
        ]

    def _report(self, event: Event) -> None:
        """Pass on what is heard of tasks; that nodes are away, only once nobody else is at work."""
        if isinstance(event, NodesAway) and not event.final:
            open_ones = [one for one in self._asked.values() if one.is_open]
            if not all(one.is_stalled for one in open_ones):
                return
            absent = tuple(
                sorted((each for one in open_ones for each in one.absent), key=lambda one: one.node)
            )
            event = replace(event, absent=absent)
        self._tell(event)

    async def close(self) -> None:
        """Ask no more."""
        for exchange in self._asked.values():
            await exchange.close()

    async def leave(self) -> None:
        """Ask no more, and know of nothing that was asked: it is asked again."""
        await self.close()
        self._asked.clear()


class BufferedExchange:
    """The training of one round, as a driver sees any exchange: asks those who are free, and takes the
    updates that make the round. fresh, span: as of an exchange."""

    def __init__(
        self, tasks: StandingTasks, question: Question, *, fresh: bool, span: Span = NO_SPAN
    ) -> None:
        self._tasks = tasks
        self._fresh = fresh
        self._span = span
        self._taken: dict[NodeName, tuple[RoundNumber, Arrived]] = {}
        self._settled: list[Settlement] | None = None
        self.question = question
        # When the tasks began, and so what they took, is not the round's.
        self.meter = ExchangeMeter(fresh=False)

    async def open(self, nodes: Iterable[NodeName]) -> None:
        """Ask these to train."""
        if asked := sorted(nodes):
            await self._tasks.ask(self.question, asked, fresh=self._fresh, span=self._span)
        else:
            self._span.end()

    async def close(self, *, grace: float = 0.0) -> None:
        """Take no more; whoever is at work stays so."""
        del grace

    def hand_on(self, node: NodeName) -> Update:
        """Return the update of a node, as much shorter as it is stale."""
        asked, arrived, update = self._tasks.hand_on(node)
        self._taken[node] = asked, arrived
        meter = self._tasks.meter(asked)
        self.meter.traffic[node], self.meter.usage[node] = meter.count(node), meter.usage.get(node)
        return discounted(update, self.question.plan.round - asked)

    def settle(self, answered: Iterable[NodeName], lost: Iterable[Loss]) -> list[Settlement]:
        """Return how it ended for whom the round has taken, and for the lost, for the records."""
        del answered  # Those that follow in the round are fewer.
        if self._settled is None:
            by_round: dict[RoundNumber, list[NodeName]] = {}
            for node, (asked, _) in sorted(self._taken.items()):
                by_round.setdefault(asked, []).append(node)
            taken = [self._tasks.settle(asked, nodes, ()) for asked, nodes in sorted(by_round.items())]
            self._settled = [one for each in taken for one in each] + self._tasks.settle_lost(lost)
        return self._settled

    def unspent(self) -> frozenset[NodeName]:
        """Return nobody: it is for runs under a budget, which are not asynchronous."""
        return frozenset()

    def rows(self, nodes: Iterable[NodeName]) -> dict[NodeName, int]:
        """Return the rows of the nodes whose updates state them."""
        found = {node: self._taken[node][1].settlement.stated_rows for node in sorted(nodes)}
        return {node: rows for node, rows in found.items() if rows is not None}

    def weights(self, nodes: Iterable[NodeName]) -> dict[NodeName, float]:
        """Return the weights of the nodes' updates."""
        return {node: self._taken[node][1].settlement.weight or 0.0 for node in sorted(nodes)}

    def notes(self) -> list[str]:
        """Say which updates of the round are stale, and by how many rounds, the stalest first."""
        late = {node: self.question.plan.round - asked for node, (asked, _) in self._taken.items()}
        stale = sorted((-rounds, node) for node, rounds in late.items() if rounds)
        if not stale:
            return []
        named = [f"{node} by {-rounds}" for rounds, node in stale[:_MOST_NAMED]]
        more = len(stale) - len(named)
        return [f"stale: {', '.join(named)}" + (f" and {more} more" if more else "")]


AnyExchange = Exchange | BufferedExchange
