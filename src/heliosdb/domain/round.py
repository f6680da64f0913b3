"""The round machine: what a run does next, as a pure function of what it has seen.

What always holds, whatever the order of events and wherever the coordinator is killed:

* No round closes with fewer than `min_nodes_per_round` updates, and none is closed twice: `CloseRound` is
  asked for once, after `Combine` over a set of that size, and a closed round is never opened again.
* An update counts only while its own exchange is open: one that comes late, twice, from a stranger, or for
  another round or exchange changes nothing.
* Nothing that depends on a set of updates leaves the coordinator before that set is committed: the next round
  opens after `RoundClosed`, and the next exchange of a round is asked for after `Combined`, whose result the
  shell has stored where something follows. So an interrupted run, rebuilt by `resume` from committed rows
  alone, asks the nodes nothing but what they were asked before.
* It ends: waiting and every exchange have a deadline, every other phase waits for one answer of the shell,
  a round has a bounded number of exchanges, and (round, exchange, phase) only goes forward.

It knows no step by name: the shell says with which one a round begins and which one follows.

The shell performs the actions in order and answers with events; it owns time, network and database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol

from heliosdb.domain.convergence import converged
from heliosdb.domain.events import (
    NOBODY,
    TIMED_OUT,
    UNREGISTERED,
    Absence,
    Action,
    BudgetWouldBeExceeded,
    CloseRound,
    Combine,
    Combined,
    DeadlinePassed,
    Event,
    FailRun,
    Figures,
    FinishRun,
    Loss,
    Names,
    Next,
    NodeLost,
    NodesSeen,
    OpenRound,
    ProblemFound,
    PublishVersion,
    RoundClosed,
    RoundOpened,
    RunEnded,
    SendTasks,
    StopRequested,
    UpdateArrived,
    Wait,
    WaitedTooLong,
    describe,
)
from heliosdb.domain.ids import RoundNumber, StepName
from heliosdb.domain.run import Outcome, RunStatus
from heliosdb.domain.task import MOST_EXCHANGES


class Phase(Enum):
    """What the machine waits for."""

    WAITING = auto()  # enough nodes to open the round
    OPENING = auto()  # the round, its cohort and its reservations being committed
    EXCHANGE = auto()  # updates
    COMBINING = auto()  # the combination of the updates
    CLOSING = auto()  # the round's transaction
    ENDING = auto()  # the run's last transaction
    ENDED = auto()


class Choice(Protocol):
    """Who of the nodes that are able takes part in a round."""

    def choose(self, able: Names, number: RoundNumber) -> Names:
        """Return some of them: the same for the same run, round and nodes."""
        ...


@dataclass(frozen=True, slots=True)
class Convergence:
    """When the losses say that a run may end; see domain/convergence.py."""

    threshold: float
    patience: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run was started with; min_nodes is for the start of the run."""

    rounds: int
    min_nodes: int
    min_nodes_per_round: int
    choice: Choice
    target_accuracy: float | None = None
    convergence: Convergence | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    """Everything the machine knows. cohort: asked in the open exchange; answered: whose update counts.

    asked: the step of the open exchange, None before a round has one. counted: who answered the round's last
    required exchange. members: who counted in round 0 (None before it closed). closed: the last closed round,
    -1 before any.
    """

    rules: Rules
    phase: Phase
    round: RoundNumber
    exchange: int = 0
    asked: Next | None = None
    closed: int = -1
    cohort: Names = NOBODY
    answered: Names = NOBODY
    counted: Names = NOBODY
    lost: tuple[Loss, ...] = ()
    members: Names | None = None
    losses: tuple[float, ...] = ()
    figures: Figures | None = None
    stragglers_dropped: bool = False
    stop_requested: bool = False

    @property
    def step(self) -> StepName | None:
        """The step that is asked."""
        return None if self.asked is None else self.asked.step


Decision = tuple[RunState, tuple[Action, ...]]
_SPENDING = (Phase.OPENING, Phase.COMBINING)


@dataclass(frozen=True, slots=True)
class OpenedRound:
    """A round that was open when the coordinator went away, at its last exchange."""

    round: RoundNumber
    exchange: int
    asked: Next
    cohort: Names
    counted: Names = NOBODY


@dataclass(frozen=True, slots=True)
class Progress:
    """What is committed of a run: its closed rounds and the open one. figures: of the last closed round."""

    closed: int = -1
    members: Names | None = None
    losses: tuple[float, ...] = ()
    figures: Figures | None = None
    opened: OpenedRound | None = None
    stop_requested: bool = False


