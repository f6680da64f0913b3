"""The queue of runs: which of those that are queued or running the coordinator carries out now.

What always holds: what is kept of a run that has no turn is a few numbers, however many there are; which one
has its turn changes when each is carried out, and nothing of what it leads to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from heliosdb.catalog.runs import ActiveRun
from heliosdb.coordinator.directory import Directory
from heliosdb.domain.ids import NodeName, RunId, WorkspaceName
from heliosdb.domain.run import RunStatus
from heliosdb.domain.turns import Holder, Turns, Waiter, take_turns


@dataclass(frozen=True, slots=True)
class Sight:
    """Which nodes of a workspace were there, and which were not."""

    there: frozenset[NodeName]
    away: frozenset[NodeName]

    @classmethod
    def of(cls, directory: Directory, workspace: WorkspaceName) -> Sight:
        """Look now."""
        members, absent = directory.look(workspace)
        return cls(frozenset(one.name for one in members), frozenset(one.node for one in absent))


@dataclass(frozen=True, slots=True)
class Idle:
    """That a run waits for nodes. sight: which of the workspace's were there when it was left; until: when to
    look in any case, since it then fails; None: never.
    """

    workspace: WorkspaceName
    sight: Sight
    until: float | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """A run's place in the queue. since: when it began to wait for a turn."""

    since: float
    idle: Idle | None = None


class RunQueue:
    """room: how many runs are carried out at once; times are the loop's clock."""

    def __init__(self, room: int, directory: Directory) -> None:
        self._room = room
        self._directory = directory
        self._places: dict[RunId, _Place] = {}
        self._told: dict[RunId, str] = {}
        self._untold: dict[RunId, str] = {}

    def refresh(self, active: Sequence[ActiveRun], held: Mapping[RunId, bool], now: float) -> Turns:
        """Take in which runs there are, oldest first, and which are carried out; returns whose turn it is.

        held: of each of these, whether it waits for nodes. Whoever is asked to stop needs no room for that.
        """
        known = {run.id: run for run in active}
        waiting = [run for run in active if run.id not in held]
        self._places = {run.id: self._places.get(run.id, _Place(now)) for run in waiting}
        holders = [Holder(run, known[run].priority, idle) for run, idle in held.items() if run in known]
        # A run that has ended keeps its place until its driver has gone.
        room = self._room - (len(held) - len(holders))
        stopped = tuple(run.id for run in waiting if run.stop_requested)
        waiters = [self._waiter(run, now) for run in waiting if not run.stop_requested]
        turns = take_turns(room, holders, waiters, now)
        self._note(
            known, [run for run in turns.order if run not in turns.starts], len(held) + len(turns.starts)
        )
        return replace(turns, starts=(*stopped, *turns.starts))

    def leave(self, run: RunId, idle: Idle | None, now: float) -> None:
        """Note that a run gave way. idle: where it waits for nodes."""
        self._places[run] = _Place(now, idle)

    def was_told(self, run: RunId) -> bool:
        """Whether a run that has its turn now still says that it waits for one."""
        return self._told.pop(run, None) is not None

    def take_untold(self) -> Mapping[RunId, str]:
        """Return what runs without a turn are to say, where it has changed."""
        untold, self._untold = self._untold, {}
        self._told |= untold
        return untold

    def _waiter(self, run: ActiveRun, now: float) -> Waiter:
        place = self._places[run.id]
        if place.idle is not None and self._may_go_on(place.idle, now):
            place = self._places[run.id] = _Place(place.since)
        return Waiter(run.id, run.priority, place.since, place.idle is not None)

    def _may_go_on(self, idle: Idle, now: float) -> bool:
        is_over = idle.until is not None and now >= idle.until
        return is_over or Sight.of(self._directory, idle.workspace) != idle.sight

    def _note(self, known: Mapping[RunId, ActiveRun], order: Collection[RunId], working: int) -> None:
        """See what those without a turn are to say; one that waits for nodes goes on saying that."""
        said = {
            run: _message(known[run].status, working + number)
            for number, run in enumerate(order)
            if self._places[run].idle is None
        }
        self._untold = {run: text for run, text in said.items() if self._told.get(run) != text}
        self._told = {run: text for run, text in self._told.items() if run in said or run in known}


def _message(status: RunStatus, ahead: int) -> str:
    what = "queued" if status is RunStatus.QUEUED else "gave way, and goes on"
    return f"{what} behind {ahead} {'run' if ahead == 1 else 'runs'}"
