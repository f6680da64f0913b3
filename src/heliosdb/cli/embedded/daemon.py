"""One supervised daemon: started in a process group of its own, watched, started again when it dies.

What always holds: the first start either becomes ready or is an error with the end of the log; after that a
dead daemon is started again, ever more slowly, until the supervisor stops it.
"""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import Callable
from typing import Final

from heliosdb.cli.embedded.plan import DaemonPlan
from heliosdb.cli.embedded.processes import ProcessMark, end_group, end_rest_of_group, mark_of
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.liveness.standing import is_up

_READY_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_LOG_TAIL_BYTES: Final = 4000

Announce = Callable[[str], None]


class Daemon:
    """Runs what a plan says; `record` is told the mark of each process, and None once there is none."""

    def __init__(self, plan: DaemonPlan, record: Callable[[str, ProcessMark | None], None]) -> None:
        self.plan = plan
        self._record = record
        self._process: Process | None = None
        self._mark: ProcessMark | None = None

    async def start(self) -> None:
        """Start the process and return once its ready file says that it is up."""
        self.plan.ready_file.unlink(missing_ok=True)
        with self.plan.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.plan.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
        self._mark = mark_of(self._process.pid)
        self._record(self.plan.name, self._mark)
        await self._wait_until_ready(self._process)

    async def keep_running(self, announce: Announce) -> None:
        """Start the process again whenever it ends; runs until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            assert self._process is not None
            status = await self._process.wait()
            end_rest_of_group(self._process.pid)
            self._record(self.plan.name, None)
            announce(f"{self.plan.name} ended with status {status}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            try:
                await self.start()
            except FederatedError as error:
                announce(error.message)
                await self.stop()
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                announce(f"{self.plan.name} is ready again")
                pause = _FIRST_PAUSE_SECONDS

    async def stop(self) -> None:
        """End the process and whatever it has started."""
        if self._process is None or self._mark is None:
            return
        ending = asyncio.create_task(asyncio.to_thread(end_group, self._mark))
        await self._process.wait()
        await ending
        self._record(self.plan.name, None)

    async def _wait_until_ready(self, process: Process) -> None:
        deadline = asyncio.get_running_loop().time() + _READY_SECONDS
        while not is_up(self.plan.ready_file):
            if process.returncode is not None:
                raise self._failure(
                    f"{self.plan.name} ended with status {process.returncode} before it was ready"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise self._failure(f"{self.plan.name} was not ready after {_READY_SECONDS:g} s")
            await asyncio.sleep(_POLL_SECONDS)

    def _failure(self, message: str) -> FederatedError:
        with self.plan.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _LOG_TAIL_BYTES))
            tail = log.read().decode(errors="replace").strip()
        detail = f"The end of {self.plan.log_file}:\n{tail}" if tail else f"{self.plan.log_file} is empty."
        return FederatedError(ErrorCode.INTERNAL, message, detail=detail)


def _environment() -> dict[str, str]:
    # A daemon connects where its configuration says; the caller's PG* settings would change that unseen.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "PYTHONUNBUFFERED": "1"}
