"""A run whose nodes go away in the middle: it waits, says for whom, and goes on to the same bits."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.domain.run import Run
from tests.unit.coordinator.driver_toys import BUDGET, LONG, LONGEST, USUAL, at, outcome
from tests.unit.coordinator.fake_federation import Toy, refusal, toy_run
from tests.unit.coordinator.test_driver_kills import left

RUNS = [
    (USUAL, toy_run()),
    (LONG, toy_run(budget=BUDGET)),
    (LONGEST, toy_run(aggregation="toy_momentum", decay=0.5)),
]
# Longer than any deadline of the run.
LONG_GONE = 1_000.0


@pytest.mark.parametrize(("toy", "run"), RUNS, ids=["usual", "private", "memory"])
@pytest.mark.parametrize("exchange", [0, 2])
def test_a_run_that_lost_its_nodes_in_an_exchange_goes_on_where_it_was(
    made: Any, toy: Toy, run: Run, exchange: int
) -> None:
    if exchange >= len(toy.later):
        exchange = 0
    expected = left(made(toy, run).live_on())
    world = made(toy, run)
    world.leave_when(1, exchange, "b", "c", seconds=LONG_GONE)

    rows = world.live_on(most=1)

    assert left(rows) == expected
    waited = [text for text in rows.said if text.startswith("waiting")]
    assert waited[0] == "waiting for nodes: 1 of 2 updates needed arrived (b: away; c: away)"
    assert set(waited[1:]) <= {"waiting for nodes: 1 of 2 active, 3 registered (b: away; c: away)"}
    # What it says once they are there again is of the round.
    place = rows.said.index(waited[-1])
    assert rows.said[place + 1] == "round 1 of 2"


def test_a_run_that_lost_its_nodes_between_rounds_waits_longer_than_a_round_may_take(made: Any) -> None:
    expected = left(made(USUAL).live_on())
    world = made(USUAL)
    # Nobody misses them in the last exchange, which the round does without.
    world.leave_when(1, 1, "b", "c", seconds=LONG_GONE)

    rows = world.live_on(most=1)

    assert rows.status == "completed"
    assert "waiting for nodes: 1 of 2 active, 3 registered (b: away; c: away)" in rows.said
    assert rows.said[-1] == "round 2 of 2"
    assert rows.versions[0]["round"] == expected[-1][3][0]["round"] == 2


@pytest.mark.parametrize("run", [toy_run(), toy_run(budget=BUDGET)], ids=["plain", "private"])
def test_a_kill_while_it_waits_changes_nothing(made: Any, run: Run) -> None:
    expected = left(made(USUAL, run).live_on())
    world = made(USUAL, run)
    world.leave_when(1, 0, "b", "c", seconds=LONG_GONE)
    world.live()
    assert left(world.rows) == expected

    for moment in range(1, world.ticks + 1, 3):
        again = made(USUAL, run)
        again.leave_when(1, 0, "b", "c", seconds=50.0)
        again.kill_at = moment

        assert left(again.live_on()) == expected, moment


def test_a_run_that_waits_is_stopped_at_once(made: Any) -> None:
    world = made(USUAL, toy_run(budget=BUDGET))
    world.leave_when(2, 0, "b", "c", seconds=LONG_GONE)
    world.stop_on = lambda name: name == "say" and world.rows.message.startswith("waiting")

    rows = world.live_on(most=1)

    assert rows.status == "stopped"
    assert [version["round"] for version in rows.versions] == [1]
    states = rows.reservations()
    # What arrived is charged; of the others nobody knows, but for what was not asked.
    assert {key[3]: state for key, state in states.items() if key[:2] == (2, 0)} == {
        "a": "charged", "b": "reserved", "c": "reserved",
    }  # fmt: skip
    assert not [key for key in states if key[:2] == (2, 1)]


def test_nodes_that_refuse_are_not_waited_for(made: Any) -> None:
    world = made(USUAL, a=at(1, 0, refusal), b=at(1, 0, refusal))
    world.leave_when(1, 0, "c", seconds=LONG_GONE)

    rows = world.live_on(most=1)

    assert rows.status == "failed"
    assert not [text for text in rows.said if text.startswith("waiting")]


def test_a_node_that_is_there_and_silent_is_not_waited_for(made: Any) -> None:
    world = made(USUAL, b=at(1, 0, "late"), c=at(1, 0, "late"))

    assert outcome(world.live_on(most=1)) == (
        "failed", "round 1: 1 of 2 updates needed arrived (b: timed out; c: timed out)",
    )  # fmt: skip


def test_before_round_zero_is_closed_nobody_is_waited_for_longer_than_a_round(made: Any) -> None:
    world = made(USUAL)
    world.leave_when(0, 0, "b", "c", seconds=LONG_GONE)

    assert outcome(world.live_on(most=1)) == (
        "failed", "round 0: 1 of 2 updates needed arrived (b: away; c: away)",
    )  # fmt: skip


def test_a_run_that_gives_way_at_every_round_leaves_the_same(made: Any) -> None:
    run = toy_run(rounds=3, aggregation="toy_momentum", decay=0.5)
    expected = left(made(LONG, run).live_on())
    world = made(LONG, run)

    def give_way(name: str) -> bool:
        if name == "open_round":
            world.driver.give_way()
        return False

    world.stop_on = give_way
    lives = 0
    while world.rows.status == "running":
        world.live()
        lives += 1
        assert not world.catalog.opened()

    assert left(world.rows) == expected
    assert lives == 4


def test_a_run_that_waits_for_nodes_gives_way_at_once(made: Any) -> None:
    world = made(USUAL)
    world.leave_when(1, 0, "b", "c", seconds=LONG_GONE)

    def give_way(name: str) -> bool:
        if name == "say" and world.rows.message.startswith("waiting"):
            world.driver.give_way()
        return False

    world.stop_on = give_way
    world.live()

    assert world.rows.status == "running"
    assert world.driver.is_idle
    assert world.lived < LONG_GONE
    world.away.clear()
    world.stop_on = None
    assert left(world.live_on(most=1)) == left(made(USUAL).live_on())
