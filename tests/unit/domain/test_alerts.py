"""When an alert fires, and when it is armed again."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.statements import AlertCondition
from heliosdb.domain.alerts import OPERATORS, Standing, hold, judge


def low(value: float = 3) -> AlertCondition:
    return AlertCondition("active_nodes", "<", value)


@pytest.mark.parametrize(
    ("operator", "below", "at", "above"),
    [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
        ("=", False, True, False),
        ("<>", True, False, True),
    ],
)
def test_each_operator_compares_as_in_sql(operator: str, below: bool, at: bool, above: bool) -> None:
    condition = (AlertCondition("global_loss", operator, 1.5),)

    found = [hold(condition, {"global_loss": value}) for value in (1.25, 1.5, 1.75)]

    assert found == [below, at, above]


def test_the_operators_are_those_of_the_language() -> None:
    assert {"<", "<=", ">", ">=", "=", "<>"} == OPERATORS


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_no_condition_holds_on_what_is_unknown(operator: str, value: float | None) -> None:
    assert not hold((AlertCondition("global_loss", operator, 1),), {"global_loss": value})
    assert not hold((AlertCondition("global_loss", operator, 1),), {})


def test_all_conditions_have_to_hold() -> None:
    both = (low(), AlertCondition("global_loss", ">", 2))

    assert hold(both, {"active_nodes": 2, "global_loss": 2.5})
    assert not hold(both, {"active_nodes": 2, "global_loss": 2})
    assert not hold(both, {"active_nodes": 3, "global_loss": 2.5})


def test_a_whole_number_larger_than_any_double_is_compared() -> None:
    assert hold((AlertCondition("global_loss", "<", 10**400),), {"global_loss": 1e308})
    assert not hold((AlertCondition("global_loss", "<", -(10**400)),), {"global_loss": -1e308})


def test_it_fires_once_while_its_conditions_hold() -> None:
    first = judge(Standing(), holds=True, now=100.0, rearm=60.0)
    again = judge(first.standing, holds=True, now=105.0, rearm=60.0)

    assert (first.fires, again.fires) == (True, False)
    assert again.standing == Standing(is_raised=True)


def test_it_is_armed_again_after_it_was_calm_for_long_enough_and_not_before() -> None:
    raised = Standing(is_raised=True)
    calm = judge(raised, holds=False, now=100.0, rearm=60.0).standing
    flapping = judge(calm, holds=True, now=159.0, rearm=60.0)
    calm_again = judge(flapping.standing, holds=False, now=160.0, rearm=60.0).standing
    still = judge(calm_again, holds=False, now=219.0, rearm=60.0).standing
    armed = judge(still, holds=False, now=220.0, rearm=60.0).standing

    assert calm == Standing(is_raised=True, calm_since=100.0)
    assert not flapping.fires
    assert flapping.standing == raised
    assert still == Standing(is_raised=True, calm_since=160.0)
    assert armed == Standing()
    assert judge(armed, holds=True, now=221.0, rearm=60.0).fires


def test_what_was_calm_while_nobody_looked_fires_when_it_holds_again() -> None:
    calm = Standing(is_raised=True, calm_since=100.0)

    assert judge(calm, holds=True, now=160.0, rearm=60.0).fires
    assert not judge(calm, holds=True, now=159.9, rearm=60.0).fires


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 100.0)), max_size=60))
def test_between_two_firings_it_was_calm_for_the_whole_time(looks: list[tuple[bool, float]]) -> None:
    standing, now, rearm = Standing(), 0.0, 60.0
    fired: list[float] = []
    seen: list[tuple[float, bool]] = []
    for holds, pause in looks:
        now += pause
        seen.append((now, holds))
        judgement = judge(standing, holds=holds, now=now, rearm=rearm)
        standing = judgement.standing
        if judgement.fires:
            fired.append(now)
        assert standing.is_raised or not holds
    for first, second in pairwise(fired):
        between = [(at, holds) for at, holds in seen if first < at < second]
        last_held = max((at for at, holds in between if holds), default=first)
        calm = [at for at, holds in between if not holds and at > last_held]
        assert calm
        assert second - calm[0] >= rearm
