"""Runs that could not go by the aggregators that nodes name."""

from __future__ import annotations

from typing import Any

import pytest

from heliosdb.catalog.commands import Node
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.extension.hierarchy import check_runs_by_aggregators, describe_aggregators

ALONE = Node(NodeName("a"), "active", {}, None)
BELOW = Node(NodeName("b"), "active", {"aggregator": "a"}, None)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"async_aggregation": True}, "async_aggregation is not supported where nodes have aggregators yet"),
        (
            {"communication_protocol": "https"},
            "aggregators are not supported with communication_protocol = 'https' yet",
        ),
        (
            {"communication_protocol": "flower"},
            "aggregators are not supported with communication_protocol = 'flower' yet",
        ),
    ],
)
def test_a_run_that_could_not_go_by_aggregators_is_refused(policy: dict[str, Any], message: str) -> None:
    check_runs_by_aggregators(policy, [ALONE])
    check_runs_by_aggregators({}, [ALONE, BELOW])

    with pytest.raises(FederatedError, match=message) as caught:
        check_runs_by_aggregators(policy, [ALONE, BELOW])
    assert caught.value.code is ErrorCode.NOT_SUPPORTED
    assert "RESET (aggregator)" in (caught.value.hint or "")


def test_a_run_that_hides_single_updates_of_groups_says_whom_it_passes_by() -> None:
    assert describe_aggregators("plain", [ALONE, BELOW], has_groups=True) == []
    assert describe_aggregators("shamir", [ALONE, BELOW]) == []
    assert describe_aggregators("shamir", [ALONE], has_groups=True) == []
    (said,) = describe_aggregators("shamir", [ALONE, BELOW], has_groups=True)
    assert said.endswith(f"{BELOW.options['aggregator']} would gather none of them")
