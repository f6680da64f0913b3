"""What is reported of a run: its rounds and what became of each task, once, whoever drives it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from heliosdb.observing import table
from heliosdb.observing.metric import Daemon
from heliosdb.observing.tracing import tracing_to
from tests.support.heard import hearing
from tests.support.spans import Kept
from tests.unit.coordinator.driver_toys import LONG, USUAL, at
from tests.unit.coordinator.fake_federation import refusal


@pytest.mark.parametrize(
    ("lie", "lost"),
    [
        ("late", ("dropped", "late")),
        ("huge", ("rejected", "update_rejected")),
        (refusal, ("refused", "undefined_column")),
    ],
)
def test_what_became_of_each_task_is_reported_once_and_why(
    made: Any, lie: Any, lost: tuple[str, str]
) -> None:
    world = made(LONG, b=at(1, 1, lie))
    with hearing() as heard:
        rows = world.live_on()
    workspace = world.run.policy.workspace

    assert heard.of(table.LOST_UPDATES) == {(workspace, *lost): 1}
    recorded = Counter((workspace, task["outcome"]) for task in rows.tasks.values())
    assert heard.of(table.UPDATES) == dict(recorded)
    assert heard.of(table.RUNS) == {(workspace, rows.status): 1}
    assert heard.of(table.ROUNDS) == {(workspace,): len(rows.rounds)}


def test_a_round_that_another_coordinator_opened_has_no_duration(made: Any) -> None:
    world = made(USUAL)
    with hearing() as heard:
        world.kill_when(1, 0)
        world.live()
        rows = world.live_on()

    assert sum(heard.of(table.ROUNDS).values()) == len(rows.rounds)
    assert heard.observed[table.ROUND_SECONDS.name] == len(rows.rounds) - 1


def test_a_round_is_one_trace_whoever_drives_it(made: Any) -> None:
    world, kept = made(USUAL), Kept()
    with tracing_to(kept, Daemon.COORDINATOR):
        world.kill_when(1, 0)
        world.live()
        rows = world.live_on()

    rounds = [span for span in kept.spans if span.name == "round"]
    assert all(span.attributes is not None and span.context is not None for span in rounds)
    first = [span for span in rounds if span.attributes["heliosdb.round"] == 1]  # type: ignore[index]
    assert [span.attributes["heliosdb.outcome"] for span in first] == ["left", "closed"]  # type: ignore[index]
    assert len({span.context.trace_id for span in first if span.context}) == 1
    assert len({span.context.trace_id for span in rounds if span.context}) == len(rows.rounds)
