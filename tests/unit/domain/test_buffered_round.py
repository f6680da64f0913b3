"""The machine of asynchronous runs: which updates make a round, who is asked anew, and that a kill changes neither."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.domain import events as ev
from heliosdb.domain.absence import Absence
from heliosdb.domain.buffer import Asked
from heliosdb.domain.buffered_round import MOST_TURNS, decide, most_stale, resume
from heliosdb.domain.events import (
    NOBODY,
    Action,
    AskAgain,
    CloseRound,
    Combine,
    Event,
    FailRun,
    Figures,
    Loss,
    Names,
    Next,
    OpenRound,
    PublishVersion,
    SendTasks,
)
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.run import Outcome
from heliosdb.domain.run_state import Decision, Phase, Rules, RunState
from tests.unit.domain.played_rounds import MEASURE, SURVEY, TRAIN, Most, n

A, B, C, D = (NodeName(name) for name in "abcd")
ALL = frozenset((A, B, C, D))
RULES = Rules(rounds=3, min_nodes=2, min_nodes_per_round=2, choice=Most(), buffer=2, keep_best=False)


def play(state: RunState, *happened: Event) -> Decision:
    """Feed events one after the other; the actions are those of the last."""
    actions: tuple[Action, ...] = ()
    for event in happened:
        state, actions = decide(state, event)
    return state, actions


def begun(rules: Rules = RULES, *, members: Names = ALL) -> RunState:
    """A run whose first training round is open, and has asked all."""
    state, _ = resume(rules, Progress(closed=0, members=members))
    return play(state, ev.NodesSeen(n(1), members), ev.RoundOpened(n(1), TRAIN))[0]


def arrive(*nodes: NodeName, asked: int = 1) -> Iterable[Event]:
    return (ev.UpdateArrived(n(asked), 0, node) for node in nodes)


def lost(node: NodeName, *, asked: int = 1) -> Event:
    return ev.NodeLost(n(asked), 0, Loss(node, Outcome.REFUSED, "refused"))


def deadline(*, final: bool, asked: int = 1) -> Event:
    return ev.DeadlinePassed(n(asked), 0, final)


def next_round(state: RunState, *, present: Names = ALL) -> Decision:
    """Close the round that is being combined, without an evaluation, and open the next one."""
    number = state.round
    state, _ = play(state, ev.Combined(number, 0), ev.RoundClosed(number))
    return play(state, ev.NodesSeen(n(number + 1), present))


def test_a_round_closes_with_the_first_updates_that_come() -> None:
    state, actions = play(begun(), *arrive(C))
    assert actions == ()

    state, actions = play(state, *arrive(A))

    assert actions == (Combine(n(1), 0, frozenset((A, C)), frozenset((A, C))),)
    _, actions = decide(state, ev.Combined(n(1), 0))
    assert actions == (CloseRound(n(1), None, n(1), held=frozenset((n(0),))),)


def test_the_next_round_asks_those_that_are_free_and_leaves_the_others_at_work() -> None:
    state, actions = next_round(play(begun(), *arrive(A, C))[0])

    assert actions == (OpenRound(n(2), frozenset((A, C))),)
    state, actions = decide(state, ev.RoundOpened(n(2), TRAIN))
    assert actions == (SendTasks(n(2), 0, TRAIN.step, frozenset((A, C))),)
    assert state.buffer.at_work == {Asked(n(1), B), Asked(n(1), D), Asked(n(2), A), Asked(n(2), C)}


def test_a_late_update_is_taken_by_the_round_that_is_open_when_it_comes() -> None:
    state, _ = next_round(play(begun(), *arrive(A, C))[0])

    state, actions = play(state, ev.RoundOpened(n(2), TRAIN), *arrive(D), *arrive(A, asked=2))

    assert actions == (Combine(n(2), 0, frozenset((A, D)), frozenset((A,))),)
    assert state.buffer.taken == (Asked(n(1), D), Asked(n(2), A))


def test_what_comes_while_no_round_is_open_fills_the_next_at_once() -> None:
    state, _ = play(begun(), *arrive(A, C), *arrive(B, D))
    assert state.buffer.waiting == (Asked(n(1), B), Asked(n(1), D))

    state, actions = next_round(state)
    assert actions == (OpenRound(n(2), frozenset((A, C))),)
    state, actions = decide(state, ev.RoundOpened(n(2), TRAIN))

    assert actions == (
        SendTasks(n(2), 0, TRAIN.step, frozenset((A, C))),
        Combine(n(2), 0, frozenset((B, D)), frozenset((B, D))),
    )


def test_what_follows_is_asked_of_the_half_that_was_least_stale() -> None:
    state, _ = next_round(play(begun(), *arrive(A, C))[0])
    state, _ = play(state, ev.RoundOpened(n(2), TRAIN), *arrive(B), *arrive(C, asked=2))

    state, actions = decide(state, ev.Combined(n(2), 0, following=MEASURE))
    assert actions == (SendTasks(n(2), 1, MEASURE.step, frozenset((C,))),)
    state, _ = decide(state, ev.UpdateArrived(n(2), 1, C))
    _, actions = decide(state, ev.Combined(n(2), 1, Figures(0.5, 0.9)))

    assert actions == (CloseRound(n(2), Figures(0.5, 0.9), n(2), held=frozenset((n(0), n(1)))),)


def test_an_update_that_comes_during_an_evaluation_is_no_answer_to_it() -> None:
    state, _ = play(begun(), *arrive(A, C))
    state, _ = decide(state, ev.Combined(n(1), 0, following=MEASURE))

    state, actions = play(state, *arrive(B))

    assert (state.answered, actions) == (NOBODY, ())
    assert state.buffer.waiting == (Asked(n(1), B),)


def test_a_node_is_asked_anew_only_once_what_became_of_its_task_is_committed() -> None:
    state, _ = play(begun(), *arrive(A, C))
    state, actions = next_round(play(state, lost(B), *arrive(D))[0])

    gone = Loss(B, Outcome.REFUSED, "refused", asked=n(1))
    assert actions == (OpenRound(n(2), frozenset((A, B, C)), (gone,)),)
    assert state.buffer.gone == ()


def test_what_is_lost_while_a_round_is_open_is_recorded_with_it() -> None:
    state, _ = play(begun(), lost(B), *arrive(A, C))

    assert state.lost == (Loss(B, Outcome.REFUSED, "refused", asked=n(1)),)
    assert state.buffer.gone == ()


def test_stragglers_are_done_without_once_the_others_are_enough() -> None:
    three = replace(RULES, buffer=3)
    state, _ = play(begun(three), *arrive(A, B), deadline(final=False))
    assert state.buffer.at_work == {Asked(n(1), C), Asked(n(1), D)}

    state, _ = play(begun(three), *arrive(A, B, C))
    state, _ = next_round(state)
    state, _ = play(state, ev.RoundOpened(n(2), TRAIN), deadline(final=False))

    assert state.buffer.at_work == {Asked(n(2), one) for one in (A, B, C)}
    assert state.buffer.gone == (Loss(D, Outcome.DROPPED, ev.TIMED_OUT, asked=n(1)),)


def test_a_round_that_cannot_be_filled_any_more_ends_the_run_and_says_why() -> None:
    state, _ = play(begun(replace(RULES, buffer=3)), *arrive(A), lost(B), lost(C))
    assert state.phase is Phase.ENDING

    _, actions = play(begun(replace(RULES, buffer=3)), *arrive(A), lost(B), deadline(final=True))

    (action,) = actions
    assert isinstance(action, FailRun)
    assert action.reason.startswith("round 1: 1 of 3 updates needed arrived (b: refused; c: timed out; d")


def test_whoever_is_at_work_for_too_long_is_asked_anew() -> None:
    assert most_stale(4, 2) == 2 * MOST_TURNS
    assert most_stale(5, 2) == 3 * MOST_TURNS
    rules, most = replace(RULES, rounds=100), most_stale(4, 2)
    state = begun(rules)
    for number in range(1, most + 2):
        state, _ = play(state, *arrive(A, B, asked=number))
        state, actions = next_round(state)
        (action,) = actions
        assert isinstance(action, OpenRound)
        assert action.cohort == ({A, B} if number <= most else ALL)
        state, _ = decide(state, ev.RoundOpened(n(number + 1), TRAIN))

    assert [loss.node for loss in action.lost] == [C, D]
    assert action.lost[0].reason == "trained for more than 20 rounds"


def away(*gone: NodeName, asked: int = 1, final: bool = False) -> Event:
    return ev.NodesAway(n(asked), 0, tuple(Absence(node, "away") for node in gone), final)


def waiting_for_nodes() -> Decision:
    """A run whose second round has one update, of round 1; A and C, which it has asked, are away."""
    state, _ = next_round(play(begun(), *arrive(A, C))[0])
    return play(state, ev.RoundOpened(n(2), TRAIN), *arrive(D), lost(B), away(A, C, asked=2))


def test_a_round_that_lacks_the_presence_of_nodes_alone_waits_for_them() -> None:
    state, actions = waiting_for_nodes()

    assert state.phase is Phase.AWAY
    assert actions == (ev.Wait("waiting for nodes: 1 of 2 updates needed arrived (a: away; c: away)"),)
    # Its time is over for no task that is asked again.
    assert play(state, *arrive(A, asked=2), deadline(final=True), lost(C, asked=2)) == (state, ())


def test_what_is_not_committed_is_asked_again_once_enough_are_there() -> None:
    waiting, _ = waiting_for_nodes()
    # B refused: it is none of the two that it takes.
    state, (action,) = decide(waiting, ev.NodesSeen(n(2), frozenset((B, D))))
    assert (state.phase, isinstance(action, ev.Wait)) == (Phase.AWAY, True)

    state, actions = decide(waiting, ev.NodesSeen(n(2), frozenset((A, D))))

    assert actions == (
        AskAgain(n(1), frozenset((B, D))),
        ev.Say("round 2 of 3"),
        SendTasks(n(2), 0, TRAIN.step, frozenset((A, C))),
    )
    assert state.buffer.at_work == {Asked(n(1), B), Asked(n(1), D), Asked(n(2), A), Asked(n(2), C)}
    _, (action,) = play(state, *arrive(D), *arrive(A, asked=2))
    assert isinstance(action, Combine)


def test_a_round_that_others_can_fill_goes_on_without_those_that_are_away() -> None:
    state, actions = play(begun(), away(A, B, final=True))

    assert (state.phase, actions) == (Phase.EXCHANGE, ())


def test_a_run_waits_until_as_many_nodes_are_there_as_a_round_takes() -> None:
    state, _ = resume(replace(RULES, min_nodes_per_round=3, buffer=3), Progress(closed=0, members=ALL))

    state, actions = decide(state, ev.NodesSeen(n(1), frozenset((A, B))))

    assert state.phase is Phase.WAITING
    assert actions == (ev.Wait("waiting for nodes: 2 of 3 active, 2 registered"),)


def test_a_rebuilt_run_asks_every_node_for_what_it_was_asked_before() -> None:
    opened = OpenedRound(n(3), 0, TRAIN, frozenset((A,)))
    at_work = {A: n(3), B: n(1), C: n(2), D: n(1)}

    state, actions = resume(RULES, Progress(2, ALL, opened=opened, at_work=at_work))

    assert actions == (
        AskAgain(n(1), frozenset((B, D))),
        AskAgain(n(2), frozenset((C,))),
        SendTasks(n(3), 0, TRAIN.step, frozenset((A,))),
    )
    assert state.buffer.at_work == {Asked(number, node) for node, number in at_work.items()}


def test_a_rebuilt_evaluation_leaves_who_trains_at_work() -> None:
    opened = OpenedRound(n(2), 1, MEASURE, frozenset((A,)))

    _, actions = resume(RULES, Progress(1, ALL, opened=opened, at_work={B: n(2), C: n(1)}))

    assert actions == (
        AskAgain(n(1), frozenset((C,))),
        AskAgain(n(2), frozenset((B,))),
        SendTasks(n(2), 1, MEASURE.step, frozenset((A,))),
    )


@dataclass
class Shell:
    """Performs actions as the coordinator does, on committed rows that survive a kill; answers wait in
    `replies`. evaluates: whether a round has a second exchange. taken: by round, which tasks made it."""

    rules: Rules
    evaluates: bool = True
    progress: Progress = field(default_factory=Progress)
    replies: list[Event] = field(default_factory=list)
    ended_by: list[Action] = field(default_factory=list)
    asked: dict[Asked, None] = field(default_factory=dict)
    taken: dict[int, frozenset[Asked]] = field(default_factory=dict)
    settled: set[Asked] = field(default_factory=set)
    states: set[int] = field(default_factory=set)
    state: RunState = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin, or go on after a kill: all that was not committed is forgotten."""
        self.replies.clear()
        if not self.ended_by:
            self.take(resume(self.rules, self.progress))

    def feed(self, event: Event) -> None:
        self.take(decide(self.state, event))

    def take(self, decision: Decision) -> None:
        self.state, actions = decision
        for action in actions:
            self.perform(action)

    def perform(self, action: Action) -> None:
        match action:
            case OpenRound(number, cohort, losses):
                self.settle(losses)
                first = TRAIN if number else SURVEY
                work = dict(self.progress.at_work)
                if number:
                    assert not cohort & work.keys(), "nobody is asked for two trainings at a time"
                    work |= dict.fromkeys(cohort, number)
                opened = OpenedRound(number, 0, first, cohort)
                self.progress = replace(self.progress, opened=opened, at_work=work)
                self.replies.append(ev.RoundOpened(number, first))
            case SendTasks(number, exchange, _, nodes):
                assert self.progress.opened is not None
                assert self.progress.opened.cohort == nodes
                if number and exchange == 0:
                    self.ask(number, nodes)
            case AskAgain(number, nodes):
                self.ask(number, nodes)
            case Combine(number, exchange, nodes, onward):
                self.combine(number, exchange, nodes, onward or nodes)
            case CloseRound(number, figures, keep, _, held):
                self.close(number, figures, keep, held)
            case _:
                if not isinstance(action, ev.Wait):
                    self.ended_by.append(action)
                    self.replies.append(ev.RunEnded())

    def ask(self, number: RoundNumber, nodes: Names) -> None:
        for node in nodes:
            assert self.progress.at_work[node] == number, "only what is committed is asked"
            self.asked[Asked(number, node)] = None
        assert not nodes or number - 1 in self.states, "the model with which the task begins is there"

    def settle(self, losses: Iterable[Loss]) -> None:
        for loss in losses:
            assert self.progress.at_work[loss.node] == loss.asked
            self.done(Asked(n(loss.asked or 0), loss.node))

    def done(self, task: Asked) -> None:
        assert task not in self.settled, "no task is settled twice"
        self.settled.add(task)
        work = {node: number for node, number in self.progress.at_work.items() if node != task.node}
        self.progress = replace(self.progress, at_work=work)

    def combine(self, number: RoundNumber, exchange: int, nodes: Names, onward: Names) -> None:
        if number == 0 or exchange > 0:
            self.replies.append(ev.Combined(number, exchange, Figures(0.5, 0.5) if exchange else None))
            return
        tasks = frozenset(Asked(self.progress.at_work[node], node) for node in nodes)
        assert len(tasks) == self.rules.buffer
        assert all(number - task.round <= most_stale(4, self.rules.buffer) for task in tasks)
        assert onward <= nodes
        if self.evaluates:
            self.keep(number, tasks, onward)
        self.replies.append(ev.Combined(number, 0, None, MEASURE if self.evaluates else None))

    def keep(self, number: RoundNumber, tasks: frozenset[Asked], onward: Names) -> None:
        self.take_in(number, tasks)
        self.progress = replace(self.progress, opened=OpenedRound(number, 1, MEASURE, onward))

    def take_in(self, number: int, tasks: frozenset[Asked]) -> None:
        assert number not in self.taken, "a round takes its updates once"
        self.taken[number] = tasks
        for task in tasks:
            self.done(task)
        self.settle(self.state.lost)

    def close(self, number: RoundNumber, figures: Figures | None, keep: int, held: Iterable[int]) -> None:
        assert number == self.progress.closed + 1
        if number and number not in self.taken:
            self.take_in(number, frozenset(self.state.buffer.taken))
        members = self.state.answered if number == 0 else self.progress.members
        self.progress = replace(self.progress, closed=number, members=members, figures=figures, opened=None)
        self.states = {number, keep, *held} & {*self.states, number}
        assert {one - 1 for one in self.progress.at_work.values()} <= self.states
        self.replies.append(ev.RoundClosed(number))


