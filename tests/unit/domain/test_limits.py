"""Limits of a node's machine: the lower one of each kind holds."""

from __future__ import annotations

from heliosdb.domain.limits import NO_LIMITS, Limits, asked_limits


def test_the_lower_limit_of_each_kind_holds_whoever_says_it() -> None:
    own = Limits(8.0, 4, None, 3600.0)
    asked = asked_limits(
        {"max_memory_gb": 16, "max_cpu_cores": 2, "max_bandwidth_mbps": 100, "endpoint": "x"}
    )
    assert own.within(asked) == asked.within(own) == Limits(8.0, 2, 100, 3600.0)
    assert own.within(NO_LIMITS) == own


def test_what_is_not_limited_is_not_told() -> None:
    assert Limits(max_cpu_cores=2).to_json() == {"max_cpu_cores": 2}
    assert asked_limits({}) == NO_LIMITS
