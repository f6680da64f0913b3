"""Which of several runs work now: by priority, which grows with waiting.

What always holds: no more runs have a turn than there is room for; of runs that wait equally long the one of
higher priority comes first, and of equal ones the oldest; every AGEING seconds of waiting count as one step
of priority, so that no run waits for ever, however many others of a higher one come; a run that waits for
nodes keeps no turn that another could use.

That waiting raises a priority is the remedy against starvation of every scheduler by priority (Silberschatz,
Galvin and Gagne, "Operating System Concepts": aging). It is a pure function of what it is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heliosdb.domain.ids import RunId

AGEING = 30.0
"""Seconds of waiting that weigh as much as one step of priority."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A run without a turn. since: when it began to wait for one; idle: it would wait for nodes."""

    run: RunId
    priority: int
    since: float
    idle: bool = False

    def rank(self, now: float) -> float:
        """Its priority with what waiting adds."""
        return self.priority + max(0.0, now - self.since) // AGEING


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that has a turn. idle: it waits for nodes."""

    run: RunId
    priority: int
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Turns:
    """starts: the runs whose turn it is; leaves: those that give theirs up when their round is closed, or at
    once where they wait for nodes; order: all that have none, the next one first."""

    starts: tuple[RunId, ...]
    leaves: tuple[RunId, ...]
    order: tuple[RunId, ...]


def take_turns(room: int, holders: Iterable[Holder], waiters: Iterable[Waiter], now: float) -> Turns:
    """Decide who works. room: how many at once; waiters: the oldest first."""
    held = list(holders)
    # A stable sort: of equal ones the order is that in which they came.
    order = sorted(waiters, key=lambda one: (one.idle, -one.rank(now)))
    free = max(0, room - len(held))
    starts = tuple(one.run for one in order[:free])
    leaves = _displaced(held, [one for one in order[free:] if not one.idle], now)
    return Turns(starts, leaves, tuple(one.run for one in order))


def _displaced(held: list[Holder], order: Sequence[Waiter], now: float) -> tuple[RunId, ...]:
    """Whose turn goes to whom waits: first of those that are idle, then of the lowest priority."""
    weakest = sorted(held, key=lambda one: (not one.idle, one.priority))
    pairs = zip(weakest, order, strict=False)
    return tuple(one.run for one, waiter in pairs if one.idle or waiter.rank(now) > one.priority)