NODES = tuple(sorted(ALL))
numbers, nodes = st.integers(1, 4).map(n), st.sampled_from(NODES)
absences = nodes.map(lambda node: Absence(node, "away"))
moves = st.one_of(
    st.sampled_from(["answer", "answer", "kill", "present"]),
    st.tuples(st.just("timely"), nodes),
    st.builds(lost, nodes, asked=st.integers(1, 4)),
    st.builds(ev.UpdateArrived, numbers, st.integers(0, 1), nodes),
    st.builds(ev.DeadlinePassed, numbers, st.integers(0, 1), st.booleans()),
    st.builds(ev.NodesAway, numbers, st.just(0), st.lists(absences, unique=True).map(tuple), st.booleans()),
    st.builds(ev.StopRequested),
)


def make(shell: Shell, move: object) -> None:
    """Let one thing happen."""
    match move:
        case "kill":
            shell.start()
        case "answer" if shell.replies:
            shell.feed(shell.replies.pop(0))
        case "present":
            shell.feed(ev.NodesSeen(shell.state.round, ALL))
        case ("timely", str(node)):
            answer(shell, NodeName(node))
        case "answer":
            pass
        case _:
            shell.feed(move)  # type: ignore[arg-type]


def answer(shell: Shell, node: NodeName) -> None:
    """Have a node answer what it was asked."""
    state = shell.state
    if state.round == 0 or (state.exchange > 0 and node in state.cohort - state.answered):
        shell.feed(ev.UpdateArrived(state.round, state.exchange, node))
    for task in sorted(state.buffer.at_work):
        if task.node == node:
            shell.feed(ev.UpdateArrived(task.round, 0, node))


