"""The round machine keeps its promises in any order of events, and with a kill anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.domain import events as ev
from heliosdb.domain.absence import Absence
from heliosdb.domain.convergence import measured
from heliosdb.domain.events import (
    Action,
    CloseRound,
    Combine,
    Event,
    FailRun,
    Figures,
    FinishRun,
    Loss,
    Names,
    Next,
    OpenRound,
    PrepareReport,
    PublishVersion,
    SendTasks,
)
from heliosdb.domain.ids import NodeName, StepName
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.round import decide, resume
from heliosdb.domain.run import Outcome
from heliosdb.domain.run_state import Decision, Phase, Rules, RunState
from tests.unit.domain.played_rounds import ALL, MEASURE, REPORT, RULES, SURVEY, TRAIN, Most, n

Plan = tuple[Next, ...]
"""What the exchanges of a round ask, in their order."""

PLANS: Sequence[Plan] = (
    (TRAIN,),
    (TRAIN, MEASURE),
    (TRAIN, SURVEY, TRAIN),
    (TRAIN, MEASURE, TRAIN),
    (MEASURE, TRAIN, MEASURE),
    (TRAIN, SURVEY, MEASURE, MEASURE),
)


@dataclass
class Shell:
    """Performs actions as the coordinator does, on committed rows that survive a kill; answers wait in
    `replies`. first, later: the exchanges of round 0, and of the others."""

    rules: Rules
    first: Plan = (SURVEY,)
    later: Plan = (TRAIN, MEASURE)
    losses: Sequence[float | None] = (1.0, 0.5, 0.4, 0.3)
    progress: Progress = field(default_factory=Progress)
    replies: list[Event] = field(default_factory=list)
    ended_by: list[Action] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    asked: dict[tuple[int, int], tuple[StepName, Names]] = field(default_factory=dict)
    kept: dict[tuple[int, int], Names] = field(default_factory=dict)
    counted: Names = frozenset()
    states: set[int] = field(default_factory=set)
    reported: list[int] = field(default_factory=list)
    state: RunState = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin, or go on after a kill: all that was not committed is forgotten."""
        self.replies.clear()
        if not self.ended_by:
            opened = self.progress.opened
            self.counted = frozenset() if opened is None else opened.counted
            self.take(resume(self.rules, self.progress))

    def feed(self, event: Event) -> None:
        self.take(decide(self.state, event))

    def take(self, decision: Decision) -> None:
        self.state, actions = decision
        for action in actions:
            self.perform(action)

    def plan(self, number: int) -> Plan:
        return self.later if number else self.first

    def perform(self, action: Action) -> None:
        match action:
            case OpenRound(number, cohort):
                assert number == self.progress.closed + 1
                assert len(cohort) >= self.rules.min_nodes_per_round
                first = self.plan(number)[0]
                self.progress = replace(self.progress, opened=OpenedRound(number, 0, first, cohort))
                self.counted = frozenset()
                self.replies.append(ev.RoundOpened(number, first))
            case SendTasks(number, exchange, step, nodes, about):
                assert about is None or (about < number and about in self.states)
                assert about is None or step == REPORT.step
                opened = self.progress.opened
                # Committed before it is asked, and asked again it is the very same of the very same nodes.
                assert opened is not None
                committed = (opened.round, opened.exchange, opened.asked.step, opened.cohort)
                assert committed == (number, exchange, step, nodes)
                assert self.asked.setdefault((number, exchange), (step, nodes)) == (step, nodes)
            case Combine(number, exchange, nodes):
                self.combine(number, exchange, nodes)
            case PrepareReport(number, exchange, nodes, figures):
                assert self.rules.reports
                self.follow(number, exchange, nodes, REPORT, figures)
                self.replies.append(ev.ReportPrepared(n(number), REPORT))
            case CloseRound(number, figures, keep, is_reported):
                self.close(number, figures, keep)
                self.reported += [keep] if is_reported else []
            case PublishVersion() | FinishRun() | FailRun():
                assert not isinstance(action, PublishVersion) or action.round in self.states
                # What was reported on is what is published.
                assert not self.reported or self.reported == [getattr(action, "round", None)]
                self.ended_by.append(action)
                self.replies.append(ev.RunEnded())

    def combine(self, number: int, exchange: int, nodes: Names) -> None:
        opened = self.progress.opened
        assert opened is not None
        plan = (*self.plan(number), REPORT)
        assert nodes <= self.asked[number, exchange][1]
        assert nodes == self.state.answered
        if opened.asked.required:
            assert len(nodes) >= self.rules.min_nodes_per_round
            self.counted = nodes
        following = plan[exchange + 1] if nodes and exchange + 2 < len(plan) else None
        if following is not None:
            self.follow(number, exchange, nodes, following, None)
        figures = None if opened.asked.reports else Figures(self.losses[number], 0.5)
        self.replies.append(ev.Combined(n(number), exchange, figures, following))

    def follow(self, number: int, exchange: int, nodes: Names, asked: Next, figures: Figures | None) -> None:
        """Commit whom the next exchange asks for what."""
        assert (number, exchange) not in self.kept
        self.kept[number, exchange] = nodes
        opened = OpenedRound(n(number), exchange + 1, asked, nodes, self.counted, figures)
        self.progress = replace(self.progress, opened=opened)

    def close(self, number: int, figures: Figures | None, keep: int) -> None:
        assert number not in self.closed
        assert number == self.progress.closed + 1
        assert self.progress.opened is not None
        if any(one.required for one in self.plan(number)[: self.state.exchange + 1]):
            assert len(self.counted) >= self.rules.min_nodes_per_round
        self.closed.append(number)
        members = self.counted if number == 0 else self.progress.members
        trace = (*self.progress.trace, *measured(n(number), figures, noised=False))
        self.progress = Progress(number, members, trace, figures)
        # Of all states before only the one that is asked for is kept.
        assert keep == number or keep in self.states
        self.states = {keep, number}
        self.replies.append(ev.RoundClosed(n(number)))

    def check(self) -> None:
        assert self.closed == list(range(len(self.closed)))
        assert len(self.ended_by) <= 1
        if self.state.phase is Phase.WAITING and self.state.round > 0:
            assert self.state.members == self.progress.members
        if self.state.phase is Phase.AWAY:
            # It lacks updates that the round needs, and may still get them.
            assert self.state.round > 0
            is_there = self.rules.needed & self.state.cohort <= self.state.answered
            assert len(self.state.answered) < self.rules.min_nodes_per_round or not is_there
            refused = {loss.node for loss in self.state.lost}
            assert len(self.state.cohort - refused) >= self.rules.min_nodes_per_round


