"""The round machine: what a run does next, as a pure function of what it has seen.

What always holds, whatever the order of events and wherever the coordinator is killed:

* No round closes with fewer than `min_nodes_per_round` updates, and none is closed twice: `CloseRound` is
  asked for once, after `Combine` over a set of that size, and a closed round is never opened again.
* Whoever's group of a sum is left out counts no more in that sum, and is asked nothing further in it.
* An update counts only while its own exchange is open: one that comes late, twice, from a stranger, or for
  another round or exchange changes nothing. Of a sum of updates all count, or none.
* Nothing that depends on a set of updates leaves the coordinator before that set is committed: the next round
  opens after `RoundClosed`, and the next exchange of a round is asked for after `Combined`, whose result the
  shell has stored where something follows. So an interrupted run, rebuilt by `resume` from committed rows
  alone, asks the nodes nothing but what they were asked before.
* What ends a run is known before its last round is closed: where the run then publishes a version, and its
  rules say so, a report of that version is asked for in one more exchange, without which the round stands.
* It ends, or waits for nodes that are away, and says for whom: the start and every exchange have a deadline,
  every other phase waits for one answer of the shell, and a round has a bounded number of exchanges. Once
  round 0 is closed, what lacks the presence of nodes alone waits for them until somebody types STOP; an
  exchange that was broken off for that is asked again of the same nodes, as after a restart. Else (round,
  exchange, phase) only goes forward.

It knows no step by name: the shell says with which one a round begins and which one follows.

The shell performs the actions in order and answers with events; it owns time, network and database.
"""

from __future__ import annotations

from dataclasses import replace

from heliosdb.domain.convergence import (
    Trace,
    best_round,
    converged,
    diverged,
    ended_diverged,
    losses_of,
    measured,
    risen,
)
from heliosdb.domain.events import (
    NOBODY,
    TIMED_OUT,
    BudgetWouldBeExceeded,
    CloseRound,
    Combine,
    Combined,
    DeadlinePassed,
    Event,
    FailRun,
    FinishRun,
    Loss,
    Names,
    Next,
    NodeLost,
    NodesAway,
    NodesSeen,
    OpenRound,
    PrepareReport,
    ProblemFound,
    PublishVersion,
    ReportLeftOut,
    ReportPrepared,
    RoundClosed,
    RoundOpened,
    RunEnded,
    Say,
    SendTasks,
    StopRequested,
    SumArrived,
    TrainingDiverged,
    UpdateArrived,
    Wait,
    WaitedTooLong,
)
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.progress import Progress
from heliosdb.domain.quorum import call_roll, with_reasons
from heliosdb.domain.run import Outcome, RunStatus
from heliosdb.domain.run_state import Decision, Phase, Rules, RunState
from heliosdb.domain.task import MOST_EXCHANGES
from heliosdb.domain.wording import counted

_SPENDING = (Phase.OPENING, Phase.COMBINING)
_WAITING = (Phase.WAITING, Phase.AWAY)


def begin(rules: Rules) -> RunState:
    """Return the state of a run that has done nothing yet."""
    return RunState(rules, Phase.WAITING, RoundNumber(0))


def resume(rules: Rules, progress: Progress) -> Decision:
    """Rebuild a run from its committed rows, and say what to do first."""
    state = replace(
        begin(rules),
        members=progress.members,
        trace=progress.trace,
        stop_requested=progress.stop_requested,
        closed=progress.closed,
        round=RoundNumber(max(progress.closed, 0)),
        figures=progress.figures,
        ended=progress.ended,
    )
    if progress.opened is None:
        return (state, ()) if progress.closed < 0 else _go_on(state)
    opened = progress.opened
    state = replace(state, round=opened.round, figures=opened.figures, counted=opened.counted)
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
        case NodesSeen() | WaitedTooLong() if state.phase in _WAITING and event.round == state.round:
            decision = _gather(state, event) if state.phase is Phase.WAITING else _gather_again(state, event)
        case RoundOpened(round, first) if state.phase is Phase.OPENING and round == state.round:
            decision = _send(state, 0, first, state.cohort)
        case BudgetWouldBeExceeded(round, reason) if round == state.round and state.phase in _SPENDING:
            decision = _end_well(state, RunStatus.BUDGET_EXHAUSTED, reason)
        case TrainingDiverged(round, reason) if round == state.round and state.phase is Phase.COMBINING:
            decision = _end_diverged(state, reason)
        case UpdateArrived() | SumArrived() | NodeLost() | NodesAway() | DeadlinePassed() if (
            state.phase is Phase.EXCHANGE
        ):
            decision = _exchange(state, event)
        case Combined() if state.phase is Phase.COMBINING:
            decision = _combined(state, event)
        case ReportPrepared() | ReportLeftOut() if state.phase is Phase.REPORTING:
            decision = _prepared(state, event)
        case RoundClosed(round) if state.phase is Phase.CLOSING and round == state.round:
            decision = _closed(state)
    return decision


