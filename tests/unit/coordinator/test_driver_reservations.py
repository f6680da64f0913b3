"""What the driver charges, keeps reserved and takes back: of stragglers, of stops, of what nobody was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.domain.run import Run
from heliosdb.domain.task import Task
from tests.unit.coordinator.driver_toys import BUDGET, LONG, PROBLEM, SHORT, USUAL, at, outcome
from tests.unit.coordinator.fake_catalog import Key, Rows
from tests.unit.coordinator.fake_federation import NAMES, Toy, refusal, steps, toy_run, unsent


def private(toy: Toy = USUAL, **options: Any) -> Run:
    del toy
    return toy_run(budget=BUDGET, **options)


def standing(rows: Rows) -> dict[Key, str]:
    """The lines of the ledger that are not charged."""
    return {key: state for key, state in rows.reservations().items() if state != "charged"}


def test_what_was_answered_is_charged_and_nothing_else_is_left(made: Any) -> None:
    rows = made(LONG, private()).live_on()

    assert rows.status == "completed"
    assert set(rows.reservations().values()) == {"charged"}
    assert rows.reservations().keys() == rows.tasks.keys() == rows.spending.keys()


def test_a_straggler_keeps_reserved_what_it_may_have_released_and_nothing_of_later_exchanges(
    made: Any,
) -> None:
    rows = made(LONG, private(), b=at(1, 1, "late")).live_on()

    assert standing(rows) == {(1, 1, "count", "b"): "reserved"}
    assert [key[1] for key in rows.reservations() if key[0] == 1 and key[3] == "b"] == [0, 1]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_straggler_of_a_round_of_one_exchange_stays_reserved_when_the_run_ends(
    made: Any, number: int
) -> None:
    """Also where the run ends right behind that round: the round is closed, and nothing of it is taken back."""
    name = "move" if number else "find"
    world = made(SHORT, private(rounds=max(number, 1)), b=at(number, 0, "late"))

    rows = world.live_on()

    assert rows.status == "completed"
    assert standing(rows) == {(number, 0, name, "b"): "reserved"}


def test_a_stop_behind_round_zero_takes_back_nothing_that_may_have_been_released(made: Any) -> None:
    world = made(SHORT, private(), b=at(0, 0, "late"))
    world.stop_on = lambda name: name == "close_round"

    rows = world.live_on()

    assert rows.status == "stopped"
    assert standing(rows) == {(0, 0, "find", "b"): "reserved"}


@pytest.mark.parametrize("wrong", [refusal, unsent()])
def test_a_node_that_certainly_released_nothing_has_nothing_reserved(made: Any, wrong: Any) -> None:
    rows = made(USUAL, private(), b=at(1, 0, wrong)).live_on()

    assert rows.status == "completed"
    assert standing(rows) == {}
    assert not [key for key in rows.reservations() if key[0] == 1 and key[3] == "b"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_stop_before_anybody_was_asked_takes_back_the_whole_round(made: Any, number: int) -> None:
    world = made(LONG, private())
    world.stop_on = lambda name: name == "open_round" and world.calls.count(name) == number + 1

    rows = world.live_on()

    assert rows.status == "stopped"
    assert standing(rows) == {}
    assert not [key for key in rows.reservations() if key[0] == number]
    assert not [one for one in world.asked if one[0] == number]


def test_a_stop_in_the_middle_of_an_exchange_keeps_what_is_under_way(made: Any) -> None:
    world = made(LONG, private(), c=at(1, 0, "late"))

    def stop(task: Task) -> None:
        if (task.key.round, task.key.exchange) == (1, 0):
            world.driver.request_stop()

    world.nodes["b"].lie = stop
    rows = world.live_on()

    assert rows.status == "stopped"
    kept = {key: state for key, state in rows.reservations().items() if key[0] == 1}
    assert {key[1] for key in kept} == {0}
    assert kept[1, 0, "move", "c"] == "reserved"
    assert rows.tasks[1, 0, "move", "c"]["outcome"] == "pending"


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_stop_once_the_next_exchange_is_committed_takes_back_what_nobody_was_asked_for(
    made: Any, count: int
) -> None:
    """keep_exchange number 1 is of round 0, the others of round 1."""
    world = made(LONG, private())
    world.stop_on = lambda name: name == "keep_exchange" and world.calls.count(name) == count

    rows = world.live_on()

    assert outcome(rows)[0] == "stopped"
    assert standing(rows) == {}
    assert rows.reservations().keys() == rows.spending.keys()
    assert rows.spending.keys() == {key for key, row in rows.tasks.items() if row["outcome"] == "received"}


def test_a_stop_within_a_round_publishes_what_the_round_before_led_to(made: Any) -> None:
    whole, stopped = made(LONG, toy_run(rounds=1)), made(LONG, toy_run(rounds=1))
    stopped.run = stopped.catalog.run = toy_run(rounds=2)
    stopped.stop_on = lambda name: name == "keep_exchange" and stopped.calls.count(name) == 6

    expected, rows = whole.live_on(), stopped.live_on()

    assert outcome(rows) == ("stopped", "stopped on request")
    assert rows.rounds[2]["status"] == "failed"
    assert [one["sha256"] for one in rows.versions] == [one["sha256"] for one in expected.versions]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_exchange_that_cannot_be_asked_for_takes_back_what_is_reserved_for_it(
    made: Any, count: int
) -> None:
    name = ["count", "move2", "measure"][count - 1]
    later = steps("move", "count", "move2", "measure", **{name: {"refuses": {"ask": PROBLEM}}})
    rows = made(Toy(steps("find"), later), private()).live_on()

    assert rows.status == "failed"
    assert standing(rows) == {}
    assert len([key for key in rows.reservations() if key[0] == 1]) == 3 * count


def test_a_stop_that_a_later_coordinator_finds_takes_back_what_was_certainly_never_asked_for(
    made: Any,
) -> None:
    world = made(LONG, private())
    world.kill_when(1, 1)
    world.live()
    assert world.rows.status == "running"
    world.rows.stop_requested = True

    rows = world.live_on()

    assert rows.status == "stopped"
    assert standing(rows) == {(1, 1, "count", name): "reserved" for name in NAMES}
