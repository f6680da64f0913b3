"""The process that is to take over, from its start to its answer and its end, as its predecessor sees it.

What always holds: it answers within a time, by serving or by being gone; it is waited for, so that it leaves
no zombie; and where its predecessor does not go on to hand over, it does not go on either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable

log = logging.getLogger(__name__)


class Successor:
    """A child and the pipe that it reports by; made inside an event loop.

    `said` is called once: with True when it serves, with False when it has ended without that.
    """

    def __init__(self, pid: int, pipe: int, said: Callable[[bool], None], timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.pid = pid
        self._said: Callable[[bool], None] | None = said
        self._pipe, self._process = pipe, os.pidfd_open(pid)
        self._ended = asyncio.Event()
        loop.add_reader(pipe, self._read)
        loop.add_reader(self._process, self._reap)
        self._deadline = loop.call_later(timeout_s, self._too_late, timeout_s)

    def dismiss(self) -> None:
        """Tell it to end; what it says no longer matters."""
        self._said = None
        self._signal(signal.SIGTERM)

    async def gone(self, timeout_s: float) -> None:
        """Wait for its end, which comes by force after a time."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._ended.wait()
        finally:
            self._signal(signal.SIGKILL)
        await self._ended.wait()

    def _read(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pipe)
        self._deadline.cancel()
        serves = os.read(self._pipe, 1) == b"R"
        os.close(self._pipe)
        if serves:
            self._say(True)
        else:  # it has ended or is about to, or has lost its only way to say that it serves
            self._signal(signal.SIGKILL)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process)
        os.waitpid(self.pid, 0)  # at once: the process has ended
        os.close(self._process)
        self._deadline.cancel()
        self._ended.set()
        self._say(False)

    def _say(self, serves: bool) -> None:
        said, self._said = self._said, None
        if said is not None:
            said(serves)

    def _too_late(self, timeout_s: float) -> None:
        log.error("process %s does not serve after %s s and is ended", self.pid, timeout_s)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)