def _gather(state: RunState, event: NodesSeen | WaitedTooLong) -> Decision:
    """Open the round once enough nodes are there."""
    rules, needed = state.rules, state.rules.min_nodes_per_round
    if state.round == 0:
        needed = max(needed, rules.min_nodes)
    roll = call_roll(event, state.members, needed, rules.needed)
    if isinstance(event, WaitedTooLong) and not (state.round > 0 and roll.may_suffice):
        return _end(state, FailRun(roll.fails(f"round {state.round} could not start")))
    if isinstance(event, WaitedTooLong) or not roll.suffices:
        return state, (Wait(roll.waits()),)
    cohort = rules.choice.choose(roll.able, state.round, event.known)
    return replace(state, phase=Phase.OPENING, cohort=cohort), (OpenRound(state.round, cohort),)


def _gather_again(state: RunState, event: NodesSeen | WaitedTooLong) -> Decision:
    """Ask an exchange again that was broken off, once enough of its nodes are there."""
    assert state.asked is not None
    # Whoever refused will do so again.
    usable = state.cohort - {loss.node for loss in state.lost}
    roll = call_roll(event, usable, state.rules.min_nodes_per_round, state.rules.needed & state.cohort)
    if isinstance(event, WaitedTooLong) and not roll.may_suffice:
        return _end(state, FailRun(roll.fails(f"round {state.round} could not go on")))
    if isinstance(event, WaitedTooLong) or not roll.suffices:
        return state, (Wait(roll.waits()),)
    state, actions = _send(state, state.exchange, state.asked, state.cohort)
    return state, (Say(f"round {state.round} of {state.rules.rounds}"), *actions)


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
        return _close(state) if asked.reports else _end_stopped(state)
    about = _about_to_publish(state) if asked.reports else None
    about = None if about == state.round else about
    return state, (SendTasks(state.round, exchange, asked.step, nodes, about),)


def _exchange(
    state: RunState, event: UpdateArrived | SumArrived | NodeLost | NodesAway | DeadlinePassed
) -> Decision:
    if (event.round, event.exchange) != (state.round, state.exchange):
        return state, ()
    open_nodes = _outstanding(state)
    match event:
        case NodesAway():
            return _break_off(state, event)
        case UpdateArrived(node=node) if node in open_nodes:
            state = replace(state, answered=state.answered | {node})
        case SumArrived(nodes=nodes) if nodes and nodes <= open_nodes:
            state = replace(state, answered=state.answered | nodes)
        case NodeLost(loss=loss) if loss.node in open_nodes:
            state = replace(state, lost=(*state.lost, loss))
        case DeadlinePassed(final=True):
            state = _drop(state, open_nodes)
        case DeadlinePassed(final=False):
            state = replace(state, stragglers_dropped=True)
        case _:
            return state, ()
    return _judge(state)


