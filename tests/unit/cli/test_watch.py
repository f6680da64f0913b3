"""Watching a run: what is shown of it once, and how many rounds it may have."""

from __future__ import annotations

import json

import pytest

from heliosdb.catalog.overview import ClosedRound, LatestRun
from heliosdb.cli.watch import EXIT_CODES, LineFollower, planned_rounds, progress_follower, round_text
from heliosdb.domain.run import RunStatus

ROUNDS = [ClosedRound(0, None, None, 3, 0, None), ClosedRound(1, 0.5, 0.75, 2, 1, 0.25)]


def test_each_round_of_each_run_is_shown_once() -> None:
    shown: list[str] = []
    follower = LineFollower(shown.append, as_json=True)
    for run, rounds in ((1, ROUNDS[:1]), (1, ROUNDS), (1, ROUNDS), (2, ROUNDS[:1])):
        follower.saw(LatestRun(run, "running", "round 1 of 5"), rounds)
    assert [(one["run"], one["round_number"]) for one in map(json.loads, shown)] == [(1, 0), (1, 1), (2, 0)]


def test_a_round_is_told_with_what_it_found() -> None:
    assert [round_text(one) for one in ROUNDS] == [
        "round 0: 3 nodes",
        "round 1: 2 nodes, 1 lost, loss 0.5000, accuracy 0.7500, ε 0.2500",
    ]


@pytest.mark.parametrize(
    ("message", "planned"),
    [("round 3 of 50", 50), ("preparing", None), (None, None), ("all 50 rounds done", None)],
)
def test_how_many_rounds_there_may_be_is_what_the_run_says(message: str | None, planned: int | None) -> None:
    assert planned_rounds(LatestRun(1, "running", message)) == planned


def test_every_end_of_a_run_has_an_exit_code_of_its_kind() -> None:
    ends = {status.value for status in RunStatus} - {"queued", "running"}
    assert ends == EXIT_CODES.keys()
    assert {end for end, code in EXIT_CODES.items() if code == 0} == {"converged", "completed"}


def test_what_a_run_says_is_no_markup_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_follower("m[red]") as follower:
        follower.saw(LatestRun(1, "running", "round 1 of 5"), ROUNDS)
        follower.ended("m[red]", LatestRun(1, "failed", "node [bold] refused\x1b[2J"), "failed")
    shown = capsys.readouterr().out
    assert "m[red]: failed: node [bold] refused [2J" in shown
    assert "1/1" not in shown
