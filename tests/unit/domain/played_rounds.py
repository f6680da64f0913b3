"""The nodes, steps and rules of the round machine's tests, and events to play to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heliosdb.domain import events as ev
from heliosdb.domain.convergence import Measured, Trace
from heliosdb.domain.events import Action, Event, Figures, Loss, Names, Next, SendTasks
from heliosdb.domain.ids import NodeName, RoundNumber, StepName
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.round import decide, resume
from heliosdb.domain.run import Outcome
from heliosdb.domain.run_state import Decision, Rules, RunState

A, B, C = (NodeName(name) for name in "abc")
ALL = frozenset((A, B, C))
SURVEY, TRAIN = Next(StepName("survey")), Next(StepName("train"))
MEASURE = Next(StepName("measure"), required=False)
REPORT = Next(StepName("report"), required=False, reports=True)


@dataclass(frozen=True)
class Most:
    """So many of the able nodes, the first by name."""

    count: int = 10
    ranks: bool = False

    def choose(self, able: Names, _number: int, _known: object = None) -> Names:
        return frozenset(sorted(able)[: self.count])


RULES = Rules(rounds=2, min_nodes=2, min_nodes_per_round=2, choice=Most())


def n(number: int) -> RoundNumber:
    return RoundNumber(number)


def traced(*losses: float, error: float = 0.0, noise: float = 0.0) -> Trace:
    """Rounds from the first on, each evaluated."""
    return tuple(Measured(n(place), loss, error, noise) for place, loss in enumerate(losses, 1))


def play(state: RunState, *happened: Event) -> Decision:
    """Feed events one after the other; the actions are those of the last."""
    actions: tuple[Action, ...] = ()
    for event in happened:
        state, actions = decide(state, event)
    return state, actions


def training(round_number: int = 1, nodes: frozenset[NodeName] = ALL, rules: Rules = RULES) -> RunState:
    """A run whose training exchange of a round is open."""
    opened = OpenedRound(n(round_number), 0, TRAIN, nodes)
    state, actions = resume(rules, Progress(closed=round_number - 1, members=ALL, opened=opened))
    assert actions == (SendTasks(n(round_number), 0, TRAIN.step, nodes),)
    return state


def arrive(*nodes: NodeName, number: int = 1, exchange: int = 0) -> Iterator[Event]:
    return (ev.UpdateArrived(n(number), exchange, node) for node in nodes)


def lose(node: NodeName, reason: str = "refused", *, over_budget: bool = False, exchange: int = 0) -> Event:
    return ev.NodeLost(n(1), exchange, Loss(node, Outcome.REFUSED, reason, over_budget))


def deadline(*, final: bool, number: int = 1, exchange: int = 0) -> Event:
    return ev.DeadlinePassed(n(number), exchange, final)


def combined(
    exchange: int = 0, *, number: int = 1, figures: Figures | None = None, following: Next | None = None
) -> Event:
    return ev.Combined(n(number), exchange, figures, following)