def begin(rules: Rules) -> RunState:
    """Return the state of a run that has done nothing yet."""
    return RunState(rules, Phase.WAITING, RoundNumber(0))


def resume(rules: Rules, progress: Progress) -> Decision:
    """Rebuild a run from its committed rows, and say what to do first."""
    state = replace(
        begin(rules),
        members=progress.members,
        losses=progress.losses,
        stop_requested=progress.stop_requested,
        closed=progress.closed,
        round=RoundNumber(max(progress.closed, 0)),
        figures=progress.figures,
    )
    if progress.opened is None:
        return (state, ()) if progress.closed < 0 else _go_on(state)
    opened = progress.opened
    state = replace(state, round=opened.round, figures=None, counted=opened.counted)
    return _send(state, opened.exchange, opened.asked, opened.cohort)


def decide(state: RunState, event: Event) -> Decision:
    """Return what the run has become and what is to be done; an event out of its time changes nothing."""
    decision: Decision = (state, ())
    match event:
        case RunEnded() if state.phase is Phase.ENDING:
            decision = replace(state, phase=Phase.ENDED), ()
        case _ if state.phase in (Phase.ENDING, Phase.ENDED):
            pass
        case StopRequested():
            decision = _stop(replace(state, stop_requested=True))
        case ProblemFound(reason):
            decision = _end(state, FailRun(reason))
        case NodesSeen() | WaitedTooLong() if state.phase is Phase.WAITING and event.round == state.round:
            decision = _gather(state, event)
        case RoundOpened(round, first) if state.phase is Phase.OPENING and round == state.round:
            decision = _send(state, 0, first, state.cohort)
        case BudgetWouldBeExceeded(round, reason) if round == state.round and state.phase in _SPENDING:
            decision = _end_well(state, RunStatus.BUDGET_EXHAUSTED, reason)
        case UpdateArrived() | NodeLost() | DeadlinePassed() if state.phase is Phase.EXCHANGE:
            decision = _exchange(state, event)
        case Combined() if state.phase is Phase.COMBINING:
            decision = _combined(state, event)
        case RoundClosed(round) if state.phase is Phase.CLOSING and round == state.round:
            decision = _closed(state)
    return decision


def _gather(state: RunState, event: NodesSeen | WaitedTooLong) -> Decision:
    needed = state.rules.min_nodes_per_round
    if state.round == 0:
        needed = max(needed, state.rules.min_nodes)
    able = event.present if state.members is None else event.present & state.members
    registered = event.present | {one.node for one in event.absent if one.reason != UNREGISTERED}
    known = (
        f"{len(registered)} registered" if registered else "no node is registered: REGISTER FEDERATED NODE"
    )
    if isinstance(event, WaitedTooLong):
        reason = (
            f"round {state.round} could not start: {len(able)} of {needed} nodes needed are active, {known}"
        )
        return _end(state, FailRun(_join(reason, event.absent)))
    if len(able) < needed:
        message = f"waiting for nodes: {len(able)} of {needed} active, {known}"
        return state, (Wait(_join(message, event.absent)),)
    cohort = state.rules.choice.choose(able, state.round)
    action = OpenRound(state.round, cohort)
    return replace(state, phase=Phase.OPENING, cohort=cohort), (action,)


def _send(state: RunState, exchange: int, asked: Next, nodes: Names) -> Decision:
    state = replace(
        state,
        phase=Phase.EXCHANGE,
        exchange=exchange,
        asked=asked,
        cohort=nodes,
        answered=NOBODY,
        lost=(),
        stragglers_dropped=False,
    )
    # What is committed is known of also where nobody is asked for it any more.
    if state.stop_requested:
        return _end_stopped(state)
    return state, (SendTasks(state.round, exchange, asked.step, nodes),)


def _exchange(state: RunState, event: UpdateArrived | NodeLost | DeadlinePassed) -> Decision:
    if (event.round, event.exchange) != (state.round, state.exchange):
        return state, ()
    open_nodes = _outstanding(state)
    match event:
        case UpdateArrived(node=node) if node in open_nodes:
            state = replace(state, answered=state.answered | {node})
        case NodeLost(loss=loss) if loss.node in open_nodes:
            state = replace(state, lost=(*state.lost, loss))
        case DeadlinePassed(final=True):
            state = _drop(state, open_nodes)
        case DeadlinePassed(final=False):
            state = replace(state, stragglers_dropped=True)
        case _:
            return state, ()
    return _judge(state)


