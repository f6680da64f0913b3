"""The promises of asynchronous rounds, under any order of events and kills."""

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
from heliosdb.domain.buffered_round import decide, most_stale, resume
from heliosdb.domain.events import (
    NOBODY,
    Action,
    AskAgain,
    CloseRound,
    Combine,
    Event,
    Figures,
    Loss,
    Names,
    OpenRound,
    PublishVersion,
    SendTasks,
)
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.run_state import Decision, Phase, Rules, RunState
from tests.unit.domain.buffered_rounds import ALL, RULES, lost
from tests.unit.domain.played_rounds import MEASURE, SURVEY, TRAIN, n


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
