"""The round machine: each transition, each interruption, and any order of events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.domain import events as ev
from heliosdb.domain.events import (
    Absence,
    Action,
    CloseRound,
    Combine,
    Event,
    FailRun,
    Figures,
    FinishRun,
    Loss,
    OpenRound,
    PublishVersion,
    SendTasks,
    Wait,
)
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.round import (
    Decision,
    OpenedRound,
    Phase,
    Progress,
    Rules,
    RunState,
    begin,
    decide,
    resume,
)
from heliosdb.domain.run import Outcome, RunStatus
from heliosdb.domain.task import Step

A, B, C = (NodeName(name) for name in "abc")
ALL = frozenset((A, B, C))
RULES = Rules(rounds=2, min_nodes=2, max_nodes=10, min_nodes_per_round=2, evaluate_every=1)
ENDINGS = (PublishVersion, FinishRun, FailRun)


def n(number: int) -> RoundNumber:
    return RoundNumber(number)


def play(state: RunState, *happened: Event) -> Decision:
    """Feed events one after the other; the actions are those of the last."""
    actions: tuple[Action, ...] = ()
    for event in happened:
        state, actions = decide(state, event)
    return state, actions


def training(round_number: int = 1, nodes: frozenset[NodeName] = ALL, rules: Rules = RULES) -> RunState:
    """A run whose training exchange of a round is open."""
    progress = Progress(closed=round_number - 1, members=ALL, opened=OpenedRound(n(round_number), nodes))
    state, actions = resume(rules, progress)
    assert actions == (SendTasks(n(round_number), Step.TRAIN, nodes),)
    return state


def arrive(*nodes: NodeName, number: int = 1, step: Step = Step.TRAIN) -> Iterator[Event]:
    return (ev.UpdateArrived(n(number), step, node) for node in nodes)


def lose(node: NodeName, reason: str = "refused", *, over_budget: bool = False) -> Event:
    return ev.NodeLost(n(1), Step.TRAIN, Loss(node, Outcome.REFUSED, reason, over_budget))


def deadline(*, final: bool, number: int = 1, step: Step = Step.TRAIN) -> Event:
    return ev.DeadlinePassed(n(number), step, final)


def test_a_run_waits_until_enough_nodes_are_there() -> None:
    state, actions = decide(
        begin(RULES), ev.NodesSeen(n(0), frozenset((A,)), (Absence(B, "connection refused"),))
    )

    assert state.phase is Phase.WAITING
    assert actions == (Wait("waiting for nodes: 1 of 2 active, 2 registered (b: connection refused)"),)
    state, actions = decide(state, ev.NodesSeen(n(0), ALL))
    assert actions == (OpenRound(n(0), ALL, evaluates=False),)


def test_a_run_that_waited_too_long_fails_and_says_for_whom() -> None:
    happened = ev.WaitedTooLong(n(0), frozenset((A,)), (Absence(B, "connection refused"),))

    _, actions = decide(begin(RULES), happened)

    assert actions == (
        FailRun(
            "round 0 could not start: 1 of 2 nodes needed are active, 2 registered (b: connection refused)"
        ),
    )


def test_a_run_without_any_node_says_what_to_do() -> None:
    _, actions = decide(begin(RULES), ev.NodesSeen(n(0), frozenset()))

    assert actions == (
        Wait("waiting for nodes: 0 of 2 active, no node is registered: REGISTER FEDERATED NODE"),
    )


def test_a_member_that_was_unregistered_is_named_and_not_counted() -> None:
    state, _ = resume(RULES, Progress(closed=0, members=frozenset((A, B))))

    _, actions = decide(state, ev.NodesSeen(n(1), frozenset((A,)), (Absence(B, ev.UNREGISTERED),)))

    assert actions == (Wait("waiting for nodes: 1 of 2 active, 1 registered (b was unregistered)"),)


def test_a_refusal_is_told_once() -> None:
    losses = (lose(A, "refused: no more"), lose(B, "timed out"))

    _, actions = play(training(), *losses)

    assert actions == (FailRun("round 1: 0 of 2 updates needed arrived (a refused: no more; b: timed out)"),)


def test_a_cohort_has_at_most_max_nodes() -> None:
    _, actions = decide(begin(replace(RULES, max_nodes=2)), ev.NodesSeen(n(0), ALL))

    assert actions == (OpenRound(n(0), frozenset((A, B)), evaluates=False),)


def test_a_run_starts_only_with_as_many_nodes_as_its_rounds_need() -> None:
    rules = replace(RULES, min_nodes=1, min_nodes_per_round=3)

    state, _ = decide(begin(rules), ev.NodesSeen(n(0), frozenset((A, B))))

    assert state.phase is Phase.WAITING


def test_later_rounds_ask_only_members_of_round_zero() -> None:
    state, _ = resume(RULES, Progress(closed=0, members=frozenset((A, B))))

    _, actions = decide(state, ev.NodesSeen(n(1), ALL))

    assert actions == (OpenRound(n(1), frozenset((A, B)), evaluates=True),)


def test_all_updates_end_the_exchange() -> None:
    state, actions = play(training(), *arrive(A, B))
    assert actions == ()

    _, actions = play(state, *arrive(C))

    assert actions == (Combine(n(1), Step.TRAIN, ALL, keep=True),)


def test_nodes_that_refuse_are_done_without() -> None:
    state, actions = play(training(), lose(C), *arrive(A, B))

    assert actions == (Combine(n(1), Step.TRAIN, frozenset((A, B)), keep=True),)
    assert [loss.node for loss in state.lost] == [C]


def test_stragglers_are_dropped_at_their_deadline_when_enough_have_answered() -> None:
    state, actions = play(training(), *arrive(A, B), deadline(final=False))

    assert actions == (Combine(n(1), Step.TRAIN, frozenset((A, B)), keep=True),)
    assert state.lost == (Loss(C, Outcome.DROPPED, "timed out"),)


def test_after_the_stragglers_deadline_the_update_that_is_still_needed_ends_the_exchange() -> None:
    state, actions = play(training(), *arrive(A), deadline(final=False))
    assert actions == ()

    _, actions = play(state, *arrive(C))

    assert actions == (Combine(n(1), Step.TRAIN, frozenset((A, C)), keep=True),)


def test_a_round_with_too_few_updates_at_its_deadline_fails_the_run_and_says_why() -> None:
    state = training(3, rules=replace(RULES, rounds=5))
    refused = ev.NodeLost(n(3), Step.TRAIN, Loss(C, Outcome.DROPPED, "connection refused"))

    _, actions = play(state, *arrive(A, number=3), refused, deadline(final=True, number=3))

    reason = "round 3: 1 of 2 updates needed arrived (b: timed out; c: connection refused)"
    assert actions == (FailRun(reason),)


def test_a_round_that_cannot_succeed_any_more_fails_before_its_deadline() -> None:
    _, actions = play(training(), lose(B), lose(C))

    assert actions == (FailRun("round 1: 0 of 2 updates needed arrived (b: refused; c: refused)"),)


def test_updates_that_all_are_too_large_are_told_with_what_to_do() -> None:
    reason = "its norm 3.1e+07 is larger than max_update_norm 10000"
    large = [
        ev.NodeLost(n(1), Step.TRAIN, Loss(node, Outcome.REJECTED, reason, oversized=True)) for node in (B, C)
    ]

    _, actions = play(training(), *large)

    said = f"round 1: 0 of 2 updates needed arrived (b: {reason}; c: {reason})"
    hint = "; where all updates are that large, lower learning_rate or raise max_update_norm"
    assert actions == (FailRun(said + hint),)
    _, actions = play(training(), *arrive(A), *large)
    assert actions == (FailRun(said.replace("0 of 2", "1 of 2")),)


def test_nodes_whose_budget_is_spent_end_the_run_as_exhausted() -> None:
    state = training(2)
    spent = [
        ev.NodeLost(n(2), Step.TRAIN, Loss(node, Outcome.REFUSED, "no budget", over_budget=True))
        for node in (B, C)
    ]

    _, actions = play(state, *spent)

    assert actions == (
        PublishVersion(
            n(1),
            RunStatus.BUDGET_EXHAUSTED,
            "round 2: 0 of 2 updates needed arrived (b: no budget; c: no budget)",
        ),
    )


def test_a_budget_spent_before_any_training_round_leaves_no_version() -> None:
    state, _ = decide(begin(RULES), ev.NodesSeen(n(0), ALL))

    _, actions = decide(state, ev.BudgetWouldBeExceeded(n(0), "the budget is spent"))

    assert isinstance(actions[0], FinishRun)
    assert actions[0].status is RunStatus.BUDGET_EXHAUSTED


@pytest.mark.parametrize(
    "late",
    [
        ev.UpdateArrived(n(0), Step.STATISTICS, A),
        ev.UpdateArrived(n(1), Step.EVALUATE, A),
        ev.UpdateArrived(n(2), Step.TRAIN, A),
        ev.UpdateArrived(n(1), Step.TRAIN, NodeName("stranger")),
        ev.NodeLost(n(0), Step.STATISTICS, Loss(A, Outcome.DROPPED, "late")),
        ev.DeadlinePassed(n(0), Step.STATISTICS, True),
        ev.RoundOpened(n(1)),
        ev.RoundClosed(n(1)),
        ev.Combined(n(1), Step.TRAIN),
        ev.NodesSeen(n(1), ALL),
        ev.WaitedTooLong(n(1), ALL),
        ev.BudgetWouldBeExceeded(n(1), "late"),
        ev.RunEnded(),
    ],
    # Not repr: the order of a set differs between test processes.
    ids=lambda event: type(event).__name__,
)
def test_an_event_out_of_its_time_changes_nothing(late: Event) -> None:
    state = training()

    assert decide(state, late) == (state, ())


def test_an_update_counts_once() -> None:
    state = play(training(), *arrive(A))[0]

    assert decide(state, next(arrive(A))) == (state, ())


def test_a_node_that_was_lost_does_not_answer_any_more() -> None:
    state = play(training(), lose(A))[0]

    assert decide(state, next(arrive(A))) == (state, ())


def test_an_evaluation_asks_those_whose_training_counts_once_that_is_kept() -> None:
    state, _ = play(training(), lose(C), *arrive(A, B))

    _, actions = decide(state, ev.Combined(n(1), Step.TRAIN))

    assert actions == (SendTasks(n(1), Step.EVALUATE, frozenset((A, B))),)


def evaluating() -> RunState:
    return play(training(), *arrive(A, B, C), ev.Combined(n(1), Step.TRAIN))[0]


def test_an_evaluation_by_too_few_gives_no_figures_but_closes_the_round() -> None:
    state, actions = play(
        evaluating(), *arrive(A, step=Step.EVALUATE), deadline(final=True, step=Step.EVALUATE)
    )
    assert actions == (Combine(n(1), Step.EVALUATE, frozenset((A,)), keep=False),)

    _, actions = decide(state, ev.Combined(n(1), Step.EVALUATE, Figures(0.5, 0.9)))

    assert actions == (CloseRound(n(1), None),)


def closing(round_number: int, figures: Figures, rules: Rules = RULES) -> RunState:
    """A run whose round is being closed."""
    return play(
        training(round_number, rules=rules),
        *arrive(A, B, C, number=round_number),
        ev.Combined(n(round_number), Step.TRAIN),
        *arrive(A, B, C, number=round_number, step=Step.EVALUATE),
        ev.Combined(n(round_number), Step.EVALUATE, figures),
    )[0]


def test_the_last_round_completes_the_run() -> None:
    _, actions = decide(closing(2, Figures(0.5, 0.8)), ev.RoundClosed(n(2)))

    assert actions == (PublishVersion(n(2), RunStatus.COMPLETED, "all 2 rounds done"),)


def test_a_run_that_has_converged_ends_early() -> None:
    _, actions = decide(closing(1, Figures(0.5, 0.8)), ev.RoundClosed(n(1), converged=True))

    assert isinstance(actions[0], PublishVersion)
    assert actions[0].status is RunStatus.CONVERGED


def test_a_run_that_has_reached_its_accuracy_ends_early() -> None:
    state = closing(1, Figures(0.5, 0.9), replace(RULES, target_accuracy=0.9))

    _, actions = decide(state, ev.RoundClosed(n(1)))

    message = "accuracy 0.9 reached target_accuracy 0.9 after round 1"
    assert actions == (PublishVersion(n(1), RunStatus.CONVERGED, message),)


def test_without_evaluation_a_round_closes_after_training() -> None:
    rules = replace(RULES, evaluate_every=0)

    state, actions = play(training(rules=rules), *arrive(A, B, C))
    assert actions == (Combine(n(1), Step.TRAIN, ALL, keep=False),)

    assert decide(state, ev.Combined(n(1), Step.TRAIN))[1] == (CloseRound(n(1), None),)


def test_noise_that_leaves_no_figures_ends_all_evaluations() -> None:
    progress = Progress(opened=OpenedRound(n(0), ALL))
    state, _ = resume(RULES, progress)
    state, _ = play(
        state, *arrive(A, B, C, number=0, step=Step.STATISTICS), ev.Combined(n(0), Step.STATISTICS)
    )

    state, _ = play(state, ev.RoundClosed(n(0), evaluates=False), ev.NodesSeen(n(1), ALL))

    assert state.rules.evaluate_every == 0


def test_the_last_round_is_evaluated_whatever_the_frequency() -> None:
    rules = replace(RULES, evaluate_every=4, rounds=6)

    measured = [number for number in range(7) if _opens_with_evaluation(rules, number)]

    assert measured == [4, 6]


def _opens_with_evaluation(rules: Rules, number: int) -> bool:
    state, _ = resume(rules, Progress(closed=number - 1, members=ALL if number else None))
    action = decide(state, ev.NodesSeen(n(number), ALL))[1][0]
    assert isinstance(action, OpenRound)
    return action.evaluates


def test_a_stop_during_an_exchange_abandons_the_round_and_keeps_the_last_one() -> None:
    _, actions = decide(training(2), ev.StopRequested())

    assert actions == (PublishVersion(n(1), RunStatus.STOPPED, "stopped on request"),)


def test_a_stop_before_the_first_training_round_leaves_no_version() -> None:
    _, actions = decide(training(1), ev.StopRequested())

    assert isinstance(actions[0], FinishRun)


def test_a_stop_while_a_round_is_being_closed_waits_for_it() -> None:
    state, actions = decide(closing(1, Figures(0.5, 0.8)), ev.StopRequested())
    assert actions == ()

    _, actions = decide(state, ev.RoundClosed(n(1)))

    assert actions == (PublishVersion(n(1), RunStatus.STOPPED, "stopped on request"),)


def test_a_run_that_was_stopped_while_nobody_led_ends_when_somebody_does() -> None:
    progress = Progress(closed=1, members=ALL, opened=OpenedRound(n(2), ALL), stop_requested=True)

    _, actions = resume(RULES, progress)

    assert actions == (PublishVersion(n(1), RunStatus.STOPPED, "stopped on request"),)


def test_a_run_that_was_killed_before_its_version_publishes_it() -> None:
    _, actions = resume(RULES, Progress(closed=2, members=ALL, figures=Figures(0.5, 0.8)))

    assert actions == (PublishVersion(n(2), RunStatus.COMPLETED, "all 2 rounds done"),)


# Any order of events, and a kill anywhere.


@dataclass
class Shell:
    """Performs actions as the coordinator does, on committed rows that survive a kill; answers wait in `replies`."""

    rules: Rules
    progress: Progress = field(default_factory=Progress)
    replies: list[Event] = field(default_factory=list)
    ended_by: list[Action] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    asked: dict[tuple[int, Step], frozenset[NodeName]] = field(default_factory=dict)
    kept: dict[int, frozenset[NodeName]] = field(default_factory=dict)
    combined: frozenset[NodeName] = frozenset()
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
            case OpenRound(number, cohort):
                assert number == self.progress.closed + 1
                assert len(cohort) >= self.rules.min_nodes_per_round
                self.progress = replace(self.progress, opened=OpenedRound(number, cohort))
                self.replies.append(ev.RoundOpened(number))
            case SendTasks(number, step, nodes):
                # Asked again, they are the very same nodes.
                assert self.asked.setdefault((number, step), nodes) == nodes
            case Combine(number, step, nodes, keep):
                self.combine(number, step, nodes, keep=keep)
            case CloseRound(number, figures):
                self.close(number, figures)
            case PublishVersion() | FinishRun() | FailRun():
                self.ended_by.append(action)
                self.replies.append(ev.RunEnded())

    def combine(self, number: int, step: Step, nodes: frozenset[NodeName], *, keep: bool) -> None:
        assert nodes <= self.asked[number, step]
        assert nodes == self.state.answered
        if step is not Step.EVALUATE:
            assert len(nodes) >= self.rules.min_nodes_per_round
            self.combined = nodes
        if keep:
            assert number not in self.kept
            self.kept[number] = nodes
            assert self.progress.opened is not None
            self.progress = replace(self.progress, opened=replace(self.progress.opened, kept=nodes))
        self.replies.append(ev.Combined(n(number), step, Figures(1.0 / (number + 1), 0.5)))

    def close(self, number: int, figures: Figures | None) -> None:
        assert number not in self.closed
        assert number == self.progress.closed + 1
        assert self.progress.opened is not None
        counted = self.progress.opened.kept or self.combined
        assert len(counted) >= self.rules.min_nodes_per_round
        self.closed.append(number)
        members = counted if number == 0 else self.progress.members
        losses = self.progress.losses
        if figures is not None and figures.loss is not None:
            losses = (*losses, figures.loss)
        self.progress = Progress(number, members, losses, figures)
        self.replies.append(ev.RoundClosed(n(number)))

    def check(self) -> None:
        assert self.closed == list(range(len(self.closed)))
        assert len(self.ended_by) <= 1


NODES = tuple(NodeName(name) for name in ("a", "b", "c", "d"))
steps, numbers, nodes = st.sampled_from(list(Step)), st.integers(0, 3).map(n), st.sampled_from(NODES)
losses = st.builds(
    Loss, nodes, st.sampled_from([Outcome.DROPPED, Outcome.REFUSED]), st.just("gone"), st.booleans()
)
anything = st.one_of(
    st.builds(ev.UpdateArrived, numbers, steps, nodes),
    st.builds(ev.NodeLost, numbers, steps, losses),
    st.builds(ev.DeadlinePassed, numbers, steps, st.booleans()),
    st.builds(ev.NodesSeen, numbers, st.frozensets(nodes)),
    st.builds(ev.WaitedTooLong, numbers, st.frozensets(nodes)),
    st.builds(ev.RoundClosed, numbers),
    st.builds(ev.RoundOpened, numbers),
    st.builds(ev.StopRequested),
)
moves = st.one_of(
    anything,
    st.sampled_from(["answer", "kill"]),
    st.tuples(st.just("timely"), nodes),
    st.tuples(st.just("present"), st.frozensets(nodes, min_size=2)),
)
rule_sets = st.builds(
    Rules,
    rounds=st.integers(1, 3),
    min_nodes=st.integers(1, 3),
    max_nodes=st.just(4),
    min_nodes_per_round=st.integers(1, 3),
    evaluate_every=st.integers(0, 2),
)


def make(shell: Shell, move: object) -> None:
    """Let one thing happen; an answer of the shell that never was asked for is not among them."""
    match move:
        case "kill":
            shell.start()
        case "answer":
            if shell.replies:
                shell.feed(shell.replies.pop(0))
        case ("timely", node):
            shell.feed(ev.UpdateArrived(shell.state.round, shell.state.step, node))
        case ("present", present):
            shell.feed(ev.NodesSeen(shell.state.round, present))
        case ev.RoundClosed() | ev.RoundOpened() if shell.state.phase in (Phase.CLOSING, Phase.OPENING):
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
        elif shell.state.phase is Phase.WAITING:
            shell.feed(ev.WaitedTooLong(shell.state.round, frozenset()))
        else:
            shell.feed(ev.DeadlinePassed(shell.state.round, shell.state.step, True))
        shell.check()
    raise AssertionError(f"still {shell.state}")


@given(rule_sets, st.lists(moves, max_size=60))
@settings(max_examples=400, deadline=None)
def test_no_order_of_events_and_kills_breaks_the_promises(rules: Rules, happening: list[object]) -> None:
    shell = Shell(rules)
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
            shell.feed(ev.UpdateArrived(state.round, state.step, waiting[0]))
        shell.check()
    raise AssertionError("it did not end")


def test_a_kill_after_any_transition_changes_nothing_in_the_result() -> None:
    expected = undisturbed(Shell(RULES))
    assert isinstance(expected.ended_by[0], PublishVersion)

    for moment in range(60):
        shell = undisturbed(Shell(RULES), kill_after=moment)
        assert (shell.ended_by, shell.closed, shell.asked, shell.kept, shell.progress) == (
            expected.ended_by,
            expected.closed,
            expected.asked,
            expected.kept,
            expected.progress,
        ), moment