NODES = tuple(NodeName(name) for name in ("a", "b", "c", "d"))
exchanges, numbers, nodes = st.integers(0, 3), st.integers(0, 3).map(n), st.sampled_from(NODES)
losses = st.builds(
    Loss, nodes, st.sampled_from([Outcome.DROPPED, Outcome.REFUSED]), st.just("gone"), st.booleans()
)
absences = st.lists(st.builds(Absence, nodes, st.just("away")), max_size=4).map(tuple)
anything = st.one_of(
    st.builds(ev.UpdateArrived, numbers, exchanges, nodes),
    st.builds(ev.NodeLost, numbers, exchanges, losses),
    st.builds(ev.DeadlinePassed, numbers, exchanges, st.booleans()),
    st.builds(ev.NodesAway, numbers, exchanges, absences, st.booleans()),
    st.builds(ev.WaitedTooLong, numbers, st.frozensets(nodes), absences),
    st.builds(ev.NodesSeen, numbers, st.frozensets(nodes)),
    st.builds(ev.WaitedTooLong, numbers, st.frozensets(nodes)),
    st.builds(ev.RoundClosed, numbers),
    st.builds(ev.RoundOpened, numbers, st.sampled_from([TRAIN, MEASURE])),
    st.builds(ev.StopRequested),
)
moves = st.one_of(
    anything,
    st.sampled_from(["answer", "kill"]),
    st.tuples(st.just("timely"), nodes),
    st.tuples(st.just("away"), absences),
    st.tuples(st.just("present"), st.frozensets(nodes, min_size=2)),
)
rule_sets = st.builds(
    Rules,
    rounds=st.integers(1, 3),
    min_nodes=st.integers(1, 3),
    min_nodes_per_round=st.integers(1, 3),
    choice=st.builds(Most, st.integers(3, 4)),
    threshold=st.none() | st.just(0.01),
    patience=st.integers(1, 2),
    keep_best=st.booleans(),
    reports=st.booleans(),
    needed=st.sampled_from([frozenset(), frozenset([NODES[0]])]),
)


