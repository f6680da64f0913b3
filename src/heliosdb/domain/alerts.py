"""When an alert fires, and when it is armed again.

What always holds: an alert fires once when its conditions begin to hold, and not again before they have not
held for `rearm` seconds on end; a condition on what is unknown does not hold.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from federated_sql.statements import AlertCondition

_HOLDS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "<>": operator.ne,
}
OPERATORS = frozenset(_HOLDS)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an alert stands. is_raised: it has fired and is not armed again; calm_since: since when, in seconds
    since the epoch, its conditions have not held meanwhile; None: they do."""

    is_raised: bool = False
    calm_since: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an evaluation leads to."""

    standing: Standing
    fires: bool = False


def hold(conditions: Iterable[AlertCondition], observed: Mapping[str, float | None]) -> bool:
    """Whether all conditions hold. observed: by metric; None, absent and what is not finite is unknown."""
    return all(_holds(condition, observed.get(condition.metric)) for condition in conditions)


def _holds(condition: AlertCondition, value: float | None) -> bool:
    if value is None or not math.isfinite(value):
        return False
    return _HOLDS[condition.operator](value, condition.value)


def judge(standing: Standing, *, holds: bool, now: float, rearm: float) -> Judgement:
    """Say how an alert stands after an evaluation at `now`, and whether it fires.

    One that has been calm for `rearm` seconds when its conditions hold again fires, also where nobody looked
    in between.
    """
    calm = None if standing.calm_since is None else now - standing.calm_since
    is_armed = not standing.is_raised or (calm is not None and calm >= rearm)
    if holds:
        return Judgement(Standing(is_raised=True), fires=is_armed)
    if is_armed:
        return Judgement(Standing())
    return Judgement(Standing(is_raised=True, calm_since=now if calm is None else standing.calm_since))
