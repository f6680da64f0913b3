"""The round machine: how a round opens, what ends its exchanges, and who is asked next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.domain import events as ev
from heliosdb.domain.events import (
    Absence,
    CloseRound,
    Combine,
    Event,
    FailRun,
    Figures,
    Loss,
    Names,
    Next,
    OpenRound,
    SendTasks,
    Wait,
)
from heliosdb.domain.ids import NodeName
from heliosdb.domain.progress import Progress
from heliosdb.domain.round import begin, decide, resume
from heliosdb.domain.run import Outcome
from heliosdb.domain.run_state import Phase, RunState
from tests.unit.domain.played_rounds import (
    ALL,
    MEASURE,
    RULES,
    SURVEY,
    TRAIN,
    A,
    B,
    C,
    Most,
    arrive,
    combined,
    deadline,
    lose,
    n,
    play,
    training,
)


def test_a_run_waits_until_enough_nodes_are_there() -> None:
    state, actions = decide(
        begin(RULES), ev.NodesSeen(n(0), frozenset((A,)), (Absence(B, "connection refused"),))
    )

    assert state.phase is Phase.WAITING
    assert actions == (Wait("waiting for nodes: 1 of 2 active, 2 registered (b: connection refused)"),)
    state, actions = decide(state, ev.NodesSeen(n(0), ALL))
    assert actions == (OpenRound(n(0), ALL),)


def test_no_round_is_opened_without_a_node_that_the_run_needs() -> None:
    there = frozenset((A, B))
    state, actions = decide(begin(replace(RULES, needed=frozenset((C,)))), ev.NodesSeen(n(0), there))
    assert actions == (Wait('waiting for nodes: 2 of 2 active, and not "c", 2 registered'),)

    _, actions = decide(state, ev.WaitedTooLong(n(0), there))
    assert actions == (
        FailRun('round 0 could not start: 2 of 2 nodes needed are active, and not "c", 2 registered'),
    )
    assert decide(state, ev.NodesSeen(n(0), ALL))[1] == (OpenRound(n(0), ALL),)


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


def test_a_cohort_is_whom_the_rules_choose() -> None:
    _, actions = decide(begin(replace(RULES, choice=Most(2))), ev.NodesSeen(n(0), ALL))

    assert actions == (OpenRound(n(0), frozenset((A, B))),)


def test_a_run_starts_only_with_as_many_nodes_as_its_rounds_need() -> None:
    rules = replace(RULES, min_nodes=1, min_nodes_per_round=3)

    state, _ = decide(begin(rules), ev.NodesSeen(n(0), frozenset((A, B))))

    assert state.phase is Phase.WAITING


def test_later_rounds_ask_only_members_of_round_zero() -> None:
    state, _ = resume(RULES, Progress(closed=0, members=frozenset((A, B))))

    _, actions = decide(state, ev.NodesSeen(n(1), ALL))

    assert actions == (OpenRound(n(1), frozenset((A, B))),)


def test_all_updates_end_the_exchange() -> None:
    state, actions = play(training(), *arrive(A, B))
    assert actions == ()

    _, actions = play(state, *arrive(C))

    assert actions == (Combine(n(1), 0, ALL),)


def test_nodes_that_refuse_are_done_without() -> None:
    state, actions = play(training(), lose(C), *arrive(A, B))

    assert actions == (Combine(n(1), 0, frozenset((A, B))),)
    assert [loss.node for loss in state.lost] == [C]


def test_stragglers_are_dropped_at_their_deadline_when_enough_have_answered() -> None:
    state, actions = play(training(), *arrive(A, B), deadline(final=False))

    assert actions == (Combine(n(1), 0, frozenset((A, B))),)
    assert state.lost == (Loss(C, Outcome.DROPPED, "timed out"),)


def test_after_the_stragglers_deadline_the_update_that_is_still_needed_ends_the_exchange() -> None:
    state, actions = play(training(), *arrive(A), deadline(final=False))
    assert actions == ()

    _, actions = play(state, *arrive(C))

    assert actions == (Combine(n(1), 0, frozenset((A, C))),)


def test_a_round_with_too_few_updates_at_its_deadline_fails_the_run_and_says_why() -> None:
    state = training(3, rules=replace(RULES, rounds=5))
    refused = ev.NodeLost(n(3), 0, Loss(C, Outcome.DROPPED, "connection refused"))

    _, actions = play(state, *arrive(A, number=3), refused, deadline(final=True, number=3))

    reason = "round 3: 1 of 2 updates needed arrived (b: timed out; c: connection refused)"
    assert actions == (FailRun(reason),)


def test_a_round_that_cannot_succeed_any_more_fails_before_its_deadline() -> None:
    _, actions = play(training(), lose(B), lose(C))

    assert actions == (FailRun("round 1: 0 of 2 updates needed arrived (b: refused; c: refused)"),)


def test_what_mends_it_is_said_once_however_many_nodes_say_it() -> None:
    hint = "Leave the column out."
    lost = [ev.NodeLost(n(1), 0, Loss(node, Outcome.REFUSED, "refused", hint=hint)) for node in (B, C)]

    _, actions = play(training(), *lost)

    assert actions == (
        FailRun("round 1: 0 of 2 updates needed arrived (b: refused; c: refused). Leave the column out."),
    )


@pytest.mark.parametrize(
    "late",
    [
        ev.UpdateArrived(n(0), 0, A),
        ev.UpdateArrived(n(1), 1, A),
        ev.UpdateArrived(n(2), 0, A),
        ev.UpdateArrived(n(1), 0, NodeName("stranger")),
        ev.NodeLost(n(0), 0, Loss(A, Outcome.DROPPED, "late")),
        ev.DeadlinePassed(n(0), 0, True),
        ev.RoundOpened(n(1), TRAIN),
        ev.RoundClosed(n(1)),
        combined(following=MEASURE),
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


def test_the_next_exchange_asks_those_whose_updates_count_once_the_result_is_kept() -> None:
    state, _ = play(training(), lose(C), *arrive(A, B))

    _, actions = decide(state, combined(following=MEASURE))

    assert actions == (SendTasks(n(1), 1, MEASURE.step, frozenset((A, B))),)


def measuring() -> RunState:
    return play(training(), *arrive(A, B, C), combined(following=MEASURE))[0]


@pytest.mark.parametrize("answering", [frozenset[NodeName](), frozenset((A,))])
def test_an_optional_exchange_with_too_few_gives_no_figures_but_closes_the_round(answering: Names) -> None:
    state, actions = play(
        measuring(), *arrive(*sorted(answering), exchange=1), deadline(final=True, exchange=1)
    )
    assert actions == (Combine(n(1), 1, answering),)

    _, actions = decide(state, combined(1, figures=Figures(0.5, 0.9)))

    assert actions == (CloseRound(n(1), None, n(1)),)


def test_a_round_of_three_required_exchanges_asks_fewer_as_nodes_are_lost() -> None:
    state, actions = play(training(), *arrive(A, B, C), combined(following=TRAIN))
    assert actions == (SendTasks(n(1), 1, TRAIN.step, ALL),)

    state, actions = play(
        state, lose(B, exchange=1), *arrive(A, C, exchange=1), combined(1, following=SURVEY)
    )
    assert actions == (SendTasks(n(1), 2, SURVEY.step, frozenset((A, C))),)
    state, actions = play(state, *arrive(A, C, exchange=2))
    assert actions == (Combine(n(1), 2, frozenset((A, C))),)

    _, actions = decide(state, combined(2, figures=Figures(0.5, 0.9)))

    assert actions == (CloseRound(n(1), Figures(0.5, 0.9), n(1)),)


def test_any_required_exchange_with_too_few_updates_fails_the_run() -> None:
    state, _ = play(training(), *arrive(A, B, C), combined(following=TRAIN))

    _, actions = play(state, lose(A, exchange=1), lose(B, exchange=1))

    assert actions == (FailRun("round 1: 0 of 2 updates needed arrived (a: refused; b: refused)"),)


def test_after_an_optional_exchange_in_the_middle_those_who_answered_it_go_on() -> None:
    state, actions = play(
        measuring(), lose(C, exchange=1), *arrive(A, B, exchange=1), combined(1, following=TRAIN)
    )
    assert actions == (SendTasks(n(1), 2, TRAIN.step, frozenset((A, B))),)

    _, actions = play(state, *arrive(A, B, exchange=2), combined(2))

    assert actions == (CloseRound(n(1), None, n(1)),)


@pytest.mark.parametrize("last", [SURVEY, MEASURE])
def test_members_are_those_who_answered_the_last_required_exchange_of_round_zero(last: Next) -> None:
    state, _ = play(
        begin(RULES),
        ev.NodesSeen(n(0), ALL),
        ev.RoundOpened(n(0), SURVEY),
        *arrive(A, B, C, number=0),
        combined(number=0, following=last),
    )
    refusal = ev.NodeLost(n(0), 1, Loss(C, Outcome.REFUSED, "no"))

    state, _ = play(
        state, refusal, *arrive(A, B, number=0, exchange=1), combined(1, number=0), ev.RoundClosed(n(0))
    )

    assert state.members == (frozenset((A, B)) if last.required else ALL)


def test_a_round_of_which_nothing_follows_closes_after_its_one_exchange() -> None:
    state, _ = play(training(), *arrive(A, B, C))

    assert decide(state, combined())[1] == (CloseRound(n(1), None, n(1)),)


def test_of_a_sum_of_updates_all_count_together() -> None:
    state, actions = decide(training(), ev.SumArrived(n(1), 0, frozenset((A, B))))
    assert (state.answered, actions) == (frozenset((A, B)), ())

    state, actions = decide(state, *arrive(C))
    assert actions == (Combine(n(1), 0, ALL),)


def test_a_sum_that_holds_more_than_is_outstanding_counts_not_at_all() -> None:
    state, _ = play(training(), *arrive(A))

    for nodes in (frozenset((A, B)), frozenset((B, NodeName("stranger"))), frozenset[NodeName]()):
        assert decide(state, ev.SumArrived(n(1), 0, nodes)) == (state, ())
    for late in (ev.SumArrived(n(2), 0, frozenset((B,))), ev.SumArrived(n(1), 1, frozenset((B,)))):
        assert decide(state, late) == (state, ())


def test_after_the_stragglers_deadline_a_sum_is_waited_for_and_taken_whole() -> None:
    state, _ = play(training(), deadline(final=False))

    # Two are enough, and three are in it.
    state, actions = decide(state, ev.SumArrived(n(1), 0, ALL))
    assert actions == (Combine(n(1), 0, ALL),)
