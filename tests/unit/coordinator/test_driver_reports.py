"""The report of the version that a run publishes, as the driver asks for it and as it is committed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.coordinator.driver_toys import BUDGET, REPORTED, USUAL, at, outcome
from tests.unit.coordinator.fake_federation import NAMES, refusal, toy_run


def test_the_report_is_of_the_published_model_and_is_kept_with_its_version(made: Any) -> None:
    world = made(REPORTED, toy_run(rounds=3, keep_best=True))

    rows = world.live_on()

    assert outcome(rows) == ("completed", "all 3 rounds done; published round 2 of 3")
    assert [key[:2] for key in world.asked if key[2] == "a"][-1] == (3, 2)
    version = rows.versions[0]
    assert version["round"] == 2
    # Nodes were asked about the very numbers of which the version's function is made.
    assert json.loads(version["made_of"])["weights"] == world.states[3, 2]["weights"].tolist()
    said = {node: rows.described[3, 2, "report", node] for node in NAMES}
    assert version["report"]["nodes"] == said
    assert version["report"]["sum"] == pytest.approx(sum(one["said"] for one in said.values()))
    assert rows.rounds[3]["report"] is None
    assert rows.rounds[3]["global_accuracy"] == 0.5


def test_what_single_nodes_say_in_round_zero_is_kept(made: Any) -> None:
    rows = made(USUAL).live_on()
    assert sorted(rows.described) == [(0, 0, "find", name) for name in NAMES]
    private = made(USUAL, toy_run(budget=BUDGET)).live_on()
    assert not private.described


def test_of_a_sum_that_hides_single_answers_nothing_is_kept_of_one(made: Any) -> None:
    run = toy_run(rounds=1, secure_aggregation=True, aggregation_protocol="toy_masks")
    rows = made(REPORTED, run).live_on()
    assert rows.status == "completed"
    assert not rows.described
    assert rows.versions[0]["report"]["nodes"] == {}
    assert rows.versions[0]["report"]["sum"] > 0.0


def test_under_a_budget_and_without_held_out_rows_no_report_is_asked(made: Any) -> None:
    for run in (toy_run(budget=BUDGET), toy_run(validation_split=0.0)):
        world = made(REPORTED, run)
        rows = world.live_on()
        assert rows.status == "completed"
        assert not [key for key in rows.tasks if key[2] == "report"]
        assert rows.versions[0]["report"] is None


def test_a_report_that_too_few_answer_is_none_and_the_version_stands(made: Any) -> None:
    lies = {name: at(2, 2, refusal) for name in NAMES[1:]}
    rows = made(REPORTED, **lies).live_on()
    assert outcome(rows)[0] == "completed"
    assert rows.versions[0]["report"] is None
    assert "without b" in rows.rounds[2]["message"]


@pytest.mark.parametrize("lie", ["late", None])
def test_a_stop_once_the_report_is_prepared_ends_the_run_with_its_version(made: Any, lie: Any) -> None:
    whole = made(REPORTED)
    whole.live_on()
    for moment in range(whole.ticks // 2, whole.ticks + 1, 3):
        world = made(REPORTED, **{name: at(2, 2, lie) for name in NAMES})
        kept: list[str] = []

        def third(name: str, kept: list[str] = kept) -> bool:
            kept += [name] if name == "keep_exchange" else []
            return len(kept) == 3

        world.stop_on, world.kill_at = third, moment
        rows = world.live_on()
        if not rows.stop_requested:
            continue
        assert rows.status == "stopped", moment
        assert [version["round"] for version in rows.versions] == [2]
