"""How the round machine ends a run: diverged, converged, stopped or out of budget, and which round it publishes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.domain import events as ev
from heliosdb.domain.events import (
    CloseRound,
    Ended,
    Event,
    FailRun,
    Figures,
    FinishRun,
    Loss,
    Next,
    PublishVersion,
    SendTasks,
)
from heliosdb.domain.ids import NodeName
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.round import begin, decide, resume
from heliosdb.domain.run import Outcome, RunStatus
from heliosdb.domain.run_state import Rules, RunState
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
    combined,
    lose,
    n,
    play,
    traced,
    training,
)


def diverging(node: NodeName, number: int = 1) -> Event:
    reason = "its norm 3.1e+07 is larger than max_update_norm 10000"
    return ev.NodeLost(n(number), 0, Loss(node, Outcome.REJECTED, reason, diverging=True))


def test_updates_that_all_are_too_large_mean_that_training_diverged() -> None:
    state = training(rules=replace(RULES, learning_rate=0.5))

    _, actions = play(state, diverging(B), diverging(C))

    said = (
        "round 1: 0 of 2 updates needed arrived (b: its norm 3.1e+07 is larger than max_update_norm 10000; "
    )
    said += "c: its norm 3.1e+07 is larger than max_update_norm 10000)"
    hint = "; where updates are meant to be that large, raise max_update_norm"
    hint += "; learning_rate is 0.5, and a tenth of it is worth trying"
    end = "; no round is better than the base rate, so there is no new version"
    assert actions == (FinishRun(RunStatus.DIVERGED, said + hint + end),)
    _, actions = play(training(), *arrive(A), diverging(B), diverging(C))
    assert actions == (FailRun(said.replace("0 of 2", "1 of 2")),)
    _, actions = play(replace(training(), trace=traced(9.0)), *arrive(A), diverging(B), diverging(C))
    assert isinstance(actions[0], FinishRun)
    assert actions[0].status is RunStatus.DIVERGED


def test_values_that_are_not_finite_before_training_are_no_divergence() -> None:
    opened = OpenedRound(n(0), 0, SURVEY, ALL)
    state, _ = resume(RULES, Progress(opened=opened))

    _, actions = play(state, diverging(B, 0), diverging(C, 0))

    assert isinstance(actions[0], FailRun)


def test_a_combination_that_no_task_may_carry_ends_the_run_with_its_best_round() -> None:
    opened = OpenedRound(n(3), 0, TRAIN, ALL)
    progress = Progress(closed=2, members=ALL, trace=traced(0.5, 0.75), opened=opened)
    state, _ = play(resume(RULES, progress)[0], *arrive(A, B, C, number=3))

    _, actions = decide(state, ev.TrainingDiverged(n(3), "training diverged in round 3"))

    message = "training diverged in round 3; published round 1 of 2"
    assert actions == (PublishVersion(n(1), RunStatus.DIVERGED, message),)


def test_a_run_whose_losses_go_away_diverges_and_says_what_to_do() -> None:
    rules = replace(RULES, rounds=9, patience=2, threshold=0.001, learning_rate=300.0)

    _, actions = resume(rules, Progress(closed=3, members=ALL, trace=traced(0.625, 3.0, 3.25)))

    message = (
        "training diverged in round 3: its loss is 3.25 times that of the base rate, after 0.625 times in round 1; "
        "learning_rate is 300, and a tenth of it is worth trying; published round 1 of 3"
    )
    assert actions == (PublishVersion(n(1), RunStatus.DIVERGED, message),)


def test_a_diverged_run_without_a_useful_round_publishes_nothing() -> None:
    rules = replace(RULES, rounds=9, patience=2)

    for kept in (True, False):
        _, actions = resume(
            replace(rules, keep_best=kept), Progress(closed=3, members=ALL, trace=traced(1.5, 3.0, 3.25))
        )
        assert isinstance(actions[0], FinishRun)
        assert actions[0].status is RunStatus.DIVERGED
        assert actions[0].message.endswith("so there is no new version")


def test_a_short_run_that_ends_far_from_its_best_has_diverged_too() -> None:
    _, actions = resume(
        replace(RULES, rounds=3), Progress(closed=3, members=ALL, trace=traced(0.5, 3.0, 4.0))
    )

    assert isinstance(actions[0], PublishVersion)
    assert (actions[0].round, actions[0].status) == (1, RunStatus.DIVERGED)


def test_a_run_of_one_round_that_has_diverged_names_its_loss_once() -> None:
    _, actions = resume(replace(RULES, rounds=1), Progress(closed=1, members=ALL, trace=traced(21.0)))

    assert isinstance(actions[0], FinishRun)
    assert "in round 1: its loss is 21 times that of the base rate;" in actions[0].message


def test_a_run_that_ends_worse_than_the_base_rate_says_so() -> None:
    rules = replace(RULES, rounds=3)

    # A rare class: it falls from a coin's loss, and has not got there.
    falling = tuple(replace(one, start=20.0) for one in traced(18.0, 15.0, 12.0))
    _, actions = resume(rules, Progress(closed=3, members=ALL, trace=falling))

    message = (
        "all 3 rounds done; its loss is 12 times that of the base rate, "
        "which more rounds or another learning_rate may mend"
    )
    assert actions == (PublishVersion(n(3), RunStatus.COMPLETED, message),)


def test_a_loss_that_rises_again_completes_the_run_with_the_best_round() -> None:
    rules = replace(RULES, rounds=9, patience=2, threshold=0.001)

    _, actions = resume(rules, Progress(closed=5, members=ALL, trace=traced(0.25, 0.5, 0.5, 0.5, 0.5)))

    message = (
        "the loss has risen again by round 5: its loss is 0.5 times that of the base rate, "
        "after 0.25 times in round 1; published round 1 of 5"
    )
    assert actions == (PublishVersion(n(1), RunStatus.COMPLETED, message),)


@pytest.mark.parametrize(("keep_best", "published"), [(True, 2), (False, 4)])
def test_the_best_round_is_published_where_that_is_wished_for(keep_best: bool, published: int) -> None:
    rules = replace(RULES, rounds=4, keep_best=keep_best)

    _, actions = resume(rules, Progress(closed=4, members=ALL, trace=traced(0.5, 0.25, 0.375, 0.5)))

    message = "all 4 rounds done" + ("; published round 2 of 4" if keep_best else "")
    assert actions == (PublishVersion(n(published), RunStatus.COMPLETED, message),)


def test_a_round_that_is_closed_says_which_state_is_still_needed() -> None:
    opened = OpenedRound(n(3), 0, TRAIN, ALL)
    rules = replace(RULES, rounds=9)
    progress = Progress(closed=2, members=ALL, trace=traced(0.25, 0.5), opened=opened)
    for loss, kept in ((0.375, 1), (0.25, 3), (0.125, 3)):
        state, _ = play(resume(rules, progress)[0], *arrive(A, B, C, number=3))
        figures = Figures(loss, None)
        assert decide(state, combined(number=3, figures=figures))[1] == (CloseRound(n(3), figures, n(kept)),)


def test_nodes_whose_budget_is_spent_end_the_run_as_exhausted() -> None:
    state = training(2)
    spent = [
        ev.NodeLost(n(2), 0, Loss(node, Outcome.REFUSED, "no budget", over_budget=True)) for node in (B, C)
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


def closing(round_number: int, figures: Figures, rules: Rules = RULES) -> RunState:
    """A run whose round is being closed."""
    return play(
        training(round_number, rules=rules),
        *arrive(A, B, C, number=round_number),
        combined(number=round_number, following=MEASURE),
        *arrive(A, B, C, number=round_number, exchange=1),
        combined(1, number=round_number, figures=figures),
    )[0]


def test_the_last_round_completes_the_run() -> None:
    _, actions = decide(closing(2, Figures(0.5, 0.8)), ev.RoundClosed(n(2)))

    assert actions == (PublishVersion(n(2), RunStatus.COMPLETED, "all 2 rounds done"),)


def test_a_run_that_has_converged_ends_early() -> None:
    progress = Progress(
        closed=3, members=ALL, trace=traced(0.5, 0.5, 0.5), opened=OpenedRound(n(4), 0, TRAIN, ALL)
    )
    rules = replace(RULES, rounds=9, threshold=0.01, patience=2)

    _, actions = play(
        resume(rules, progress)[0],
        *arrive(A, B, C, number=4),
        combined(number=4, figures=Figures(0.5, 0.8)),
        ev.RoundClosed(n(4)),
    )

    message = "the loss no longer improves after round 4"
    assert actions == (PublishVersion(n(4), RunStatus.CONVERGED, message),)


def test_a_run_that_has_converged_when_it_is_resumed_ends() -> None:
    rules = replace(RULES, rounds=9, threshold=0.01, patience=2)

    _, actions = resume(rules, Progress(closed=4, members=ALL, trace=traced(0.5, 0.5, 0.5, 0.5)))

    assert actions == (
        PublishVersion(n(4), RunStatus.CONVERGED, "the loss no longer improves after round 4"),
    )


def test_a_run_that_has_reached_its_accuracy_ends_early() -> None:
    state = closing(1, Figures(0.5, 0.9), replace(RULES, target_accuracy=0.9))

    _, actions = decide(state, ev.RoundClosed(n(1)))

    message = "accuracy 0.9 reached target_accuracy 0.9 after round 1"
    assert actions == (PublishVersion(n(1), RunStatus.CONVERGED, message),)


def test_an_accuracy_with_noise_has_to_be_two_errors_beyond_the_target() -> None:
    rules = replace(RULES, rounds=9, target_accuracy=0.75, noised=True)
    for accuracy, reached in ((0.84, False), (0.86, True)):
        state = closing(1, Figures(0.5, accuracy, 0.1, 0.05), rules)
        assert bool(decide(state, ev.RoundClosed(n(1)))[1]) is reached
    # Without noise it is the accuracy of these rows, whatever of others.
    state = closing(1, Figures(0.5, 0.75, 0.1, 0.05), replace(rules, noised=False))
    assert decide(state, ev.RoundClosed(n(1)))[1]


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
    progress = Progress(closed=1, members=ALL, opened=OpenedRound(n(2), 1, MEASURE, ALL), stop_requested=True)

    state, actions = resume(RULES, progress)

    assert actions == (PublishVersion(n(1), RunStatus.STOPPED, "stopped on request"),)
    assert (state.round, state.exchange, state.cohort) == (2, 1, ALL)


def test_a_stop_while_an_exchange_is_combined_says_of_the_next_that_it_is_committed_and_asks_nobody() -> None:
    state, _ = play(training(), lose(C), *arrive(A, B), ev.StopRequested())

    state, actions = decide(state, combined(following=MEASURE))

    assert [type(action) for action in actions] == [FinishRun]
    assert (state.exchange, state.asked, state.cohort) == (1, MEASURE, frozenset((A, B)))
    assert state.answered == frozenset()


def test_a_run_that_was_killed_before_its_version_publishes_it() -> None:
    _, actions = resume(RULES, Progress(closed=2, members=ALL, figures=Figures(0.5, 0.8)))

    assert actions == (PublishVersion(n(2), RunStatus.COMPLETED, "all 2 rounds done"),)


def test_a_run_that_is_never_evaluated_ends_with_its_last_round() -> None:
    rules = replace(RULES, rounds=2, target_accuracy=0.5, threshold=0.001, patience=1)

    _, actions = resume(rules, Progress(closed=2, members=ALL))

    assert actions == (PublishVersion(n(2), RunStatus.COMPLETED, "all 2 rounds done"),)


def test_a_round_whose_figures_have_no_accuracy_reaches_no_target() -> None:
    state = closing(1, Figures(0.5, None), replace(RULES, rounds=9, target_accuracy=0.01))

    _, actions = decide(state, ev.RoundClosed(n(1)))

    assert actions == ()


def test_a_trial_is_said_to_be_judged_by_its_best_round() -> None:
    rules = replace(RULES, rounds=3, publishes=False)

    _, actions = resume(rules, Progress(closed=3, members=ALL, trace=traced(0.5, 0.25, 0.75)))

    assert actions == (
        PublishVersion(n(2), RunStatus.COMPLETED, "all 3 rounds done; judged by round 2 of 3"),
    )


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (Ended("the estimates no longer move"), RunStatus.CONVERGED),
        (Ended("separation", converged=False), RunStatus.COMPLETED),
    ],
)
def test_an_algorithm_that_says_it_is_done_ends_the_run_with_its_last_round(
    ended: Ended, status: RunStatus
) -> None:
    rules = replace(RULES, rounds=30)
    state, _ = play(training(rules=rules), *arrive(*sorted(ALL)))

    state, actions = decide(state, ev.Combined(n(1), 0, None, None, ended))
    assert actions == (CloseRound(n(1), None, n(1)),)
    _, actions = decide(state, ev.RoundClosed(n(1)))
    assert actions == (PublishVersion(n(1), status, ended.reason),)

    # The same from committed rows, whichever of the rounds has the best figures.
    progress = Progress(closed=3, members=ALL, trace=traced(0.2, 0.5, 0.6), ended=ended)
    assert resume(rules, progress)[1] == (PublishVersion(n(3), status, ended.reason),)


def test_what_was_asked_to_stop_is_stopped_though_it_was_done() -> None:
    progress = Progress(closed=2, members=ALL, stop_requested=True, ended=Ended("done"))
    (action,) = resume(RULES, progress)[1]
    assert isinstance(action, PublishVersion)
    assert action.status is RunStatus.STOPPED


def without(*nodes: NodeName) -> tuple[Loss, ...]:
    return tuple(Loss(node, Outcome.DROPPED, "its group has no sum: too few") for node in nodes)


def test_whose_group_is_left_out_is_asked_nothing_further_in_the_round() -> None:
    state, _ = play(training(), *arrive(*sorted(ALL)))

    state, actions = decide(state, ev.Combined(n(1), 0, None, TRAIN, None, without(C)))

    assert actions == (SendTasks(n(1), 1, TRAIN.step, frozenset((A, B))),)


@pytest.mark.parametrize("following", [TRAIN, MEASURE, None])
def test_a_round_ends_the_run_whose_groups_hold_fewer_than_a_round_needs(following: Next | None) -> None:
    state, _ = play(training(), *arrive(A, B), lose(C))

    _, (action,) = decide(state, ev.Combined(n(1), 0, None, following, None, without(B, C)))

    assert isinstance(action, FailRun)
    assert "1 of 2 updates needed arrived" in action.reason
    assert "b: its group has no sum: too few" in action.reason
