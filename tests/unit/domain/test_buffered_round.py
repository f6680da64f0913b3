"""The machine of asynchronous runs: which updates make a round, who is asked anew, and that a kill changes neither."""

from __future__ import annotations

from dataclasses import replace

from heliosdb.domain import events as ev
from heliosdb.domain.absence import Absence
from heliosdb.domain.buffer import Asked
from heliosdb.domain.buffered_round import MOST_TURNS, decide, most_stale, resume
from heliosdb.domain.events import (
    NOBODY,
    AskAgain,
    CloseRound,
    Combine,
    Event,
    FailRun,
    Figures,
    Loss,
    Next,
    OpenRound,
    SendTasks,
)
from heliosdb.domain.ids import NodeName
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.run import Outcome
from heliosdb.domain.run_state import Decision, Phase
from tests.unit.domain.buffered_rounds import (
    ALL,
    RULES,
    A,
    B,
    C,
    D,
    arrive,
    begun,
    deadline,
    lost,
    next_round,
    play,
)
from tests.unit.domain.played_rounds import MEASURE, TRAIN, n


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


def test_a_synchronous_run_goes_as_ever() -> None:
    rules = replace(RULES, buffer=0)
    opened = OpenedRound(n(1), 0, Next(TRAIN.step), ALL)
    state, _ = resume(rules, Progress(0, ALL, opened=opened))

    state, actions = play(state, *arrive(A, B, C, D))

    assert actions == (Combine(n(1), 0, ALL),)
