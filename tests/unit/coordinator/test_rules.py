"""The machine's rules follow from the run's row alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliosdb.coordinator.rules import make_rules
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.selection import NO_STANDINGS
from tests.support.runs import PRIVATE, RUN, with_options, with_policy

ALL = frozenset(NodeName(name) for name in "abcd")


def test_rules_are_what_the_run_was_started_with() -> None:
    rules = make_rules(with_options(RUN, target_accuracy=0.9))

    assert (rules.rounds, rules.min_nodes, rules.min_nodes_per_round) == (10, 2, 2)
    assert rules.target_accuracy == 0.9
    assert (rules.threshold, rules.patience, rules.keep_best) == (0.001, 10, True)
    assert (rules.noised, rules.learning_rate) == (False, 0.1)
    assert make_rules(PRIVATE).noised


@pytest.mark.parametrize("option", ["convergence_threshold", "early_stopping_rounds"])
def test_a_run_without_either_option_does_not_end_by_its_losses(option: str) -> None:
    changes: dict[str, Any] = {option: None}

    assert make_rules(with_options(RUN, **changes)).threshold is None


def test_rules_made_again_choose_the_same_nodes() -> None:
    run = with_policy(RUN, node_selection="random(2)", max_nodes=3)

    once, again = make_rules(run), make_rules(run)

    for number in range(6):
        chosen = once.choice.choose(ALL, RoundNumber(number), NO_STANDINGS)
        assert chosen == again.choice.choose(ALL, RoundNumber(number), NO_STANDINGS)
        assert len(chosen) == (2 if number else 3)


def test_a_selection_that_there_is_not_is_refused() -> None:
    with pytest.raises(FederatedError) as caught:
        make_rules(with_policy(RUN, node_selection="lottery"))

    assert caught.value.code is ErrorCode.NOT_SUPPORTED


def test_a_run_of_newton_steps_publishes_its_last_round_and_has_no_learning_rate() -> None:
    rules = make_rules(with_options(RUN, optimizer="newton"))
    assert not rules.keep_best
    assert rules.learning_rate is None


def test_the_learning_rate_that_a_run_is_told_of_is_the_one_in_force() -> None:
    """Where the noise is that of a sum it is not that of local descent."""
    unnamed = {name: value for name, value in RUN.options.given.items() if name != "learning_rate"}
    local = replace(RUN, options=replace(RUN.options, given=unnamed))
    sums = {"secure_aggregation": True, "aggregation_protocol": "shamir"}
    shared = with_policy(with_options(local, **sums), privacy_budget=4.0, trust_model="distributed")

    assert make_rules(local).learning_rate == 0.01
    assert make_rules(shared).learning_rate == 1.0
    assert make_rules(with_policy(shared, clipping_threshold=4.0)).learning_rate == 0.25
    assert make_rules(with_policy(shared, clipping_threshold=0.1)).learning_rate == 1.0
    assert make_rules(with_options(shared, learning_rate=0.5)).learning_rate == 0.5
    number = replace(shared, options=replace(shared.options, algorithm="linear_regression"))
    assert make_rules(number).learning_rate == 0.3
    boosted = replace(shared, options=replace(shared.options, algorithm="gradient_boosting"))
    assert make_rules(boosted).learning_rate == 0.1