def make(shell: Shell, move: object) -> None:
    """Let one thing happen; an answer of the shell that never was asked for is not among them."""
    match move:
        case "kill":
            shell.start()
        case "answer":
            if shell.replies:
                shell.feed(shell.replies.pop(0))
        case ("timely", str(node)):
            shell.feed(ev.UpdateArrived(shell.state.round, shell.state.exchange, NodeName(node)))
        case ("away", tuple() as absent):
            shell.feed(ev.NodesAway(shell.state.round, shell.state.exchange, absent))
        case ("present", frozenset() as present):
            shell.feed(ev.NodesSeen(shell.state.round, present))
        case ev.RoundClosed() | ev.RoundOpened() | ev.ReportPrepared() if shell.state.phase in (
            Phase.CLOSING,
            Phase.OPENING,
        ):
            pass
        case _:
            shell.feed(move)  # type: ignore[arg-type]


def bring_to_end(shell: Shell) -> int:
    """Let only deadlines and the shell's own answers happen; returns in how many moves it ended."""
    for count in range(200):
        if shell.state.phase is Phase.ENDED or (shell.ended_by and not shell.replies):
            return count
        if shell.replies:
            shell.feed(shell.replies.pop(0))
        elif shell.state.phase in (Phase.WAITING, Phase.AWAY):
            shell.feed(ev.WaitedTooLong(shell.state.round, frozenset()))
        else:
            shell.feed(ev.DeadlinePassed(shell.state.round, shell.state.exchange, True))
        shell.check()
    raise AssertionError(f"still {shell.state}")


@given(
    rule_sets,
    st.sampled_from(PLANS),
    st.sampled_from(PLANS),
    st.lists(moves, max_size=60),
    st.lists(st.sampled_from([0.25, 0.5, 0.5, 2.0, None]), min_size=4, max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_no_order_of_events_and_kills_breaks_the_promises(
    rules: Rules, first: Plan, later: Plan, happening: list[object], losses: list[float | None]
) -> None:
    shell = Shell(rules, first, later, losses)
    for move in happening:
        make(shell, move)
        shell.check()

    bring_to_end(shell)

    assert len(shell.ended_by) == 1


def undisturbed(shell: Shell, kill_after: int | None = None) -> Shell:
    """Let every node answer in time; killed once after so many moves."""
    for count in range(500):
        if count == kill_after:
            shell.start()
        if shell.ended_by:
            return shell
        state = shell.state
        if shell.replies:
            shell.feed(shell.replies.pop(0))
        elif state.phase is Phase.WAITING:
            shell.feed(ev.NodesSeen(state.round, ALL))
        else:
            waiting = sorted(state.cohort - state.answered)
            shell.feed(ev.UpdateArrived(state.round, state.exchange, waiting[0]))
        shell.check()
    raise AssertionError("it did not end")


@pytest.mark.parametrize("reports", [False, True], ids=["", "reported"])
@pytest.mark.parametrize("later", PLANS, ids=lambda plan: "-".join(one.step for one in plan))
@pytest.mark.parametrize("first", PLANS[:3], ids=lambda plan: "-".join(one.step for one in plan))
def test_a_kill_after_any_transition_changes_nothing_in_the_result(
    first: Plan, later: Plan, reports: bool
) -> None:
    rules = replace(RULES, reports=reports)
    expected = undisturbed(Shell(rules, first, later))
    assert isinstance(expected.ended_by[0], PublishVersion)
    assert len(expected.asked) == len(first) + 2 * len(later) + reports
    assert expected.reported == ([expected.ended_by[0].round] if reports else [])

    for moment in range(80):
        shell = undisturbed(Shell(rules, first, later), kill_after=moment)
        assert (shell.ended_by, shell.closed, shell.asked, shell.kept, shell.progress, shell.reported) == (
            expected.ended_by,
            expected.closed,
            expected.asked,
            expected.kept,
            expected.progress,
            expected.reported,
        ), moment
