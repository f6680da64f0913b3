"""Tasks as a hostile coordinator writes them, made from good ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from heliosdb.domain.errors import FederatedError
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import State
from heliosdb.domain.task import Privacy, Task
from tests.contracts.journeys import (
    Stop,
)


def refused(stop: Stop, task: Task) -> bool:
    """Whether the step refuses a task, or the wire; nothing but FederatedError counts as a refusal."""
    if task.encoding is not None and len(task.encoding.columns) != len(task.reading.features):
        return True
    try:
        stop.step.check(task)
    except FederatedError as error:
        assert error.message
        return True
    return False


def with_work(task: Task, **changes: Any) -> Task:
    return replace(task, work=replace(task.work, **changes))


def with_settings(task: Task, **changes: Setting) -> Task:
    return with_work(task, settings={**task.work.settings, **changes})


def foreign_states(state: State) -> Iterator[State]:
    """States that are not of the model that a task is about."""
    yield {**state, "zzz": np.zeros(3)}
    for name, array in state.items():
        rest = {other: value for other, value in state.items() if other != name}
        yield rest
        yield {**rest, f"{name}_": array}
        yield {**rest, name: np.append(np.ravel(array), 0).astype(array.dtype)}
        yield {**rest, name: array[np.newaxis]}
        yield {**rest, name: np.ravel(array)[:0]}
        other_type = np.float32 if array.dtype != np.float32 else np.float64
        yield {**rest, name: array.astype(other_type)}
        yield {**rest, name: array.astype(np.int64 if array.dtype != np.int64 else np.uint8)}


NUMBERS: list[Any] = [
    0, 1, 2, -1, 2**63 - 1, 0.0, 0.5, 5e-324, 1e-300, 1e-12, 1e300, -1.0, math.nan, math.inf, -math.inf,
]  # fmt: skip


def with_another_number(task: Task, numbers: Sequence[Any] = NUMBERS) -> Iterator[Task]:
    """The task with one of its numbers replaced by one that is anything that the wire could bring."""
    privacy, scaling = task.work.privacy, task.scaling
    for number in numbers:
        if privacy is not None:
            changes: list[dict[str, Any]] = [{"noise_multiplier": number}, {"sampling_rate": number}]
            changes += [{"steps": number}] if isinstance(number, int) else []
            for change in changes:
                mechanism = replace(privacy.mechanism, **change)
                yield with_work(task, privacy=Privacy(mechanism, privacy.weight))
            yield with_work(task, privacy=Privacy(privacy.mechanism, number))
        if scaling is not None:
            for place in ("means", "scales"):
                several: dict[str, Any] = {place: (1.0, number, 1.0)}
                yield replace(task, scaling=replace(scaling, **several))
            for place in ("target_mean", "target_scale"):
                single: dict[str, Any] = {place: number}
                yield replace(task, scaling=replace(scaling, **single))
        for name in task.work.settings:
            yield with_settings(task, **{name: number})


def with_parts_of(task: Task, other: Task) -> Iterator[Task]:
    """The task with something of another one."""
    yield replace(task, state=other.state, scaling=other.scaling)
    yield replace(task, state=other.state)
    yield with_work(task, privacy=other.work.privacy)
    yield with_work(task, settings=other.work.settings)
    yield with_work(task, settings=other.work.settings, size=other.work.size)
    yield replace(task, work=replace(other.work, algorithm=task.work.algorithm))
