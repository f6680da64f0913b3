"""Groups in place of single updates: what fits, and what is said where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.run import TrainingOptions
from heliosdb.parts.checks import check_rule, check_selection, describe_rule, unread_option
from heliosdb.parts.groups import least_nodes
from heliosdb.parts.strategies import STRATEGIES, fewest_groups, groups_of

SECURE = {"secure_aggregation": True, "aggregation_protocol": "shamir"}
TAKING = ("median", "trimmed_mean", "krum", "multi_krum", "bulyan", "geometric_median", "mine")
OTHERS = (
    "fedavg",
    "weighted",
    "fedprox",
    "fedopt",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "scaffold",
    "fltrust",
)


def options(**changed: Any) -> TrainingOptions:
    given = {
        "algorithm": "linear_regression",
        "features": ["age"],
        "target": "outcome",
        "rounds": 3,
        "aggregation": "median",
        "local_epochs": 1,
        "batch_size": 32,
        "learning_rate": 0.01,
        "compression": "none",
        "secure_aggregation": False,
    }
    return parse_options({**given, **changed})


@pytest.mark.parametrize("rule", TAKING)
def test_rules_that_compare_updates_take_groups_behind_secure_sums(rule: str) -> None:
    chosen = options(aggregation=rule, robust_groups=5, **SECURE)

    check_rule(chosen, private=False, most_nodes=15)

    assert groups_of(chosen.settings(STRATEGIES.entry(rule).settings)) == 5
    assert unread_option(["robust_groups"], chosen) is None
    assert least_nodes(chosen) == 15


@pytest.mark.parametrize("rule", OTHERS)
def test_no_other_rule_reads_groups(rule: str) -> None:
    assert unread_option(["robust_groups"], options(aggregation=rule)) == "robust_groups"


@pytest.mark.parametrize("rule", TAKING)
def test_without_groups_the_hint_names_them(rule: str) -> None:
    with pytest.raises(FederatedError, match="needs every single update") as caught:
        check_rule(options(aggregation=rule, **SECURE), private=False, most_nodes=15)
    assert (caught.value.code, "robust_groups = 3" in str(caught.value.hint)) == (
        ErrorCode.INVALID_VALUE,
        True,
    )


def test_the_hint_of_a_rule_that_takes_no_groups_names_none() -> None:
    with pytest.raises(FederatedError, match="needs every single update") as caught:
        check_rule(options(aggregation="fltrust", root_node="a", **SECURE), private=False)
    assert "robust_groups" not in str(caught.value.hint)


@pytest.mark.parametrize(
    ("changed", "nodes", "said"),
    [
        ({"robust_groups": 3, **SECURE}, 8, "robust_groups 3 needs 9 nodes, and a round has at most 8"),
        ({"robust_groups": 3}, 2, "robust_groups 3 needs 3 nodes, and a round has at most 2"),
        ({"robust_groups": 2}, 9, "robust_groups"),
        ({"robust_groups": 3, "threshold": 5, **SECURE}, 9, "threshold 5 cannot be of every sum"),
        (
            {"aggregation": "krum", "byzantine_nodes": 2, "robust_groups": 6},
            60,
            "needs 7 updates, and there are 6",
        ),
        (
            {"aggregation": "bulyan", "byzantine_nodes": 1, "robust_groups": 6},
            60,
            "needs 7 updates, and there are",
        ),
        (
            {"aggregation": "trimmed_mean", "trim_ratio": 0.2, "robust_groups": 4},
            60,
            "needs 5 updates, and there",
        ),
    ],
)
def test_figures_say_what_groups_cannot_hold(changed: dict[str, Any], nodes: int, said: str) -> None:
    with pytest.raises(FederatedError, match=said) as caught:
        check_rule(options(**changed), private=False, most_nodes=nodes)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_rule_of_which_groups_are_too_few_to_withstand_one_says_so() -> None:
    (said,) = describe_rule(options(aggregation="krum", robust_groups=4), 60)

    assert said.endswith("for one it needs 5 updates, and there are 4 groups")
    assert describe_rule(options(aggregation="krum", robust_groups=5), 60) == []


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        ({}, 3),
        ({"aggregation": "trimmed_mean"}, 3),
        ({"aggregation": "trimmed_mean", "trim_ratio": 0.2}, 5),
        ({"aggregation": "trimmed_mean", "trim_ratio": 0.0}, 3),
        ({"aggregation": "krum"}, 5),
        ({"aggregation": "krum", "robust_groups": 4}, 3),
        ({"aggregation": "krum", "byzantine_nodes": 2}, 7),
        ({"aggregation": "bulyan"}, 7),
        ({"aggregation": "mine"}, 3),
    ],
)
def test_a_round_needs_as_many_groups_as_its_rule_was_promised_to_withstand_with(
    rule: dict[str, Any], needed: int
) -> None:
    chosen = options(**{"robust_groups": 9} | rule)

    assert fewest_groups(chosen.settings(STRATEGIES.entry(chosen.aggregation).settings)) == needed


def test_start_says_that_a_group_of_three_withstands_no_loss() -> None:
    (said,) = describe_rule(options(robust_groups=3, **SECURE), 11)

    assert said == (
        "a group of 3 nodes has no secure sum once one of them is lost, and a run of which fewer than 3 of its"
        " 3 groups are left fails"
    )
    assert describe_rule(options(robust_groups=3, **SECURE), 12) == []
    assert describe_rule(options(robust_groups=3), 9) == []


def test_rounds_of_some_nodes_are_not_grouped_yet() -> None:
    chosen = options(robust_groups=3)

    check_selection(chosen, "all")
    with pytest.raises(FederatedError, match="random") as caught:
        check_selection(chosen, "random(5)")
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
