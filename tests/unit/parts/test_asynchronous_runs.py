"""Which runs may combine updates before all of a round are there."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.aggregation.strategy import companions, strategy
from heliosdb.catalog.run_options import parse_options, parse_policy
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.run import TrainingOptions
from heliosdb.parts.algorithms import ALGORITHMS, has_asynchronous_form
from heliosdb.parts.asynchronous import Batching, check_batching
from heliosdb.parts.checks import check_parts
from heliosdb.parts.strategies import STRATEGIES
from tests.unit.parts.test_part_checks import OPTIONS, POLICY

TWO = Batching(2, is_asynchronous=True, selection="all", private=False)


def options(**changed: Any) -> TrainingOptions:
    return parse_options({**OPTIONS, **changed})


def refused(given: TrainingOptions, batching: Batching, most_nodes: int | None = None) -> FederatedError:
    with pytest.raises(FederatedError) as caught:
        check_batching(given, batching, most_nodes)
    return caught.value


def test_rules_that_work_on_stale_updates_are_those_that_need_their_sum_alone() -> None:
    summing = {
        name for name in STRATEGIES.names() if strategy(name).sees == "sum" and not companions(strategy(name))
    }
    accepted = set()
    for name in STRATEGIES.names():
        try:
            check_batching(options(aggregation=name), TWO)
        except FederatedError:
            continue
        accepted.add(name)

    assert accepted == summing
    assert {"fedavg", "fedprox", "fedyogi"} < accepted


def test_algorithms_whose_nodes_move_parameters_can_be_trained_so() -> None:
    able = {name for name in ALGORITHMS.names() if has_asynchronous_form(name, {})}

    assert able == {
        "linear_regression",
        "logistic_regression",
        "poisson_regression",
        "neural_network",
        "cnn",
        "lstm",
        "gru",
        "transformer",
    }


def test_a_run_by_descent_passes_with_as_many_nodes_as_a_round_takes() -> None:
    check_batching(options(), TWO)
    check_batching(options(aggregation="fedadam"), TWO, most_nodes=2)
    check_parts(options(), parse_policy({**POLICY, **ASYNCHRONOUS}, WorkspaceName("w")))


ASYNCHRONOUS = {"async_aggregation": True, "aggregation_batch_size": 2}


def test_what_is_claimed_is_checked_again() -> None:
    policy = parse_policy({**POLICY, **ASYNCHRONOUS}, WorkspaceName("w"))
    with pytest.raises(FederatedError, match="aggregation median needs all updates"):
        check_parts(options(aggregation="median"), policy)


def test_the_size_is_of_asynchronous_rounds_alone() -> None:
    size = {"aggregation_batch_size": 2}
    assert parse_policy({**POLICY, **size}, WorkspaceName("w")).buffer == 0
    assert parse_policy({**POLICY, **size, "async_aggregation": True}, WorkspaceName("w")).buffer == 2


@pytest.mark.parametrize("is_asynchronous", [False, True])
@pytest.mark.parametrize("rule", sorted({"median", "fltrust", "scaffold", "my_own"}))
def test_a_rule_that_needs_all_updates_of_a_round_is_refused(rule: str, is_asynchronous: bool) -> None:
    error = refused(options(aggregation=rule), Batching(2, is_asynchronous, "all", private=False))

    assert error.code is ErrorCode.INVALID_VALUE
    assert error.message == (
        f"aggregation {rule} needs all updates of a round at once, and aggregation_batch_size is 2"
    )
    check_batching(
        options(aggregation=rule), Batching(0, is_asynchronous=False, selection="all", private=False)
    )


def test_a_sum_that_is_opened_whole_is_refused() -> None:
    given = options(secure_aggregation=True, aggregation_protocol="shamir")

    assert refused(given, TWO).message.startswith("secure_aggregation opens the sum of a whole round")


@pytest.mark.parametrize(
    ("changed", "batching", "code", "said"),
    [
        ({}, Batching(2, True, "all", private=True), ErrorCode.NOT_SUPPORTED, "under a privacy_budget"),
        ({}, Batching(2, True, "random(3)", private=False), ErrorCode.NOT_SUPPORTED, "random(3)"),
        ({"algorithm": "random_forest"}, TWO, ErrorCode.INVALID_VALUE, "random_forest cannot be trained"),
        ({"algorithm": "cox_regression"}, TWO, ErrorCode.INVALID_VALUE, "cox_regression cannot be trained"),
        ({"optimizer": "newton"}, TWO, ErrorCode.INVALID_VALUE, "by optimizer newton cannot be trained"),
        ({"adaptive_learning": True}, TWO, ErrorCode.NOT_SUPPORTED, "adaptive_learning"),
    ],
)
def test_what_has_no_asynchronous_form_is_refused(
    changed: dict[str, Any], batching: Batching, code: ErrorCode, said: str
) -> None:
    error = refused(options(**changed), batching)

    assert error.code is code
    assert said in error.message


def test_a_round_that_takes_more_updates_than_there_are_nodes_is_refused() -> None:
    error = refused(options(), TWO, most_nodes=1)

    assert (error.code, error.message) == (
        ErrorCode.INVALID_VALUE,
        "aggregation_batch_size is 2, and a round has at most 1 node",
    )
