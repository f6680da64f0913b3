"""The round machine where nodes are away: what waits, for whom, and what ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.domain import events as ev
from heliosdb.domain.absence import Absence
from heliosdb.domain.events import FailRun, Loss, NodesAway, NodesSeen, Say, SendTasks, Wait, WaitedTooLong
from heliosdb.domain.ids import NodeName
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.round import decide, resume
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
    arrive,
    deadline,
    lose,
    n,
    play,
    training,
)


def away(*nodes: NodeName) -> tuple[Absence, ...]:
    return tuple(Absence(node, "connection refused") for node in nodes)


def gone(*nodes: NodeName, number: int = 1, exchange: int = 0, final: bool = False) -> NodesAway:
    return NodesAway(n(number), exchange, away(*nodes), final)


def broken_off() -> RunState:
    state, actions = play(training(), *arrive(A), gone(B, C))
    assert state.phase is Phase.AWAY
    said = "waiting for nodes: 1 of 2 updates needed arrived (b: connection refused; c: connection refused)"
    assert actions == (Wait(said),)
    return state


def test_an_exchange_that_lost_its_quorum_to_absence_is_asked_again_of_the_same_nodes() -> None:
    state, actions = decide(broken_off(), NodesSeen(n(1), frozenset((A,)), away(B, C)))
    assert actions == (
        Wait("waiting for nodes: 1 of 2 active, 3 registered (b: connection refused; c: connection refused)"),
    )

    state, actions = decide(state, NodesSeen(n(1), frozenset((A, C)), away(B)))

    assert actions == (Say("round 1 of 2"), SendTasks(n(1), 0, TRAIN.step, ALL))
    # What arrived before counts no more than after a restart.
    assert (state.phase, state.answered, state.lost) == (Phase.EXCHANGE, frozenset(), ())


def test_it_waits_beyond_every_deadline_while_its_nodes_are_registered() -> None:
    state = broken_off()
    for _ in range(3):
        state, actions = decide(state, WaitedTooLong(n(1), frozenset((A,)), away(B, C)))
        assert state.phase is Phase.AWAY
        assert isinstance(actions[0], Wait)

    unregistered = (Absence(B, ev.UNREGISTERED), Absence(C, ev.UNREGISTERED))
    _, actions = decide(state, WaitedTooLong(n(1), frozenset((A,)), unregistered))
    assert actions == (
        FailRun(
            "round 1 could not go on: 1 of 2 nodes needed are active, 1 registered"
            " (b was unregistered; c was unregistered)"
        ),
    )


def test_whoever_refused_is_not_counted_on() -> None:
    state, _ = play(training(), lose(A, "refused: no"), *arrive(B), gone(C))
    assert state.phase is Phase.AWAY

    waiting, actions = decide(state, NodesSeen(n(1), frozenset((A, B)), away(C)))
    assert waiting.phase is Phase.AWAY
    assert isinstance(actions[0], Wait)
    assert isinstance(decide(state, NodesSeen(n(1), frozenset((B, C))))[1][1], SendTasks)

    _, actions = play(training(), lose(A, "refused: no"), lose(B, "refused: no"), gone(C))
    assert actions == ()


def test_nodes_that_could_still_answer_are_heard_out_first() -> None:
    state, actions = play(training(), *arrive(A), gone(C))
    assert (state.phase, actions) == (Phase.EXCHANGE, ())

    # At the deadline who is there and silent is a straggler, and the others are still too few.
    state, actions = play(state, gone(C, final=True))
    assert state.phase is Phase.AWAY

    state, actions = play(
        training(rules=replace(RULES, min_nodes_per_round=3)), *arrive(A), gone(C, final=True)
    )
    assert (state.phase, actions) == (Phase.EXCHANGE, ())
    assert isinstance(play(state, deadline(final=True))[1][0], FailRun)


def test_an_exchange_that_has_its_quorum_waits_as_long_as_it_may_and_says_for_whom() -> None:
    state, actions = play(training(), *arrive(A, B), gone(C))
    assert (state.phase, actions) == (
        Phase.EXCHANGE, (Say("round 1 of 2: waiting for nodes (c: connection refused)"),),
    )  # fmt: skip
    assert play(state, gone(C, final=True))[1] == ()
    assert play(state, deadline(final=True))[1] == (ev.Combine(n(1), 0, frozenset((A, B))),)


@pytest.mark.parametrize(("number", "asked"), [(0, SURVEY), (1, MEASURE)])
def test_round_zero_and_what_a_round_can_do_without_keep_their_deadline(number: int, asked: ev.Next) -> None:
    opened = OpenedRound(n(number), 0, asked, ALL)
    state, _ = resume(RULES, Progress(closed=number - 1, members=ALL if number else None, opened=opened))

    state, actions = play(state, *arrive(A, number=number), gone(B, C, number=number))
    assert state.phase is Phase.EXCHANGE
    assert isinstance(actions[0], Say)

    _, actions = play(state, gone(B, C, number=number, final=True), deadline(final=True, number=number))
    assert isinstance(actions[0], ev.Combine if number else FailRun)


@pytest.mark.parametrize(
    "late", [gone(B, C, number=2), gone(B, C, exchange=1), gone(NodeName("stranger")), gone()]
)
def test_who_is_away_from_another_exchange_or_is_a_stranger_changes_nothing(late: NodesAway) -> None:
    state = training()
    assert decide(state, late) == (state, ())


def test_what_happens_to_an_exchange_that_was_broken_off_changes_nothing() -> None:
    state = broken_off()
    for late in (
        *arrive(B),
        ev.NodeLost(n(1), 0, Loss(B, Outcome.DROPPED, "gone")),
        deadline(final=True),
        gone(B, C),
    ):
        assert decide(state, late) == (state, ())
    assert decide(state, NodesSeen(n(0), ALL)) == (state, ())


def test_a_node_that_the_run_needs_is_waited_for_whoever_else_has_answered() -> None:
    state, actions = play(training(rules=replace(RULES, needed=frozenset((C,)))), *arrive(A, B), gone(C))
    assert state.phase is Phase.AWAY
    assert actions == (Wait("waiting for nodes: 2 of 2 updates needed arrived (c: connection refused)"),)

    state, actions = decide(state, NodesSeen(n(1), frozenset((A, B)), away(C)))
    assert actions == (
        Wait('waiting for nodes: 2 of 2 active, and not "c", 3 registered (c: connection refused)'),
    )
    assert isinstance(decide(state, NodesSeen(n(1), ALL))[1][1], SendTasks)


def test_a_run_that_waits_can_be_stopped() -> None:
    _, actions = decide(broken_off(), ev.StopRequested())
    assert isinstance(actions[0], ev.FinishRun)


def test_between_rounds_a_run_waits_for_its_members_and_fails_where_too_few_are_left() -> None:
    state, _ = resume(RULES, Progress(closed=1, members=ALL))
    state, actions = decide(state, WaitedTooLong(n(2), frozenset((A,)), away(B, C)))
    assert state.phase is Phase.WAITING
    assert isinstance(actions[0], Wait)

    # One that was registered since belongs to no round of this run.
    stranger = NodeName("d")
    unregistered = (*away(stranger), Absence(B, ev.UNREGISTERED), Absence(C, ev.UNREGISTERED))
    _, actions = decide(state, WaitedTooLong(n(2), frozenset((A,)), unregistered))
    assert isinstance(actions[0], FailRun)


def test_the_choice_is_told_what_is_known() -> None:
    told: list[object] = []

    class Listening:
        ranks = True

        def choose(self, able: ev.Names, number: int, known: object) -> ev.Names:
            told.append((number, known))
            return able

    state, _ = resume(replace(RULES, choice=Listening()), Progress(closed=0, members=ALL))
    known = {A: ev.NO_STANDINGS}
    decide(state, NodesSeen(n(1), ALL, (), known))  # type: ignore[arg-type]
    assert told == [(1, known)]
