"""A run that waits for nodes: who is there, looked at again at every change.

What always holds: it decides nothing, and reports what it sees to the round machine; what it knows of nodes'
standings is read from the run's committed rows, each time that it begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from heliosdb.catalog import rounds
from heliosdb.coordinator.directory import Directory
from heliosdb.coordinator.selection import contract_problem, select_nodes
from heliosdb.coordinator.session import CatalogSession
from heliosdb.domain.absence import Absence
from heliosdb.domain.events import (
    NOBODY,
    UNREGISTERED,
    Event,
    Names,
    NodesSeen,
    ProblemFound,
    WaitedTooLong,
)
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.run import Run
from heliosdb.domain.run_state import Rules
from heliosdb.domain.selection import NO_STANDINGS, Standings

_LOOK = 60.0
"""Seconds after which is looked again at the latest, where nothing changes."""


class NodeWatch:
    """Looks for the nodes of one run. report: takes what is seen, or what went wrong.

    since: when the run began to wait for its first nodes, on the loop's clock; None: when `begin` is called.
    left_out: who could not answer the run at all, as seen for round 0. known: of the nodes, where the run's
    selection reads it.
    """

    def __init__(
        self,
        directory: Directory,
        session: CatalogSession,
        run: Run,
        rules: Rules,
        report: Callable[[Event | BaseException], None],
        *,
        since: float | None = None,
    ) -> None:
        self._directory = directory
        self._session = session
        self._run = run
        self._rules = rules
        self._report = report
        self._since = since
        self._watcher: asyncio.Task[None] | None = None
        self.left_out: dict[NodeName, str] = {}
        self.known: Standings = NO_STANDINGS

    def begin(self, number: RoundNumber, members: Names | None) -> None:
        """Look until `end`, for a round's nodes. members: of the run, None before they are known."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(number, members or NOBODY))
            self._watcher.add_done_callback(self._ended)

    async def end(self) -> None:
        """Look no more; safe to call at any time."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait({watcher})

    def _ended(self, watcher: asyncio.Task[None]) -> None:
        error = None if watcher.cancelled() else watcher.exception()
        if error is not None:
            self._report(error)

    async def _watch(self, number: RoundNumber, members: Names) -> None:
        """Report who is there, again at every change; once the time is over, also that it is."""
        loop, directory = asyncio.get_running_loop(), self._directory
        began = self._since if number == 0 and self._since is not None else loop.time()
        deadline = began + self._run.policy.round_timeout
        while not directory.is_settled():
            await directory.wait_for_change(1.0)
        if number == 0:
            await directory.greet_again(self._run.policy.workspace)
        elif self._rules.choice.ranks:
            self.known = await self._session.call(rounds.list_standings, self._run.id)
        while True:
            present, absent = self._look(number, members)
            # Enough nodes at the last moment are enough: then it is not waited for any more.
            self._report(NodesSeen(number, present, absent, self.known))
            left = deadline - loop.time()
            if left <= 0.0:
                self._report(WaitedTooLong(number, present, absent))
            await directory.wait_for_change(left if left > 0.0 else _LOOK)

    def _look(self, number: RoundNumber, members: Names) -> tuple[Names, tuple[Absence, ...]]:
        there, absent = self._directory.look(self._run.policy.workspace)
        there = [member for member in there if self._run.admits(member.name)]
        absent = [one for one in absent if self._run.admits(one.node)]
        if number > 0:
            known = {member.name for member in there} | {one.node for one in absent}
            gone = [Absence(name, UNREGISTERED) for name in sorted(members - known)]
            return frozenset(member.name for member in there), (*absent, *gone)
        selection = select_nodes(there, self._run.options)
        self.left_out = {one.node: one.reason for one in selection.left_out}
        problem = contract_problem(selection, self._run, there=len(there), needed=self._rules.needed)
        if problem is not None:
            self._report(ProblemFound(problem))
        return frozenset(selection.able), (*selection.left_out, *absent)
