"""Named fault points: places where a test may stop, kill or fail a process. Off unless a test turns them on.

What always holds: without HELIOSDB_FAULTS in the environment `reach` does nothing. A fault is written
`name[:count]=action`, several separated by commas; it fires the `count`-th time the point is reached (1 if
not given). Actions: `kill` (SIGKILL to this process), `stop` (SIGSTOP), `fail` (raise InjectedFaultError).
"""

from __future__ import annotations

import os
import signal
from collections import Counter

POINTS: frozenset[str] = frozenset(
    {
        "coordinator.run.claimed",
        "coordinator.run.waits",
        "coordinator.run.gave_way",
        "coordinator.round.opened",
        "coordinator.task.sent",
        "coordinator.task.asked_again",
        "coordinator.update.received",
        "coordinator.sum.noised",
        "coordinator.aggregated",
        "coordinator.round.closed",
        "coordinator.resealed",
        "coordinator.version.committed",
        "coordinator.search.decided",
        "coordinator.alert.fired",
        "coordinator.alert.sent",
        "coordinator.delivery.sent",
        "coordinator.delivery.answered",
        "coordinator.erasure.planned",
        "coordinator.erasure.queued",
        "coordinator.erasure.retired",
        "coordinator.erasure.certified",
        "coordinator.order.taken",
        "coordinator.order.sent",
        "coordinator.order.answered",
        "coordinator.order.recorded",
        "coordinator.head.signed",
        "coordinator.head.witnessed",
        "coordinator.export.composed",
        "coordinator.export.written",
        "coordinator.export.recorded",
        "node.task.received",
        "node.charge.committed",
        "node.release.committed",
        "node.update.sent",
        "node.delivery.received",
        "node.delivery.defined",
        "node.delivery.withdrawn",
        "node.delivery.committed",
        "extension.checkpoint.synced",
        "extension.checkpoint.published",
        "node.order.received",
        "node.order.done",
        "node.order.committed",
        "node.head.committed",
        "node.gather.received",
        "node.term.added",
        "node.sum.made",
    }
)

_reached: Counter[str] = Counter()


class InjectedFaultError(Exception):
    """A test asked for this failure."""


def reach(point: str) -> None:
    """Note that `point` was reached, and do what a test asked for there."""
    configured = os.environ.get("HELIOSDB_FAULTS")
    if not configured:
        return
    if point not in POINTS:
        raise ValueError(f"unknown fault point {point}")
    _reached[point] += 1
    for fault in configured.split(","):
        where, _, action = fault.partition("=")
        name, _, count = where.partition(":")
        if name == point and _reached[point] == int(count or 1):
            _perform(action)


def _perform(action: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "fail":
            raise InjectedFaultError
        case _:
            raise ValueError(f"unknown fault action {action}")