def bring_to_end(shell: Shell) -> None:
    """Let only deadlines and the shell's own answers happen, until it ends."""
    for _ in range(300):
        if shell.state.phase is Phase.ENDED or (shell.ended_by and not shell.replies):
            return
        if shell.replies:
            shell.feed(shell.replies.pop(0))
        elif shell.state.phase in (Phase.WAITING, Phase.AWAY):
            shell.feed(ev.WaitedTooLong(shell.state.round, NOBODY))
        elif shell.state.exchange == 0 and shell.state.round:
            for number in sorted({task.round for task in shell.state.buffer.at_work}):
                shell.feed(ev.DeadlinePassed(number, 0, True))
        else:
            shell.feed(ev.DeadlinePassed(shell.state.round, shell.state.exchange, True))
    raise AssertionError(f"still {shell.state}")


@given(st.integers(1, 4), st.booleans(), st.lists(moves, max_size=60))
@settings(max_examples=400, deadline=None)
def test_no_order_of_events_and_kills_breaks_the_promises(
    buffer: int, evaluates: bool, happening: list[object]
) -> None:
    rules = replace(RULES, buffer=buffer, min_nodes_per_round=max(2, buffer))
    shell = Shell(rules, evaluates)
    for move in happening:
        make(shell, move)

    bring_to_end(shell)

    assert len(shell.ended_by) == 1
    assert all(len(tasks) == buffer for tasks in shell.taken.values())
    taken = [task for tasks in shell.taken.values() for task in tasks]
    assert len(taken) == len(set(taken))


