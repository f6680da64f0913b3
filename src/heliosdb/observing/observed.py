"""What daemons say as it happens: `observed.round_closed(...)`.

What always holds: where nobody listens a report is one comparison; a report never fails, and waits for
nothing. The values of labels are names of workspaces, steps and kinds, never of users or data subjects.
"""

from __future__ import annotations

from typing import Protocol

from heliosdb.observing import table
from heliosdb.observing.metric import Metric


class Meter(Protocol):
    """Keeps what is reported; called from any thread."""

    def add(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        """Raise a counter."""
        ...

    def observe(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Add a value to a histogram."""
        ...


_meter: Meter | None = None


def turn_on(meter: Meter) -> None:
    """Have all reports of this process kept by `meter`."""
    global _meter  # noqa: PLW0603 - a process is observed by one meter, or by none
    _meter = meter


def turn_off() -> None:
    """Have reports dropped, as at the beginning."""
    global _meter  # noqa: PLW0603
    _meter = None


def is_on() -> bool:
    """Whether somebody listens, for reports that take work to make."""
    return _meter is not None


def _add(metric: Metric, *labels: str, amount: float = 1.0) -> None:
    if _meter is not None:
        _meter.add(metric, labels, amount)


def _observe(metric: Metric, value: float, *labels: str) -> None:
    if _meter is not None:
        _meter.observe(metric, labels, value)


# The coordinator.


def lease_taken() -> None:
    """It leads."""
    _add(table.LEASES)


def run_ended(workspace: str, status: str) -> None:
    """A run ended so."""
    _add(table.RUNS, workspace, status)


def round_closed(workspace: str, seconds: float | None) -> None:
    """A round was closed; seconds: since it was opened, None where another process did."""
    _add(table.ROUNDS, workspace)
    if seconds is not None:
        _observe(table.ROUND_SECONDS, seconds, workspace)


def exchange_ended(workspace: str, step: str, *, sent: int, received: int) -> None:
    """An exchange is over; sent, received: its bytes, over all nodes and attempts."""
    _add(table.EXCHANGES, workspace, step)
    _add(table.SENT, workspace, amount=sent)
    _add(table.RECEIVED, workspace, amount=received)


def update_received(workspace: str) -> None:
    """A node answered a task."""
    _add(table.UPDATES, workspace, "received")


def update_lost(workspace: str, outcome: str, reason: str) -> None:
    """A node did not, or its answer is of no use; reason: the kind of error."""
    _add(table.UPDATES, workspace, outcome)
    _add(table.LOST_UPDATES, workspace, outcome, reason)


def delivery_ended(workspace: str, *, taken: bool) -> None:
    """An attempt to bring a version to a subscriber ended."""
    _add(table.DELIVERIES, workspace, "taken" if taken else "failed")


def notification_ended(*, delivered: bool) -> None:
    """An attempt to tell somebody of an alert ended."""
    _add(table.NOTICES, "delivered" if delivered else "failed")


# A node.


def task_ended(step: str, outcome: str, seconds: float | None) -> None:
    """A task was answered, refused or failed; seconds: None under a budget."""
    _add(table.TASKS, step, outcome)
    if seconds is not None:
        _observe(table.TASK_SECONDS, seconds)


def computed(seconds: float) -> None:
    """The training process answered a task without a budget."""
    _observe(table.COMPUTING_SECONDS, seconds)


def passed_door(seconds: float) -> None:
    """An answer without noise passed the door."""
    _observe(table.DOOR_SECONDS, seconds)


def charged() -> None:
    """A task was charged."""
    _add(table.CHARGES)


def delivery_taken(*, taken: bool) -> None:
    """A delivery of a version ended."""
    _add(table.DELIVERIES_TAKEN, "taken" if taken else "failed")


def order_ended(*, carried: bool) -> None:
    """An order about data subjects ended."""
    _add(table.ORDERS, "done" if carried else "failed")


# The proxy.


def statement_rewritten(kind: str) -> None:
    """A statement went to the server changed."""
    _add(table.STATEMENTS, kind)


def statement_failed(sqlstate_class: str) -> None:
    """The server answered a rewritten statement with an error."""
    _add(table.STATEMENT_ERRORS, sqlstate_class)


def text_rewritten(seconds: float) -> None:
    """It was worked out what a text becomes."""
    _observe(table.REWRITING_SECONDS, seconds)


def rewriting_failed() -> None:
    """A text could not be rewritten."""
    _add(table.REWRITING_FAILURES)
