"""A kill of the coordinator anywhere changes nothing in what a run leaves."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.domain.run import Run
from tests.unit.coordinator.driver_toys import BUDGET, LONG, LONGEST, REPORTED, USUAL
from tests.unit.coordinator.fake_catalog import Rows
from tests.unit.coordinator.fake_federation import Toy, steps, toy_run


def left(rows: Rows) -> Any:
    """What a run leaves, without what is sealed, measured or told."""
    rounds = {number: {**row, "message": None} for number, row in rows.rounds.items()}
    ledger = [(one["key"], one["state"], one["epsilon_tight"]) for one in rows.ledger.values()]
    states = {number: row["sha256"] for number, row in rows.states.items()}
    known = (rows.scaling, rows.plan, rows.sizes, rows.versions, rows.described)
    return rows.status, rounds, rows.tasks, ledger, states, rows.spending, known


KILLED = [
    (USUAL, toy_run(rounds=1)),
    (LONG, toy_run(rounds=1, budget=BUDGET)),
    (LONGEST, toy_run(rounds=1, budget=BUDGET)),
    (LONG, toy_run(rounds=2, aggregation="toy_momentum", decay=0.5)),
    (USUAL, toy_run(rounds=3, keep_best=True)),
    (REPORTED, toy_run(rounds=3, keep_best=True)),
    (USUAL, toy_run(rounds=2, aggregation="median", robust_groups=3)),
]


@pytest.mark.parametrize(
    ("toy", "run"), KILLED, ids=["usual", "long", "longest", "memory", "best", "reported", "groups"]
)
def test_a_kill_anywhere_changes_nothing_in_what_a_run_leaves(made: Any, toy: Toy, run: Run) -> None:
    whole = made(toy, run)
    expected = left(whole.live_on())
    assert expected[0] == "completed"

    for moment in range(1, whole.ticks + 1):
        world = made(toy, run)
        world.kill_at = moment

        assert left(world.live_on()) == expected, moment


def test_what_an_earlier_exchange_has_to_say_survives_a_kill(made: Any) -> None:
    toy = Toy(steps("find", "find2", find={"notes": ("first",)}, find2={"notes": ("second",)}), steps("move"))
    whole = made(toy)
    assert whole.live_on().rounds[0]["message"] == "first; second"

    for moment in range(1, whole.ticks + 1):
        world = made(toy)
        world.kill_at = moment

        assert world.live_on().rounds[0]["message"] == "first; second", moment


COUNTED = Toy(steps("find", "find2"), steps("move"), counts=True)


@pytest.mark.parametrize(
    ("options", "budget", "asked"),
    [
        ({}, BUDGET, ["find", "find2"]),
        ({}, None, ["find2"]),
        ({"target_classes": ["0", "1"]}, BUDGET, ["find2"]),
    ],
    ids=["undeclared", "no budget", "declared"],
)
def test_what_nodes_say_of_the_target_decides_how_round_zero_begins_whoever_asks(
    made: Any, options: dict[str, Any], budget: float | None, asked: list[str]
) -> None:
    run = toy_run(rounds=1, budget=budget, **options)
    whole = made(COUNTED, run)
    rows = whole.live_on()
    expected = left(rows)

    assert expected[0] == "completed"
    assert [key[2] for key in sorted(rows.tasks) if key[0] == 0 and key[3] == "a"] == asked
    reserved = [key[2] for key in sorted(rows.reservations()) if key[0] == 0 and key[3] == "a"]
    assert reserved == (asked if budget else [])
    for moment in range(1, whole.ticks + 1):
        world = made(COUNTED, run)
        world.kill_at = moment

        assert left(world.live_on()) == expected, moment


def test_a_kill_of_a_masked_sum_changes_nothing_but_what_nodes_draw(made: Any) -> None:
    run = toy_run(masked=True, rounds=1)
    whole = made(USUAL, run)
    whole.live_on()
    expected = whole.rows.rounds[1]["global_loss"], whole.rows.scaling, whole.rows.versions

    for moment in range(1, whole.ticks + 1, 3):
        world = made(USUAL, run)
        world.kill_at = moment
        rows = world.live_on()

        assert (rows.rounds[1]["global_loss"], rows.scaling, rows.versions) == expected, moment


def test_what_a_node_stated_in_round_zero_bounds_it_in_every_life(made: Any) -> None:
    """The toy rejects who stated nothing; killed between the exchanges of round 0, nobody is rejected."""
    world = made(LONG)
    world.kill_when(0, 1)
    world.live()
    assert world.catalog.opened() == [0]

    rows = world.live_on()

    assert rows.status == "completed"
    assert {row["outcome"] for row in rows.tasks.values()} == {"received"}