def undisturbed(shell: Shell, seed: int, kill_after: int | None = None) -> Shell:
    """Let nodes answer, one of them seldom; killed once after so many moves."""
    chance = random.Random(seed)
    for count in range(500):
        if count == kill_after:
            shell.start()
        if shell.ended_by:
            return shell
        if shell.replies:
            shell.feed(shell.replies.pop(0))
        elif shell.state.phase is Phase.WAITING:
            shell.feed(ev.NodesSeen(shell.state.round, ALL))
        else:
            answer(shell, chance.choices(NODES, (5, 5, 5, 1))[0])
    raise AssertionError("it did not end")


@pytest.mark.parametrize("evaluates", [False, True])
@pytest.mark.parametrize("buffer", [1, 2, 3, 4])
def test_a_kill_after_any_transition_loses_no_round_and_takes_no_update_twice(
    buffer: int, evaluates: bool
) -> None:
    rules = replace(RULES, buffer=buffer, min_nodes_per_round=max(2, buffer))
    for moment in range(60):
        shell = undisturbed(Shell(rules, evaluates), moment, kill_after=moment)

        (ended,) = shell.ended_by
        assert isinstance(ended, PublishVersion)
        assert sorted(shell.taken) == [1, 2, 3]
        assert {task for tasks in shell.taken.values() for task in tasks} <= shell.asked.keys()


def test_a_synchronous_run_goes_as_ever() -> None:
    rules = replace(RULES, buffer=0)
    opened = OpenedRound(n(1), 0, Next(TRAIN.step), ALL)
    state, _ = resume(rules, Progress(0, ALL, opened=opened))

    state, actions = play(state, *arrive(A, B, C, D))

    assert actions == (Combine(n(1), 0, ALL),)