def _judge(state: RunState) -> Decision:
    """See whether the exchange is over: all settled, enough without the stragglers, or hopeless."""
    needed = state.rules.min_nodes_per_round
    outstanding = _outstanding(state)
    if _is_required(state) and len(state.answered) + len(outstanding) < needed:
        return _give_up(state, needed)
    if outstanding and not (state.stragglers_dropped and len(state.answered) >= needed):
        return state, ()
    state = _drop(state, outstanding)
    counted = state.answered if _is_required(state) else state.counted
    action = Combine(state.round, state.exchange, state.answered)
    return replace(state, phase=Phase.COMBINING, counted=counted), (action,)


def _give_up(state: RunState, needed: int) -> Decision:
    arrived = f"round {state.round}: {len(state.answered)} of {needed} updates needed arrived"
    reason = _join(arrived, sorted(state.lost, key=lambda loss: loss.node))
    if not state.answered and all(loss.oversized for loss in state.lost):
        reason = f"{reason}; where all updates are that large, lower learning_rate or raise max_update_norm"
    if len(state.cohort) - sum(loss.over_budget for loss in state.lost) < needed:
        return _end_well(state, RunStatus.BUDGET_EXHAUSTED, reason)
    return _end(state, FailRun(reason))


def _combined(state: RunState, event: Combined) -> Decision:
    if (event.round, event.exchange) != (state.round, state.exchange):
        return state, ()
    if event.following is not None:
        if state.exchange + 1 >= MOST_EXCHANGES:
            return _end(state, FailRun(f"round {state.round} has no end: {MOST_EXCHANGES} exchanges"))
        return _send(state, state.exchange + 1, event.following, state.answered)
    enough = len(state.answered) >= state.rules.min_nodes_per_round
    figures = event.figures if enough else None
    action = CloseRound(state.round, figures)
    return replace(state, phase=Phase.CLOSING, figures=figures), (action,)


def _closed(state: RunState) -> Decision:
    losses = state.losses
    if state.figures is not None and state.figures.loss is not None:
        losses = (*losses, state.figures.loss)
    members = state.counted if state.round == 0 else state.members
    return _go_on(replace(state, closed=state.round, members=members, losses=losses))


def _go_on(state: RunState) -> Decision:
    """After a closed round: end the run, or wait for the nodes of the next."""
    rules, accuracy = state.rules, state.figures.accuracy if state.figures else None
    if state.stop_requested:
        return _end_stopped(state)
    if rules.target_accuracy is not None and accuracy is not None and accuracy >= rules.target_accuracy:
        return _end_well(
            state,
            RunStatus.CONVERGED,
            f"accuracy {accuracy:.4g} reached target_accuracy {rules.target_accuracy:g} "
            f"after round {state.closed}",
        )
    rule = rules.convergence
    if rule is not None and converged(state.losses, rule.threshold, rule.patience):
        return _end_well(
            state, RunStatus.CONVERGED, f"the loss no longer improves after round {state.closed}"
        )
    if state.closed >= rules.rounds:
        return _end_well(state, RunStatus.COMPLETED, f"all {rules.rounds} rounds done")
    following = RoundNumber(state.closed + 1)
    waiting = RunState(rules, Phase.WAITING, following, closed=state.closed, members=state.members)
    return replace(waiting, losses=state.losses), ()


def _stop(state: RunState) -> Decision:
    """Stop at once, abandoning an open exchange; what is being committed is committed first."""
    if state.phase in (Phase.WAITING, Phase.EXCHANGE):
        return _end_stopped(state)
    return state, ()


def _end_stopped(state: RunState) -> Decision:
    return _end_well(state, RunStatus.STOPPED, "stopped on request")


def _end_well(state: RunState, status: RunStatus, message: str) -> Decision:
    if state.closed < 1:
        return _end(
            state, FinishRun(status, f"{message}; no training round was closed, so there is no new version")
        )
    return _end(state, PublishVersion(RoundNumber(state.closed), status, message))


def _end(state: RunState, action: PublishVersion | FinishRun | FailRun) -> Decision:
    return replace(state, phase=Phase.ENDING), (action,)


def _is_required(state: RunState) -> bool:
    return state.asked is not None and state.asked.required


def _outstanding(state: RunState) -> Names:
    return state.cohort - state.answered - {loss.node for loss in state.lost}


def _drop(state: RunState, nodes: Names) -> RunState:
    dropped = tuple(Loss(node, Outcome.DROPPED, TIMED_OUT) for node in sorted(nodes))
    return replace(state, lost=(*state.lost, *dropped))


def _join(message: str, reasons: Iterable[Loss | Absence]) -> str:
    listed = "; ".join(describe(one.node, one.reason) for one in reasons)
    return f"{message} ({listed})" if listed else message