def _break_off(state: RunState, event: NodesAway) -> Decision:
    """Wait for nodes where their presence alone is wanting; else the exchange goes on as it would."""
    rules, arrived, outstanding = state.rules, state.answered, _outstanding(state)
    away = [one for one in event.absent if one.node in outstanding]
    if not away or not (event.final or len(away) == len(outstanding)):
        return state, ()
    wanted, hoped = rules.needed & state.cohort, arrived | {one.node for one in away}
    suffices = len(arrived) >= rules.min_nodes_per_round and wanted <= arrived
    may_suffice = len(hoped) >= rules.min_nodes_per_round and wanted <= hoped
    if state.round > 0 and _is_required(state) and may_suffice and not suffices:
        needed = counted(rules.min_nodes_per_round, "update")
        message = f"waiting for nodes: {len(arrived)} of {needed} needed arrived"
        return replace(state, phase=Phase.AWAY), (Wait(with_reasons(message, away)),)
    # Until the deadline, at which it goes on without them, or ends.
    said = with_reasons(f"round {state.round} of {rules.rounds}: waiting for nodes", away)
    return state, () if event.final else (Say(said),)


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
    arrived = f"round {state.round}: {len(state.answered)} of {counted(needed, 'update')} needed arrived"
    reason = with_reasons(arrived, sorted(state.lost, key=lambda loss: loss.node))
    gone = not state.answered or (state.trace and state.trace[-1].is_useless)
    if state.round > 0 and gone and all(loss.diverging for loss in state.lost):
        return _end_diverged(
            state, f"{reason}; where updates are meant to be that large, raise max_update_norm"
        )
    if len(state.cohort) - sum(loss.over_budget for loss in state.lost) < needed:
        return _end_well(state, RunStatus.BUDGET_EXHAUSTED, reason)
    # Said once, however many nodes say it.
    hints = sorted({loss.hint for loss in state.lost if loss.hint is not None})
    return _end(state, FailRun(". ".join([reason, " ".join(hints)]) if hints else reason))


def _combined(state: RunState, event: Combined) -> Decision:
    if (event.round, event.exchange) != (state.round, state.exchange):
        return state, ()
    without = tuple(loss for loss in event.left_out if loss.node in state.answered)
    left, needed = state.answered - {loss.node for loss in without}, state.rules.min_nodes_per_round
    enough = len(left) >= needed
    if without and _is_required(state) and not enough:
        return _give_up(replace(state, answered=left, lost=(*state.lost, *without)), needed)
    if event.following is not None:
        return _follow(state, event.following, left)
    # Kept from the exchange before where a report was all that was missing.
    state = replace(state, ended=event.ended or state.ended)
    if state.asked is not None and state.asked.reports:
        return _close(state, is_reported=enough)
    state = replace(state, figures=event.figures if enough else None)
    may_report = state.rules.reports and enough and state.exchange + 1 < MOST_EXCHANGES
    if may_report and not state.stop_requested and _about_to_publish(state) is not None:
        action = PrepareReport(state.round, state.exchange, state.answered, state.figures)
        return replace(state, phase=Phase.REPORTING), (action,)
    return _close(state)


def _follow(state: RunState, asked: Next, nodes: Names) -> Decision:
    """Ask for the round's next exchange."""
    if state.exchange + 1 >= MOST_EXCHANGES:
        return _end(state, FailRun(f"round {state.round} has no end: {MOST_EXCHANGES} exchanges"))
    return _send(state, state.exchange + 1, asked, nodes)


def _prepared(state: RunState, event: ReportPrepared | ReportLeftOut) -> Decision:
    """Ask for the report, or close the round without it."""
    if event.round != state.round:
        return state, ()
    if isinstance(event, ReportLeftOut):
        return _close(state)
    return _send(state, state.exchange + 1, event.asked, state.answered)


def _close(state: RunState, *, is_reported: bool = False) -> Decision:
    state = replace(state, phase=Phase.CLOSING)
    return state, (CloseRound(state.round, state.figures, _chosen(state, _traced(state)), is_reported),)


def _about_to_publish(state: RunState) -> RoundNumber | None:
    """Return which round's model a run publishes that ends when the open round is closed; None where it goes
    on, or publishes none."""
    for action in _closed(state)[1]:
        if isinstance(action, PublishVersion):
            return action.round
    return None


def _traced(state: RunState) -> Trace:
    return (*state.trace, *measured(state.round, state.figures, noised=state.rules.noised))


def _closed(state: RunState) -> Decision:
    members = state.counted if state.round == 0 else state.members
    return _go_on(replace(state, closed=state.round, members=members, trace=_traced(state)))


def _go_on(state: RunState) -> Decision:
    """After a closed round: end the run, or wait for the nodes of the next."""
    rules = state.rules
    if state.stop_requested:
        return _end_stopped(state)
    if state.ended is not None:
        status = RunStatus.CONVERGED if state.ended.converged else RunStatus.COMPLETED
        return _end(state, PublishVersion(RoundNumber(state.closed), status, state.ended.reason))
    is_last = state.closed >= rules.rounds
    if (ended_diverged if is_last else diverged)(state.trace, rules.patience):
        return _end_diverged(state, f"training diverged in round {state.closed}: {losses_of(state.trace)}")
    ended = _reached(state)
    if ended is not None:
        return _end_well(state, *ended)
    if is_last:
        return _end_well(state, RunStatus.COMPLETED, _all_done(rules.rounds))
    following = RoundNumber(state.closed + 1)
    waiting = RunState(rules, Phase.WAITING, following, closed=state.closed, members=state.members)
    return replace(waiting, trace=state.trace, buffer=state.buffer), ()


