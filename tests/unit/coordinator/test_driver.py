"""The driver over a fake catalog: what is committed when, how runs end, what stays reserved, and kills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from heliosdb.coordinator import opened
from heliosdb.coordinator.exchange import Exchange
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.run import Run
from heliosdb.domain.task import Task
from heliosdb.domain.update import Update
from tests.unit.coordinator.fake_catalog import Key, Rows
from tests.unit.coordinator.fake_federation import (
    NAMES,
    FakeWorld,
    Lie,
    Toy,
    refusal,
    registered,
    steps,
    toy_run,
    unsent,
)

PROBLEM = FederatedError(ErrorCode.INVALID_VALUE, "it does not go on", detail="For a reason.")
SPENT = FederatedError(ErrorCode.BUDGET_EXHAUSTED, "the budget is spent")
SHORT = Toy(steps("find"), steps("move"))
USUAL = Toy(steps("find"), steps("move", "measure"))
LONG = Toy(steps("find", "find2"), steps("move", "count", "move2", "measure"))
LONGEST = Toy(steps("find", "find2", "find3"), steps("count", "measure", "move", "move2", "measure2"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes worlds whose algorithm is registered until the test ends."""
    contexts = []

    def make(toy: Toy, run: Run | None = None, **lies: Lie) -> FakeWorld:
        context = registered(monkeypatch, toy)
        context.__enter__()
        contexts.append(context)
        world = FakeWorld(toy_run() if run is None else run)
        for name, lie in lies.items():
            world.nodes[NodeName(name)].lie = lie
        return world

    yield make
    for context in reversed(contexts):
        context.__exit__(None, None, None)


def at(number: int, exchange: int, wrong: Any) -> Lie:
    """Goes wrong with one task; `wrong`: as a lie says it, or a function of the task."""

    def lie(task: Task) -> Any:
        if (task.key.round, task.key.exchange) != (number, exchange):
            return None
        return wrong(task) if callable(wrong) else wrong

    return lie


def outcome(rows: Rows) -> tuple[str, str | None]:
    return rows.status, rows.message


# What is committed when.


def test_every_exchange_is_committed_before_it_is_asked_and_what_it_led_to_before_the_next(made: Any) -> None:
    world = made(LONG)

    rows = world.live_on()

    assert outcome(rows) == ("completed", "all 2 rounds done")
    commits = [name for name in world.calls if name not in ("past_of", "list_ended_runs", "find_model")]
    of_round = {0: ["open_round", "keep_exchange", "close_round"]}
    later = ["open_round", *["keep_exchange"] * 3, "close_round"]
    assert commits == [*of_round[0], *later, *later, "end_run"]
    exchanges = [
        (number, exchange) for number, count in ((0, 2), (1, 4), (2, 4)) for exchange in range(count)
    ]
    assert world.asked == [(*one, node) for one in exchanges for node in NAMES]


def test_nodes_are_told_once_the_run_has_ended_in_whatever_way(made: Any) -> None:
    for lies in ({}, {name: at(1, 0, refusal) for name in NAMES}):
        world = made(USUAL, **lies)

        world.live_on()

        assert world.farewells == [frozenset({toy_run().id})] * 3


def test_a_round_of_one_exchange_is_kept_with_its_close(made: Any) -> None:
    world = made(SHORT)

    rows = world.live_on()

    assert "keep_exchange" not in world.calls
    assert rows.states.keys() == {2}
    assert [version["round"] for version in rows.versions] == [2]


def test_the_best_round_is_published_as_it_was_and_only_it_and_the_last_are_kept(made: Any) -> None:
    best = made(USUAL, toy_run(rounds=3, keep_best=True)).live_on()
    shorter = made(USUAL, toy_run(rounds=2)).live_on()
    assert min((1, 2, 3), key=lambda number: best.rounds[number]["global_loss"]) == 2

    assert outcome(best) == ("completed", "all 3 rounds done; published round 2 of 3")
    assert best.states.keys() == {2, 3}
    assert best.versions == shorter.versions


def test_figures_are_of_the_exchange_that_measured_them(made: Any) -> None:
    rows = made(USUAL).live_on()

    assert [row["global_accuracy"] for _, row in sorted(rows.rounds.items())] == [None, 0.5, 0.5]


def test_sizes_and_findings_of_every_exchange_of_round_zero_are_recorded(made: Any) -> None:
    world = made(LONG)

    rows = world.live_on()

    assert rows.sizes == {name: 10 + ord(name) for name in NAMES}
    assert rows.scaling is not None
    assert '"means": [0.0, ' in rows.scaling


# Updates.


