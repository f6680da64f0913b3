"""Takes runs up as their turns come, has them give way, and passes stop requests on.

What always holds: a run has at most one driver in a term, and there are no more than the room allows; a
driver that lost its database is replaced after a pause, one that failed inside the coordinator fails its run
with that reason, never silently. A run that gives way goes on from its committed rows, as after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

import psycopg

from heliosdb import faults
from heliosdb.catalog.runs import ActiveRun
from heliosdb.coordinator import loading, records
from heliosdb.coordinator.aggregation_functions import FunctionCaller
from heliosdb.coordinator.driver import Left, RunDriver, Setting
from heliosdb.coordinator.queue import Idle, RunQueue, Sight
from heliosdb.coordinator.searches import decide_series
from heliosdb.coordinator.session import CatalogSession
from heliosdb.coordinator.voting import with_vote
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import RunId, WorkspaceName
from heliosdb.domain.run import RunStatus
from heliosdb.observing import observed

log = logging.getLogger(__name__)

_PAUSE = 1.0

CATALOG_GONE = (
    psycopg.OperationalError,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InternalError_,
)
"""What a statement raises when the server, the extension or the role went away, or changed under it."""


class Dispatcher:
    """Holds the drivers of a term."""

    def __init__(self, conninfo: str, setting: Setting, concurrent_runs: int) -> None:
        self._conninfo = conninfo
        self._setting = setting
        self._queue = RunQueue(concurrent_runs, setting.wire.directory)
        # When each was first taken up in this term: before round 0 it waits no longer than it may.
        self._begun: dict[RunId, float] = {}
        self._tasks: dict[RunId, asyncio.Task[None]] = {}
        self._drivers: dict[RunId, RunDriver] = {}
        self._stopping: set[RunId] = set()
        self._leaving: set[RunId] = set()
        self._deciding: asyncio.Task[None] | None = None
        self._fenced: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Wait; raises FENCED where a driver found that the term is over."""
        try:
            await self._fenced
        finally:
            await self.close()

    async def close(self) -> None:
        """Leave every run where it is."""
        tasks = [*self._tasks.values(), *([] if self._deciding is None else [self._deciding])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def refresh(self, active: Sequence[ActiveRun]) -> Mapping[RunId, str]:
        """Take in which runs are queued or running, oldest first; returns what those without a turn say now,
        where that has changed."""
        now, known = asyncio.get_running_loop().time(), {run.id: run for run in active}
        held = {run: run in self._drivers and self._drivers[run].is_idle for run in self._tasks}
        turns = self._queue.refresh(active, held, now)
        self._begun = {run: at for run, at in self._begun.items() if run in known or run in self._tasks}
        for run_id in turns.starts:
            self._begun.setdefault(run_id, now)
            self._start(known[run_id])
        for run_id in turns.leaves:
            if run_id in self._drivers and run_id not in self._leaving:
                self._leaving.add(run_id)
                self._drivers[run_id].give_way()
        self._pass_on_stops(active)
        return self._queue.take_untold()

    def _start(self, run: ActiveRun) -> None:
        task = asyncio.create_task(self._attend(run), name=f"run {run.id}")
        self._tasks[run.id] = task
        task.add_done_callback(partial(self._ended, run.id))

    def _pass_on_stops(self, active: Sequence[ActiveRun]) -> None:
        for run in active:
            if run.stop_requested and run.id in self._drivers and run.id not in self._stopping:
                self._stopping.add(run.id)
                self._drivers[run.id].request_stop()

    def _with_functions(self, loaded: loading.Loaded) -> loading.Loaded:
        """Add what calls a function of people's, in case the run's updates are combined by one."""
        caller = FunctionCaller(self._conninfo, loaded.course.run.policy.round_timeout)
        return replace(loaded, course=loaded.course.calling(caller))

    def decide(self, undecided: Sequence[UUID]) -> None:
        """Take in which searches wait for their best trial to become a version."""
        if undecided and self._deciding is None:
            self._deciding = asyncio.create_task(self._decide(undecided), name="searches")
            self._deciding.add_done_callback(self._decided)

    async def _decide(self, undecided: Sequence[UUID]) -> None:
        try:
            async with CatalogSession(self._conninfo, "searches") as session:
                for series in undecided:
                    found = await session.call(
                        decide_series, self._setting.epoch, series, self._setting.at_rest
                    )
                    log.info("search ended: series=%s %s", series, found or "no trial is of use")
                    faults.reach("coordinator.search.decided")
        except CATALOG_GONE as error:
            log.warning("search interrupted: %s", type(error).__name__)
            await asyncio.sleep(_PAUSE)
        except Exception as error:  # A search that cannot be decided now is tried again, and ends no run.
            if isinstance(error, FederatedError) and error.code is ErrorCode.FENCED:
                raise
            log.exception("a search could not be decided")
            await asyncio.sleep(_PAUSE)

    def _decided(self, task: asyncio.Task[None]) -> None:
        self._deciding = None
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._fenced.done():
            self._fenced.set_exception(error)

    def _ended(self, run: RunId, task: asyncio.Task[None]) -> None:
        self._tasks.pop(run, None)
        self._stopping.discard(run)
        self._leaving.discard(run)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._fenced.done():
            self._fenced.set_exception(error)

    async def _attend(self, run: ActiveRun) -> None:
        """Drive a run over a session of its own until it has ended or the term is over."""
        try:
            async with CatalogSession(self._conninfo, f"run {run.id}") as session:
                await self._drive(session, run)
        except records.RunGoneError:
            log.info("run gone: run=%s", run.id)
        except CATALOG_GONE as error:
            log.warning("run interrupted: run=%s %s", run.id, type(error).__name__)
            await asyncio.sleep(_PAUSE)

    async def _drive(self, session: CatalogSession, run: ActiveRun) -> None:
        epoch = self._setting.epoch
        if run.status is RunStatus.QUEUED:
            if not await session.call(records.claim, epoch, run.id, self._setting.at_rest):
                return
            log.info("run claimed: run=%s", run.id)
            faults.reach("coordinator.run.claimed")
        workspace: WorkspaceName | None = None
        try:
            left = Left.TO_READ_ANEW
            while left is Left.TO_READ_ANEW:
                loaded = await session.call(loading.load, run.id, self._setting.at_rest)
                if loaded is None:
                    return
                loaded = await session.call(with_vote, self._with_functions(loaded), self._setting.at_rest)
                workspace = loaded.course.run.policy.workspace
                await self._take_back(session, loaded)
                since = self._begun[run.id]
                driver = self._drivers[run.id] = RunDriver(self._setting, session, loaded, since=since)
                left = await driver.drive()
            if left is Left.GAVE_WAY:
                self._queue_again(run.id, driver)
        except (records.RunGoneError, *CATALOG_GONE):
            raise
        except Exception as error:  # A run that the coordinator cannot handle must say so and end.
            if isinstance(error, FederatedError) and error.code is ErrorCode.FENCED:
                raise
            log.exception("run failed inside the coordinator: run=%s", run.id)
            await session.call(records.fail_run, epoch, run.id, _public_reason(error))
            if workspace is not None:
                observed.run_ended(workspace, RunStatus.FAILED)
        finally:
            self._drivers.pop(run.id, None)

    async def _take_back(self, session: CatalogSession, loaded: loading.Loaded) -> None:
        """Have a run no longer say that it waits for a turn, where nothing else that it does says more."""
        run, opened = loaded.course.run, loaded.progress.opened
        if self._queue.was_told(run.id) and opened is not None:
            writer = records.Writer(self._setting.epoch, run)
            await session.call(records.say, writer, f"round {opened.round} of {run.options.rounds}")

    def _queue_again(self, run: RunId, driver: RunDriver) -> None:
        """Put a run that gave way behind the others; one that waits for nodes until something changes."""
        now, policy, idle = asyncio.get_running_loop().time(), driver.policy, None
        log.info("run gave way: run=%s", run)
        faults.reach("coordinator.run.gave_way")
        if driver.is_idle:
            sight = Sight.of(self._setting.wire.directory, policy.workspace)
            # Before its first round is opened a run does not wait for ever.
            until = None if driver.has_begun else self._begun[run] + policy.round_timeout
            idle = Idle(policy.workspace, sight, until)
        self._queue.leave(run, idle, now)


def _public_reason(error: Exception) -> str:
    if isinstance(error, FederatedError):
        return error.message
    return f"internal error in the coordinator ({type(error).__name__}); its log says more"