def _reached(state: RunState) -> tuple[RunStatus, str] | None:
    """Say how the figures end a run that has gone well, None where they do not."""
    rules, found = state.rules, state.figures
    if rules.target_accuracy is not None and found is not None and found.accuracy is not None:
        # Of the same rows without noise the accuracy is known; with noise it is not to be a lucky draw.
        least = found.accuracy - (2.0 * (found.accuracy_error or 0.0) if rules.noised else 0.0)
        if least >= rules.target_accuracy:
            said = f"accuracy {found.accuracy:.4g} reached target_accuracy {rules.target_accuracy:g}"
            return RunStatus.CONVERGED, f"{said} after round {state.closed}"
    if rules.threshold is None:
        return None
    if converged(state.trace, rules.threshold, rules.patience):
        return RunStatus.CONVERGED, f"the loss no longer improves after round {state.closed}"
    if risen(state.trace, rules.threshold, rules.patience):
        return (
            RunStatus.COMPLETED,
            f"the loss has risen again by round {state.closed}: {losses_of(state.trace)}",
        )
    return None


def _stop(state: RunState) -> Decision:
    """Stop at once, abandoning an open exchange; what is being committed is committed first, and a round of
    which only the report is missing is closed."""
    if state.phase is Phase.EXCHANGE and state.asked is not None and state.asked.reports:
        return _close(state)
    if state.phase in (*_WAITING, Phase.EXCHANGE):
        return _end_stopped(state)
    return state, ()


def _end_stopped(state: RunState) -> Decision:
    return _end_well(state, RunStatus.STOPPED, "stopped on request")


def _end_well(state: RunState, status: RunStatus, message: str) -> Decision:
    if state.closed < 1:
        return _end(
            state, FinishRun(status, f"{message}; no training round was closed, so there is no new version")
        )
    return _publish(state, status, message)


def _end_diverged(state: RunState, reason: str) -> Decision:
    """End a run that has gone away, with its best round where that is of use."""
    rate, best = state.rules.learning_rate, best_round(state.trace)
    if rate is not None:
        reason += f"; learning_rate is {rate:g}, and a tenth of it is worth trying"
    if state.rules.keep_best and best is not None and best.is_useful:
        return _publish(state, RunStatus.DIVERGED, reason)
    kept = "no round is better than the base rate" if state.rules.keep_best else "keep_best is false"
    return _end(state, FinishRun(RunStatus.DIVERGED, f"{reason}; {kept}, so there is no new version"))


def _all_done(rounds: int) -> str:
    return "the only round done" if rounds == 1 else f"all {rounds} rounds done"


def _publish(state: RunState, status: RunStatus, message: str) -> Decision:
    chosen = _chosen(replace(state, round=RoundNumber(state.closed)), state.trace)
    if chosen != state.closed:
        what = "published" if state.rules.publishes else "judged by"
        message += f"; {what} round {chosen} of {state.closed}"
    useless = next((one for one in state.trace if one.round == chosen and one.is_useless), None)
    if useless is not None and status is not RunStatus.DIVERGED:
        message += (
            f"; its loss is {useless.loss:.3g} times that of the base rate,"
            " which more rounds or another learning_rate may mend"
        )
    return _end(state, PublishVersion(chosen, status, message))


def _chosen(state: RunState, trace: Trace) -> RoundNumber:
    """Return the round that would be published: the best, or the state's own."""
    best = best_round(trace) if state.rules.keep_best else None
    return state.round if best is None else best.round


def _end(state: RunState, action: PublishVersion | FinishRun | FailRun) -> Decision:
    return replace(state, phase=Phase.ENDING), (action,)


def _is_required(state: RunState) -> bool:
    return state.asked is not None and state.asked.required


def _outstanding(state: RunState) -> Names:
    return state.cohort - state.answered - {loss.node for loss in state.lost}


def _drop(state: RunState, nodes: Names) -> RunState:
    dropped = tuple(Loss(node, Outcome.DROPPED, TIMED_OUT) for node in sorted(nodes))
    return replace(state, lost=(*state.lost, *dropped))
