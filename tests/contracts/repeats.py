"""Exchanges that an earlier journey had alike: what is tried often there is tried seldom where it comes again.

What always holds: the first journey with a step, with a kind of setting of it or with a mode of the algorithm tries all.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from heliosdb.algorithms.steps import Step
from heliosdb.domain.task import Task
from heliosdb.parts.algorithms import ALGORITHMS
from tests.contracts.journeys import Journey, Stop, travel

Trip = tuple[str, dict[str, bool]]

_VARIED = frozenset({"ranges", "undeclared", "adaptive"})
"""Of a mode: by which a run has some other exchanges, while the rest are asked as they are without."""


def place_of(journey: Journey, trips: Sequence[Trip]) -> int:
    """Which of the trips it is."""
    own = (journey.course.algorithm.name, journey.mode)
    return [(name, _mode(how)) for name, how in trips].index(own)


def is_repeated(stop: Stop, journey: Journey, trips: Sequence[Trip]) -> bool:
    """Whether an earlier trip has this exchange: by an equal step of another algorithm, or of its own in another mode."""
    own = journey.course.algorithm.name
    for name, how in trips[: place_of(journey, trips)]:
        mode = _mode(how)
        if name != own:
            other = ALGORITHMS.get(name).steps.get(stop.step.name)
            if mode == journey.mode and other is not None and _are_equal(stop.step, other):
                return True
        elif mode - _VARIED == journey.mode - _VARIED:
            asked = {(one.step.name, _form(one.task)) for one in travel(name, **how).stops}
            if (stop.step.name, _form(stop.task)) in asked:
                return True
    return False


def _mode(how: dict[str, bool]) -> frozenset[str]:
    return frozenset(name for name, on in how.items() if on)


def _are_equal(one: Step, other: Step) -> bool:
    """But for the algorithm's name."""
    if type(one) is not type(other) or not is_dataclass(one):
        return False
    names = [field.name for field in fields(one) if field.name != "algorithm"]
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _form(task: Task) -> Hashable:
    """What kind of task it is, whatever its numbers are."""
    work = task.work
    settings = {(name, _kind(value)) for name, value in work.settings.items()}
    return work.dtype, frozenset(settings), work.privacy is None, task.encoding is None


def _kind(value: Any) -> Hashable:
    return value if isinstance(value, bool | str) else type(value)
