"""When the round machine asks for a report: once, of the version that is about to be published."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heliosdb.domain import events as ev
from heliosdb.domain.events import (
    CloseRound,
    Figures,
    FinishRun,
    PrepareReport,
    PublishVersion,
    SendTasks,
)
from heliosdb.domain.progress import OpenedRound, Progress
from heliosdb.domain.round import resume
from heliosdb.domain.run import RunStatus
from heliosdb.domain.run_state import Phase, RunState
from tests.unit.domain.played_rounds import (
    ALL,
    MEASURE,
    REPORT,
    RULES,
    TRAIN,
    A,
    B,
    arrive,
    combined,
    deadline,
    n,
    play,
    traced,
    training,
)

REPORTING = replace(RULES, reports=True)
GOOD = Figures(0.4, 0.9, base_loss=0.7)


def asked_for_report(*, best: bool = False) -> RunState:
    """The last round of two whose report is asked; best: of the first round's model, which was better."""
    state = training(2, rules=REPORTING)
    state = replace(state, trace=traced(0.2 if best else 0.9))
    state, _ = play(state, *arrive(*ALL, number=2), combined(number=2, following=MEASURE))
    state, actions = play(state, *arrive(*ALL, number=2, exchange=1), combined(1, number=2, figures=GOOD))
    assert state.phase is Phase.REPORTING
    assert actions == (PrepareReport(n(2), 1, ALL, GOOD),)
    state, actions = play(state, ev.ReportPrepared(n(2), REPORT))
    assert actions == (SendTasks(n(2), 2, REPORT.step, ALL, n(1) if best else None),)
    return state


def test_a_round_whose_report_is_left_out_is_closed_without_one_and_the_run_ends() -> None:
    state = training(2, rules=REPORTING)
    state = replace(state, trace=traced(0.9))
    state, _ = play(state, *arrive(*ALL, number=2), combined(number=2, following=MEASURE))
    state, _ = play(state, *arrive(*ALL, number=2, exchange=1), combined(1, number=2, figures=GOOD))
    assert play(state, ev.ReportLeftOut(n(1))) == (state, ())
    state, actions = play(state, ev.ReportLeftOut(n(2)))
    assert actions == (CloseRound(n(2), GOOD, n(2), is_reported=False),)
    _, actions = play(state, ev.RoundClosed(n(2)))
    assert isinstance(actions[0], PublishVersion)


@pytest.mark.parametrize("best", [False, True])
def test_the_last_round_is_closed_with_its_report_and_its_own_figures(best: bool) -> None:
    state, actions = play(asked_for_report(best=best), *arrive(*ALL, number=2, exchange=2))
    state, actions = play(state, combined(2, number=2))
    chosen = n(1) if best else n(2)
    assert actions == (CloseRound(n(2), GOOD, chosen, is_reported=True),)
    _, actions = play(state, ev.RoundClosed(n(2)))
    assert isinstance(actions[0], PublishVersion)
    assert (actions[0].round, actions[0].status) == (chosen, RunStatus.COMPLETED)


def test_a_round_after_which_the_run_goes_on_is_not_reported_on() -> None:
    state = training(1, rules=REPORTING)
    _, actions = play(state, *arrive(*ALL), combined(figures=GOOD))
    assert actions == (CloseRound(n(1), GOOD, n(1)),)


def test_a_run_that_converges_early_is_reported_on() -> None:
    state = training(1, rules=replace(REPORTING, target_accuracy=0.85))
    _, actions = play(state, *arrive(*ALL), combined(figures=GOOD))
    assert actions == (PrepareReport(n(1), 0, ALL, GOOD),)


def test_a_run_that_publishes_nothing_is_not_reported_on() -> None:
    rules = replace(REPORTING, rounds=1, patience=1, threshold=0.01)
    worse = Figures(50.0, 0.1, base_loss=0.7, start_loss=0.7)
    state, actions = play(training(1, rules=rules), *arrive(*ALL), combined(figures=worse))
    assert isinstance(actions[0], CloseRound)
    _, actions = play(state, ev.RoundClosed(n(1)))
    assert isinstance(actions[0], FinishRun)


def test_too_few_answers_leave_a_round_that_stands_and_no_report() -> None:
    state, actions = play(
        asked_for_report(), *arrive(A, number=2, exchange=2), deadline(final=True, number=2, exchange=2)
    )
    _, actions = play(state, combined(2, number=2))
    assert actions == (CloseRound(n(2), GOOD, n(2), is_reported=False),)


def test_a_stop_while_the_report_is_asked_closes_the_round_at_once() -> None:
    state, actions = play(asked_for_report(), *arrive(B, number=2, exchange=2), ev.StopRequested())
    assert actions == (CloseRound(n(2), GOOD, n(2)),)
    _, actions = play(state, ev.RoundClosed(n(2)))
    assert isinstance(actions[0], PublishVersion)
    assert actions[0].status is RunStatus.STOPPED


def test_a_stop_before_it_is_asked_closes_the_round_without_it() -> None:
    state, _ = play(training(2, rules=REPORTING), *arrive(*ALL, number=2), combined(number=2, figures=GOOD))
    state, actions = play(state, ev.StopRequested())
    assert (state.phase, actions) == (Phase.REPORTING, ())
    _, actions = play(state, ev.ReportPrepared(n(2), REPORT))
    assert actions == (CloseRound(n(2), GOOD, n(2)),)


def test_a_run_that_was_asked_to_stop_is_not_asked_for_a_report() -> None:
    state, _ = play(training(2, rules=REPORTING), *arrive(*ALL, number=2))
    _, actions = play(state, ev.StopRequested(), combined(number=2, figures=GOOD))
    assert actions == (CloseRound(n(2), GOOD, n(2)),)


@pytest.mark.parametrize("best", [False, True])
def test_one_that_was_killed_asks_the_same_again(best: bool) -> None:
    opened = OpenedRound(n(2), 2, REPORT, ALL, ALL, GOOD)
    progress = Progress(1, ALL, traced(0.2 if best else 0.9), Figures(0.9, 0.5), opened)
    state, actions = resume(REPORTING, progress)
    assert actions == (SendTasks(n(2), 2, REPORT.step, ALL, n(1) if best else None),)
    _, actions = play(state, *arrive(*ALL, number=2, exchange=2), combined(2, number=2))
    assert actions == (CloseRound(n(2), GOOD, n(1) if best else n(2), is_reported=True),)


def test_without_the_rule_nothing_is_asked() -> None:
    state = training(2)
    assert state.asked == TRAIN
    _, actions = play(state, *arrive(*ALL, number=2), combined(number=2, figures=GOOD))
    assert actions == (CloseRound(n(2), GOOD, n(2)),)
