"""The algorithms that the driver's tests run, what goes wrong in them, and how their runs end."""

from __future__ import annotations

from typing import Any

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import Task
from tests.unit.coordinator.fake_catalog import Rows
from tests.unit.coordinator.fake_federation import Lie, Toy, steps

PROBLEM = FederatedError(
    ErrorCode.INVALID_VALUE, "it does not go on", detail="For a reason.", hint="Do otherwise."
)
SHORT = Toy(steps("find"), steps("move"))
USUAL = Toy(steps("find"), steps("move", "measure"))
REPORTED = Toy(steps("find"), steps("move", "measure"), reports=True)
LONG = Toy(steps("find", "find2"), steps("move", "count", "move2", "measure"))
LONGEST = Toy(steps("find", "find2", "find3"), steps("count", "measure", "move", "move2", "measure2"))
BUDGET = 50.0
"""Large enough."""


def at(number: int, exchange: int, wrong: Any) -> Lie:
    """Goes wrong with one task; `wrong`: as a lie says it, or a function of the task."""

    def lie(task: Task) -> Any:
        if (task.key.round, task.key.exchange) != (number, exchange):
            return None
        return wrong(task) if callable(wrong) else wrong

    return lie


def outcome(rows: Rows) -> tuple[str, str | None]:
    return rows.status, rows.message
