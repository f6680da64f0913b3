"""The page of `heliosdb node status`: what it shows of a participant's view, and of an empty one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

from heliosdb.catalog.participant_view import (
    Dataset,
    DatasetBudget,
    DayOfReleases,
    NodeOrder,
    NodeRun,
    ParticipantView,
    Refusal,
)
from heliosdb.cli.node_status import _sums, render
from heliosdb.domain.disclosure_rules import DisclosureRules
from heliosdb.node.config import NodeConfig

EMPTY = ParticipantView((), (), (), (), (), None)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
RUN = NodeRun(
    "consortium", "risk", "r", "patients", "logistic_regression", ("age", "pressure"), "outcome", NOON, 7, 0
)
BUDGET = DatasetBudget("patients", "shared", "consortium", 3.0, 8.0, 0.123456789, 1.5)
RELEASES = DayOfReleases(date(2026, 3, 4), "consortium", "patients", 1, 2, 3, 4096, 5, 6, 7)
REFUSAL = Refusal(NOON, 12, "consortium", "train", None, "the task asks for noise")


def page(view: ParticipantView, daemon: str = "ready") -> str:
    return "\n".join(render(view, daemon))


def section(view: ParticipantView, title: str) -> list[list[str]]:
    """The cells of a section's rows, without its heads."""
    for block in page(view).split("\n\n"):
        first, *lines = block.splitlines()
        if first == title:
            return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]] or [
                [lines[0].strip()]
            ]
    raise AssertionError(title)


def test_an_empty_page_says_none_of_everything_and_nothing_of_subscriptions() -> None:
    lines = page(EMPTY).splitlines()
    assert lines[0] == "Daemon: ready"
    assert lines[1:] == [
        "", "Datasets", "  none", "", "Rules of answers without noise, where any are given", "  none", "", "Last 10 runs", "  none",
        "", "Privacy budgets, as the ledger has them", "  none",
        "", "What left in the last 7 days", "  none", "", "Last 10 refusals", "  none",
    ]  # fmt: skip


def test_orders_are_shown_with_what_was_told_of_them_and_no_subject() -> None:
    held = NodeOrder(NOON, "consortium", "erase", "suppressed", 3, "o-1")
    unknown = replace(held, outcome="not identifiable", rows=None)
    assert section(replace(EMPTY, orders=(held, unknown)), "Last 10 orders about data subjects") == [
        ["2026-03-04 12:00:00", "consortium", "erase", "suppressed", "3", "o-1"],
        ["2026-03-04 12:00:00", "consortium", "erase", "not identifiable", "-", "o-1"],
    ]


def test_datasets_are_shared_or_paused() -> None:
    shared = Dataset("patients", "consortium", "public.patient", ("age", "outcome"), False)
    paused = Dataset("visits", "consortium", "public.visit", ("cost",), True)
    assert section(replace(EMPTY, datasets=(shared, paused)), "Datasets") == [
        ["patients", "shared", "consortium", "public.patient", "age, outcome"],
        ["visits", "paused", "consortium", "public.visit", "cost"],
    ]


def test_rules_of_plain_answers_are_shown_as_they_are_in_force() -> None:
    own = DisclosureRules(min_rows=1, min_cell=8, max_dominance=1.0)
    shared = Dataset("patients", "c", "public.p", ("age",), False, own)
    found = "\n".join(render(replace(EMPTY, datasets=(shared,)), "well", {"min_rows": 50, "max_datasets": 3}))
    words = next(line for line in found.splitlines() if line.split()[:2] == ["patients", "50"]).split()
    assert words == ["patients", "50", "8", "5", "1", "0.3333", "3", "64"]


def test_runs_are_shown_in_utc_and_those_of_older_versions_without_their_columns() -> None:
    east = replace(RUN, last_task_at=NOON.astimezone(timezone(timedelta(hours=5))), charges=4)
    old = replace(RUN, model=None, algorithm=None, columns=(), target=None)
    assert section(replace(EMPTY, runs=(east, old)), "Last 10 runs") == [
        ["2026-03-04 12:00:00", "consortium", "risk", "patients", "logistic_regression",
         "age, pressure → outcome", "7", "4"],
        ["2026-03-04 12:00:00", "consortium", "-", "patients", "-", "-", "7", "0"],
    ]  # fmt: skip


def test_budgets_name_the_ceiling_that_holds() -> None:
    agreed = replace(BUDGET, max_epsilon=None, state="paused")
    unspent = replace(BUDGET, max_epsilon=None, agreed_epsilon=None, epsilon=None, total_epsilon=None)
    budgets = (BUDGET, agreed, unspent)
    assert section(replace(EMPTY, budgets=budgets), "Privacy budgets, as the ledger has them") == [
        ["patients", "consortium", "0.123457", "1.5", "3 (max_epsilon)"],
        ["patients (paused)", "consortium", "0.123457", "1.5", "8 (first agreed)"],
        ["patients", "consortium", "-", "-", "-"],
    ]


def test_releases_and_refusals_are_rows() -> None:
    view = replace(EMPTY, releases=(RELEASES,), refusals=(REFUSAL,))
    assert section(view, "What left in the last 7 days") == [
        ["2026-03-04", "consortium", "patients", "1", "2", "3", "4096", "5", "6", "7"]
    ]
    assert section(view, "Last 10 refusals") == [
        ["2026-03-04 12:00:00", "12", "consortium", "train", "-", "the task asks for noise"]
    ]


def test_a_text_of_the_other_side_moves_no_cursor_and_makes_no_column_wide() -> None:
    view = replace(EMPTY, runs=(replace(RUN, model="\x1b[2J" + "x" * 300),))
    [row] = section(view, "Last 10 runs")
    assert row[2] == "[2J" + "x" * 55 + "…"
    whole = replace(REFUSAL, message="y" * 300)
    assert section(replace(EMPTY, refusals=(whole,)), "Last 10 refusals")[0][-1] == "y" * 300


def test_subscriptions_are_shown_where_the_catalog_has_them() -> None:
    row = {"subscription_name": "s", "workspace": "w", "model_name": "m", "version": 3, "available_version": 4,
           "lag": 1, "state": "late", "message": None, "unknown": "not shown"}  # fmt: skip
    view = replace(EMPTY, subscriptions=(row,))
    assert section(view, "Subscriptions") == [["s", "w", "m", "3", "4", "1", "late", "-"]]
    assert section(replace(EMPTY, subscriptions=()), "Subscriptions") == [["none"]]


def test_what_the_daemon_says_is_one_line() -> None:
    assert page(EMPTY, "not well: waiting\nfor the database").splitlines()[0] == (
        "Daemon: not well: waiting for the database"
    )


def test_the_terms_of_secure_sums_are_those_of_the_settings() -> None:
    given = {"peers": None, "curious_peers": None, "least_threshold": None}
    noise = {"distributed_noise": True, "central_noise": False}
    assert _sums(NodeConfig.model_construct(**given, **noise)) == "none: the setting peers is missing"
    given = {"peers": Path("peers.pem"), "curious_peers": 1, "least_threshold": None}
    assert _sums(NodeConfig.model_construct(**given, **noise)) == (
        "curious_peers 1, least_threshold as the protocol has it, distributed_noise true, central_noise false"
    )
