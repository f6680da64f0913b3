"""The driver over a fake catalog: what is committed when, which updates count, and how runs end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from heliosdb.coordinator import opened
from heliosdb.coordinator.exchange import Exchange
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.folds import Fold, Series
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Update
from tests.unit.coordinator.driver_toys import LONG, LONGEST, PROBLEM, SHORT, USUAL, at, outcome
from tests.unit.coordinator.fake_federation import NAMES, Toy, refusal, steps, toy_run

SPENT = FederatedError(ErrorCode.BUDGET_EXHAUSTED, "the budget is spent")


# What is committed when.


def test_every_exchange_is_committed_before_it_is_asked_and_what_it_led_to_before_the_next(made: Any) -> None:
    world = made(LONG)

    rows = world.live_on()

    assert outcome(rows) == ("completed", "all 2 rounds done")
    reads = ("past_of", "list_ended_runs", "find_model", "allowance_of")
    commits = [name for name in world.calls if name not in reads]
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


@pytest.mark.parametrize("keeps", [True, False], ids=["trial", "fold"])
def test_a_run_of_a_series_makes_no_version_and_says_by_which_round_it_is_judged(
    made: Any, keeps: bool
) -> None:
    run = replace(toy_run(rounds=3, keep_best=True), series=Series(UUID(int=5), publishes=False, keeps=keeps))
    if not keeps:
        given = {**run.options.given, "folds": 2}
        run = replace(run, options=replace(run.options, fold=Fold(0, 2), given=given))

    rows = made(USUAL, run).live_on()

    assert outcome(rows) == ("completed", "all 3 rounds done; judged by round 2 of 3")
    assert rows.versions == []
    assert rows.result == 2
    assert rows.states.keys() == ({2} if keeps else set())


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
    take, weigh = opened.RoundUnderWay.take, Exchange.weights

    def taking(self: opened.RoundUnderWay, update: Update) -> None:
        taken.append(update.node)
        take(self, update)

    def weighing(self: Exchange, nodes: Iterable[NodeName]) -> dict[NodeName, float]:
        assert all(self.arrived[node].update is None for node in nodes)
        return weigh(self, nodes)

    monkeypatch.setattr(opened.RoundUnderWay, "take", taking)
    monkeypatch.setattr(Exchange, "weights", weighing)

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
    assert rows.message is not None
    assert rows.message.startswith("all 2 rounds done; left out: c refused: ")


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
        "it does not go on. For a reason. Do otherwise." if error is PROBLEM else "the budget is"
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

    assert outcome(rows) == ("failed", "it does not go on. For a reason. Do otherwise.")
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

    assert outcome(rows) == (
        "failed",
        "no version can be published: it does not go on. For a reason. Do otherwise.",
    )
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
