"""The machine of asynchronous runs: a round closes with the first K updates that come, whenever asked for.

After Nguyen et al. 2022 ("Federated Learning with Buffered Asynchronous Aggregation", AISTATS, algorithm 1).
Nodes that are free are asked to train from the newest model when a round opens; nobody waits for those that
are still at work. An update belongs to the round in which its node was asked, and is taken by the one that is
open when it comes, or the next; how many rounds later that is, is its staleness.

What always holds, whatever the order of events and wherever the coordinator is killed, beside what holds of
the synchronous machine (round.py), which drives all but the training exchange:

* A round closes with K updates, of K nodes; no update is taken by two rounds.
* A node is asked anew only once what became of its last task is committed, with the round that takes its
  update or, where it is lost, with the next that opens. So a run that is rebuilt from committed rows asks
  every node for what it was asked before, and what had arrived and was not committed comes again.
* No update is staler than `most_stale` says: whoever is at work for longer is asked anew when a round opens.
* It ends, or waits for nodes that are away: every task has a deadline, and a round that can have K updates no
  more ends as a synchronous one with too few. Where it is presence alone that is wanting, all that nothing is
  committed of is asked again, as after a restart, once enough of those who were asked are there.

What follows training in a round is asked of the half of the buffer that was least stale, so that a slow node
holds up no evaluation; as few as were asked are enough for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from heliosdb.domain import round as synchronous
from heliosdb.domain.buffer import Asked, Buffer, names
from heliosdb.domain.events import (
    NOBODY,
    TIMED_OUT,
    Action,
    AskAgain,
    CloseRound,
    Combine,
    Combined,
    DeadlinePassed,
    Event,
    Loss,
    Names,
    NodeLost,
    NodesAway,
    NodesSeen,
    OpenRound,
    RoundClosed,
    RoundOpened,
    SendTasks,
    UpdateArrived,
    Wait,
    WaitedTooLong,
)
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.progress import Progress
from heliosdb.domain.quorum import with_reasons
from heliosdb.domain.run import Outcome
from heliosdb.domain.run_state import Decision, Phase, Rules, RunState
from heliosdb.domain.wording import counted

MOST_TURNS = 10
"""How many times as long as the buffer takes to go round all nodes an update may take."""

_OVER = (Phase.ENDING, Phase.ENDED)


def most_stale(nodes: int, buffer: int) -> int:
    """Return how stale an update may be, of so many nodes of which so many close a round.

    Nodes of equal speed take turns: each is in every (nodes / buffer)th round. One that is MOST_TURNS times
    slower still counts.
    """
    return MOST_TURNS * -(-nodes // buffer)


def resume(rules: Rules, progress: Progress) -> Decision:
    """Rebuild a run from its committed rows, and say what to do first."""
    state, actions = synchronous.resume(rules, progress)
    if not rules.buffer or state.phase in _OVER:
        return state, actions
    tasks = frozenset(Asked(number, node) for node, number in progress.at_work.items())
    state = replace(state, buffer=Buffer(tasks))
    again = _asked_before(tasks, state)
    # Of nodes that were unregistered meanwhile nothing comes any more.
    state, more = _judge(state)
    return state, (*again, *actions, *more)


def decide(state: RunState, event: Event) -> Decision:
    """Return what the run has become and what is to be done; an event out of its time changes nothing."""
    if not state.rules.buffer or state.round == 0 or state.phase in _OVER:
        return synchronous.decide(state, event)
    match event:
        case UpdateArrived(exchange=0) | NodeLost(exchange=0) | DeadlinePassed(exchange=0) if (
            state.phase is Phase.AWAY
        ):
            # All of it is asked again.
            decision: Decision = state, ()
        case UpdateArrived(exchange=0) | NodeLost(exchange=0) | DeadlinePassed(exchange=0):
            decision = _judge(replace(state, buffer=_heard(state.buffer, event)))
        case NodesAway(exchange=0):
            decision = _break_off(state, event)
        case NodesSeen() if state.phase is Phase.WAITING:
            decision = _gather(state, event)
        case NodesSeen() | WaitedTooLong() if state.phase is Phase.AWAY:
            decision = _gather_again(state, event)
        case RoundOpened() if state.phase is Phase.OPENING and event.round == state.round:
            decision = _opened(state, event)
        case Combined(exchange=0) if state.phase is Phase.COMBINING and event.round == state.round:
            asked = _least_stale(state)
            decision = _with_fewer(replace(state, answered=asked), event, len(asked))
        case _:
            decision = _in_step(state, event)
    return _holding(decision)


def _heard(buffer: Buffer, event: UpdateArrived | NodeLost | DeadlinePassed) -> Buffer:
    """Take in what has become of tasks; of those that nobody waits for it changes nothing."""
    match event:
        case UpdateArrived(round=number, node=node) if Asked(number, node) in buffer.at_work:
            return buffer.arrived(Asked(number, node))
        case NodeLost(round=number, loss=loss) if Asked(number, loss.node) in buffer.at_work:
            return buffer.without(Asked(number, loss.node), loss)
        case DeadlinePassed(round=number, final=True):
            return _drop(buffer, _of(buffer.at_work, number), TIMED_OUT)
        case DeadlinePassed(round=number, final=False) if _of(buffer.at_work, number):
            return replace(buffer, overdue=buffer.overdue | {number})
    return buffer


def _judge(state: RunState) -> Decision:
    """See whether the round is full, or can be no more."""
    if not _trains(state):
        return state, ()
    size, buffer = state.rules.buffer, state.buffer.fill(state.rules.buffer)
    late = frozenset(task for task in buffer.at_work if task.round in buffer.overdue)
    if late and buffer.coming - len(late) >= size:
        buffer = replace(_drop(buffer, late, TIMED_OUT), overdue=frozenset())
    state = replace(state, buffer=buffer, answered=names(buffer.taken))
    if len(buffer.taken) == size:
        action = Combine(state.round, 0, state.answered, _least_stale(state))
        state = replace(state, lost=buffer.gone, buffer=replace(buffer, gone=()))
        return replace(state, phase=Phase.COMBINING, counted=state.answered), (action,)
    return (state, ()) if buffer.coming >= size else _give_up(state)


def _break_off(state: RunState, event: NodesAway) -> Decision:
    """Wait for nodes where the round cannot be filled without those that are away."""
    buffer, size = state.buffer, state.rules.buffer
    away = [one for one in event.absent if one.node in names(buffer.at_work)]
    if not _trains(state) or not away or buffer.coming - len(away) >= size:
        return state, ()
    message = f"waiting for nodes: {len(buffer.taken)} of {counted(size, 'update')} needed arrived"
    state = replace(state, phase=Phase.AWAY, answered=NOBODY, buffer=buffer.again())
    return state, (Wait(with_reasons(message, away)),)


def _gather_again(state: RunState, event: NodesSeen | WaitedTooLong) -> Decision:
    """Ask everybody again for what was not committed, once enough of them are there."""
    # Whoever refused will do so again, and is asked for the sake of what is recorded.
    usable = replace(state, cohort=names(state.buffer.at_work))
    decided, actions = _with_fewer(usable, event, state.rules.buffer)
    if decided.phase is not Phase.EXCHANGE:
        return replace(decided, cohort=state.cohort), actions
    gone = frozenset(Asked(loss.asked, loss.node) for loss in state.buffer.gone if loss.asked is not None)
    tasks = state.buffer.at_work | gone
    fresh = names(_of(tasks, state.round))
    sent = (replace(one, nodes=fresh) if isinstance(one, SendTasks) else one for one in actions)
    state = replace(decided, cohort=fresh, buffer=Buffer(tasks))
    return state, (*_asked_before(tasks, state), *sent)


def _asked_before(tasks: frozenset[Asked], state: RunState) -> tuple[Action, ...]:
    """Ask again for tasks of rounds before the one that trains."""
    earlier = sorted({task.round for task in tasks} - ({state.round} if _trains(state) else set()))
    return tuple(AskAgain(number, names(_of(tasks, number))) for number in earlier)


def _give_up(state: RunState) -> Decision:
    """End as a synchronous round does of whose nodes too few are left."""
    *lost, last = state.buffer.gone or (None,)
    cohort = state.answered | state.buffer.busy | {loss.node for loss in state.buffer.gone}
    state = replace(state, cohort=cohort, lost=tuple(loss for loss in lost if loss is not None))
    happened: Event = DeadlinePassed(state.round, 0, final=True)
    if last is not None:
        happened = NodeLost(state.round, 0, last)
    return _with_fewer(state, happened, state.rules.buffer)


def _gather(state: RunState, event: Event) -> Decision:
    """Open the round where enough are there: those that are free are asked, and those that are too stale."""
    state, actions = synchronous.decide(state, event)
    match actions:
        case (OpenRound(number, cohort),):
            most = most_stale(len(state.members or NOBODY), state.rules.buffer)
            stale = frozenset(task for task in state.buffer.at_work if number - task.round > most)
            buffer = _drop(state.buffer, stale, f"trained for more than {counted(most, 'round')}")
            asked, lost = cohort - buffer.busy, buffer.gone
            state = replace(state, cohort=asked, buffer=replace(buffer, gone=()))
            actions = (OpenRound(number, asked, lost),)
    return state, actions


def _opened(state: RunState, event: RoundOpened) -> Decision:
    """The free nodes train; the round may be full already of what came meanwhile."""
    asked = frozenset(Asked(event.round, node) for node in state.cohort)
    buffer = replace(state.buffer, at_work=state.buffer.at_work | asked)
    state, actions = synchronous.decide(replace(state, buffer=buffer), event)
    state, more = _judge(state)
    return state, (*actions, *more)


def _in_step(state: RunState, event: Event) -> Decision:
    """What is asked of the nodes that are free goes as in a synchronous run of them alone."""
    needed = state.rules.min_nodes_per_round
    if state.exchange > 0:
        needed = min(needed, max(1, len(state.cohort)))
    state, actions = _with_fewer(state, event, needed)
    if isinstance(event, RoundClosed) and state.closed == event.round:
        state = replace(state, buffer=replace(state.buffer, taken=()))
    return state, actions


def _with_fewer(state: RunState, event: Event, needed: int) -> Decision:
    """Let the synchronous machine decide, with another number of nodes that are enough."""
    rules = state.rules
    decided, actions = synchronous.decide(
        replace(state, rules=replace(rules, min_nodes_per_round=needed)), event
    )
    return replace(decided, rules=rules), actions


def _least_stale(state: RunState) -> Names:
    """Return the half of the open round's nodes that was asked last, and all that were asked with them."""
    asked = sorted((task.round for task in state.buffer.taken), reverse=True)
    least = asked[(len(asked) - 1) // 2]
    return frozenset(task.node for task in state.buffer.taken if task.round >= least)


def _holding(decision: Decision) -> Decision:
    """Have a round that closes keep the models with which tasks under way begin."""
    state, actions = decision
    kept: list[Action] = [
        replace(action, held=state.buffer.held) if isinstance(action, CloseRound) else action
        for action in actions
    ]
    return state, tuple(kept)


def _trains(state: RunState) -> bool:
    return state.round > 0 and state.phase is Phase.EXCHANGE and state.exchange == 0


def _of(tasks: Iterable[Asked], number: RoundNumber) -> frozenset[Asked]:
    return frozenset(task for task in tasks if task.round == number)


def _drop(buffer: Buffer, tasks: frozenset[Asked], why: str) -> Buffer:
    for task in sorted(tasks):
        buffer = buffer.without(task, Loss(task.node, Outcome.DROPPED, why))
    return buffer