def test_an_update_is_handed_on_once_and_held_no_longer(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[NodeName] = []
    take, note = opened.RoundUnderWay.take, opened.RoundUnderWay.note

    def taking(self: opened.RoundUnderWay, update: Update) -> None:
        taken.append(update.node)
        take(self, update)

    def noting(self: opened.RoundUnderWay, exchange: Exchange, nodes: Sequence[NodeName]) -> None:
        assert all(exchange.arrived[node].update is None for node in nodes)
        note(self, exchange, nodes)

    monkeypatch.setattr(opened.RoundUnderWay, "take", taking)
    monkeypatch.setattr(opened.RoundUnderWay, "note", noting)

    made(LONG).live_on()

    assert taken == list(NAMES) * 10


def test_a_straggler_costs_the_others_nothing(made: Any) -> None:
    world = made(LONG, b=at(1, 1, "late"))

    rows = world.live_on()

    assert rows.status == "completed"
    assert rows.tasks[1, 1, "count", "b"]["outcome"] == "dropped"
    assert [key for key in rows.tasks if key[0] == 1 and key[3] == "b"] == [
        (1, 0, "move", "b"),
        (1, 1, "count", "b"),
    ]
    assert rows.rounds[1]["message"] == "without b: timed out"
    assert (2, 0, "move", "b") in rows.tasks


def test_an_update_that_is_refused_entrance_is_rejected_with_the_reason(made: Any) -> None:
    rows = made(USUAL, b=at(1, 0, "huge")).live_on()

    assert rows.tasks[1, 0, "move", "b"] == {
        "outcome": "rejected",
        "reason": "it is too large",
        "weight": None,
        "asked": 3,
    }
    assert (1, 1, "measure", "b") not in rows.tasks


def test_a_rule_that_sees_each_update_is_given_each_and_remembers(made: Any) -> None:
    run = toy_run(aggregation="toy_momentum", decay=0.5)
    world = made(USUAL, run)

    rows = world.live_on()

    assert rows.status == "completed"
    assert rows.states[2]["memory"] is not None


@pytest.mark.parametrize("toy", [USUAL, LONG, LONGEST])
def test_members_are_who_answered_the_last_exchange_that_round_zero_needs(made: Any, toy: Toy) -> None:
    last = len(toy.first_round) - 1
    world = made(toy, c=at(0, last, refusal))

    rows = world.live_on()

    assert rows.status == "completed"
    assert {key[3] for key in rows.tasks if key[0] == 1} == {"a", "b"}


def test_an_optional_exchange_that_nobody_answers_leaves_the_round_without_figures(made: Any) -> None:
    lies = {name: at(1, 1, refusal) for name in NAMES}
    world = made(USUAL, **lies)

    rows = world.live_on()

    assert rows.status == "completed"
    assert rows.rounds[1]["global_loss"] is None
    assert rows.rounds[2]["global_loss"] is not None


def test_an_optional_exchange_in_the_middle_may_lose_nodes(made: Any) -> None:
    rows = made(LONGEST, c=at(1, 1, refusal)).live_on()

    assert rows.status == "completed"
    assert {key[3] for key in rows.tasks if key[:2] == (1, 2)} == {"a", "b"}


# A sum that takes several messages.


def test_a_masked_sum_leads_to_what_the_plain_one_leads_to(made: Any) -> None:
    plain, masked = (made(USUAL, toy_run(masked=masked)).live_on() for masked in (False, True))

    assert masked.status == "completed"
    assert len(masked.tasks) == 4 * len(plain.tasks)
    for one, other in zip(plain.rounds.values(), masked.rounds.values(), strict=True):
        if one["global_loss"] is not None:
            # Different figures: what nodes say depends on the exchange. Only that there are some is compared.
            assert other["global_loss"] is not None


def test_an_optional_sum_that_cannot_be_opened_leaves_the_round_without_it(made: Any) -> None:
    world = made(USUAL, toy_run(masked=True), b=at(1, 6, refusal), c=at(1, 7, refusal))

    rows = world.live_on()

    assert rows.status == "completed", rows.message
    assert rows.rounds[1]["global_loss"] is None
    assert "no measure: Too many nodes were lost to unmask the sum." in rows.rounds[1]["message"]


def test_a_needed_sum_that_cannot_be_opened_fails_the_run(made: Any) -> None:
    world = made(USUAL, toy_run(masked=True), a=at(1, 2, refusal), c=at(1, 3, refusal))
    world.run = replace(world.run, policy=replace(world.run.policy, min_nodes_per_round=1, min_nodes=1))
    world.catalog.run = world.run

    rows = world.live_on()

    assert outcome(rows) == ("failed", "Too many nodes were lost to unmask the sum.")


@pytest.mark.parametrize("kill_at", [None, 20, 30, 40])
def test_a_sum_is_of_those_who_were_asked_for_what_carries_it(made: Any, kill_at: int | None) -> None:
    """A node that is lost afterwards is in the sum; how many are is known in every life."""
    four = toy_run(masked=True)
    world = made(Toy(steps("find"), steps("move")), four, c=at(0, 3, refusal))
    world.kill_at = kill_at

    rows = world.live_on()

    assert rows.status == "completed"
    assert rows.scaling is not None
    assert '"scales": [1.0, 4.0]' in rows.scaling


# How runs end.

ACTIONS = [
    ("insert_round", PROBLEM, "failed"),
    ("put_state", PROBLEM, "failed"),
    ("close_round", PROBLEM, "failed"),
    ("insert_participation", SPENT, "budget_exhausted"),
]


@pytest.mark.parametrize(("statement", "error", "status"), ACTIONS)
def test_a_run_whose_transaction_is_refused_ends_and_says_why(
    made: Any, statement: str, error: FederatedError, status: str
) -> None:
    world = made(USUAL)
    world.catalog.refuses[statement] = error

    rows = world.live_on()

    assert rows.status == status
    assert rows.message is not None
    assert rows.message.startswith(
        "it does not go on. For a reason." if error is PROBLEM else "the budget is"
    )
    assert not world.catalog.opened()


def test_a_budget_that_is_spent_later_leaves_the_version_of_the_last_round(made: Any) -> None:
    world = made(USUAL)

    def later(name: str) -> bool:
        if name == "close_round" and world.calls.count(name) == 2:
            world.catalog.refuses["insert_round"] = SPENT
        return False

    world.stop_on = later
    rows = world.live_on()

    assert outcome(rows) == ("budget_exhausted", "the budget is spent")
    assert [version["round"] for version in rows.versions] == [1]


@pytest.mark.parametrize("act", ["ask", "read"])
@pytest.mark.parametrize("step", ["find", "move", "measure"])
def test_a_step_that_cannot_be_asked_or_read_fails_the_run(made: Any, step: str, act: str) -> None:
    broken = {step: {"refuses": {act: PROBLEM}}}
    first, later = steps("find", **broken if step == "find" else {}), steps("move", "measure")
    if step != "find":
        later = steps("move", "measure", **broken)
    world = made(Toy(first, later))

    rows = world.live_on()

    assert outcome(rows) == ("failed", "it does not go on. For a reason.")
    assert not rows.versions
    assert [row["status"] for row in rows.rounds.values()] == ["closed"] * (len(rows.rounds) - 1) + ["failed"]


@pytest.mark.parametrize("step", ["find", "move", "measure"])
@pytest.mark.parametrize(("act", "status"), [("ask", "failed"), ("read", "budget_exhausted")])
def test_a_step_that_finds_the_budget_spent_ends_the_run(made: Any, step: str, act: str, status: str) -> None:
    broken = {step: {"refuses": {act: SPENT}}}
    first, later = steps("find", **broken if step == "find" else {}), steps("move", "measure")
    if step != "find":
        later = steps("move", "measure", **broken)

    rows = made(Toy(first, later)).live_on()

    assert rows.status == status
    assert rows.message is not None
    assert rows.message.startswith("the budget is spent")


def test_a_version_that_cannot_be_published_fails_the_run(made: Any) -> None:
    world = made(USUAL)
    world.catalog.refuses["insert_version"] = PROBLEM

    rows = world.live_on()

    assert outcome(rows) == ("failed", "no version can be published: it does not go on")
    assert not rows.versions


def test_an_end_that_fails_itself_is_told_to_whoever_drives(made: Any) -> None:
    world = made(Toy(steps("find", find={"refuses": {"read": PROBLEM}}), steps("move")))
    world.catalog.refuses["finish_run"] = SPENT

    with pytest.raises(FederatedError, match="the budget is spent"):
        world.live()


@pytest.mark.parametrize("statement", ["insert_round", "put_state", "close_round", "finish_run"])
def test_a_driver_whose_term_is_over_changes_nothing_more(made: Any, statement: str) -> None:
    world = made(USUAL)
    world.catalog.refuses[statement] = FederatedError(ErrorCode.FENCED, "another coordinator has taken over")

    with pytest.raises(FederatedError, match="taken over"):
        world.live()

    assert world.rows.status == "running"


# What stays reserved. Two rounds of move and measure; a budget that is large enough.

BUDGET = 50.0


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


# Kills.


def left(rows: Rows) -> Any:
    """What a run leaves, without what is sealed, measured or told."""
    rounds = {number: {**row, "message": None} for number, row in rows.rounds.items()}
    ledger = [(one["key"], one["state"], one["epsilon_tight"]) for one in rows.ledger.values()]
    states = {number: row["sha256"] for number, row in rows.states.items()}
    known = (rows.scaling, rows.plan, rows.sizes, rows.versions)
    return rows.status, rounds, rows.tasks, ledger, states, rows.spending, known


KILLED = [
    (USUAL, toy_run(rounds=1)),
    (LONG, toy_run(rounds=1, budget=BUDGET)),
    (LONGEST, toy_run(rounds=1, budget=BUDGET)),
    (LONG, toy_run(rounds=2, aggregation="toy_momentum", decay=0.5)),
    (USUAL, toy_run(rounds=3, keep_best=True)),
]


@pytest.mark.parametrize(("toy", "run"), KILLED, ids=["usual", "long", "longest", "memory", "best"])
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
