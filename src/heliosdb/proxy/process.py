"""The proxy as a process: its signals, its successor, and what the service manager is told.

What always holds: SIGTERM and SIGINT end sessions in good order and a second one cuts that short; SIGHUP
reads the settings again; SIGUSR1 accepts nobody any more and ends when the last client has left; SIGUSR2
starts the same command again with the same listening sockets and, once that one serves, goes on as SIGUSR1
does. A successor that does not come up in time changes nothing, and one that was still starting when this
process was stopped ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import uvloop

from federated_sql.errors import FederatedError
from heliosdb.liveness.manager import notify, notify_reloading, watched
from heliosdb.observing.logs import use_format
from heliosdb.observing.metric import Daemon
from heliosdb.observing.running import observing
from heliosdb.proxy.config import load_config
from heliosdb.proxy.counting import proxy_source
from heliosdb.proxy.handover import (
    has_predecessor,
    inherited_listeners,
    own_command,
    report_ready,
    start_successor,
)
from heliosdb.proxy.rewriting import federated_rewriter
from heliosdb.proxy.server import Proxy
from heliosdb.proxy.successor import Successor

log = logging.getLogger(__name__)

TAKEOVER_S = 60.0  # for a successor to serve
END_S = 5.0  # beyond stop_timeout_s, for a successor that was told to end

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Process:
    """One proxy and the signals that it obeys; made inside its event loop."""

    def __init__(self, config_path: Path, ready: Callable[[int], None] | None) -> None:
        config = load_config(config_path)
        use_format(config.log_format)
        self._proxy = Proxy(config, federated_rewriter(), config_path)
        self._ready = ready
        self._work: asyncio.Task[None] | None = None
        self._successor: Successor | None = None  # that has not answered yet
        self._handed_over = False
        self._drain_wanted = False
        self._draining = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal ends it."""
        loop = asyncio.get_running_loop()
        self._work = loop.create_task(self._serve())
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._drain)
        loop.add_signal_handler(signal.SIGUSR2, self._replace)
        # Not the loop's own handlers: closing it would set these signals back to what ends a process.
        for number in _ENDING:
            signal.signal(number, lambda *_: self._end(loop))
        with contextlib.suppress(asyncio.CancelledError):
            async with watched():
                await self._work
        # All is over: a signal that comes before the interpreter has ended must not look like a death by it,
        # whichever thread takes it.
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._work is not None:
            loop.call_soon_threadsafe(self._work.cancel)

    async def _serve(self) -> None:
        if has_predecessor():
            self._proxy.leave_file()
        try:
            # A predecessor serves the metrics until it has heard that this process serves.
            sources = [proxy_source(self._proxy)]
            async with observing(self._proxy.config, Daemon.PROXY, sources, patiently=has_predecessor()):
                await self._accept()
            log.info("accepting nobody any more; %s clients are left", self._proxy.connections)
            if not self._handed_over:
                notify(STOPPING=1)
            await self._proxy.drain()
        except asyncio.CancelledError:
            notify(STOPPING=1)
            raise
        finally:
            await self._stop()

    async def _accept(self) -> None:
        """Accept clients until nobody is to be accepted any more."""
        port = await self._proxy.start(inherited_listeners())
        if self._ready is not None:
            self._ready(port)
        notify(READY=1)
        report_ready()
        self._proxy.take_file()
        await self._draining.wait()

    async def _stop(self) -> None:
        """Stop, and with it a successor that has not answered: it would be a stray."""
        successor, self._successor = self._successor, None
        if successor is not None:
            successor.dismiss()
        try:
            await self._proxy.stop()
        finally:
            if successor is not None:
                await successor.gone(self._proxy.config.stop_timeout_s + END_S)

    def _reload(self) -> None:
        notify_reloading()
        try:
            with contextlib.suppress(FederatedError):  # it is logged, and kept for SHOW STATE
                self._proxy.reload()
        finally:
            notify(READY=1)

    def _drain(self) -> None:
        """Accept nobody any more; not before a successor has answered, for it may fail."""
        self._drain_wanted = True
        if self._successor is None:
            self._draining.set()

    def _replace(self) -> None:
        if self._successor is not None:
            log.warning("SIGUSR2 is ignored: process %s is to take over already", self._successor.pid)
            return
        if self._draining.is_set():
            log.warning("SIGUSR2 is ignored: this process accepts nobody any more")
            return
        try:
            pid, pipe = start_successor(own_command(), self._proxy.sockets_to_hand_over())
        except OSError as error:
            log.error("no successor could be started: %s", error.strerror)
            return
        self._successor = Successor(pid, pipe, self._successor_said, TAKEOVER_S)
        log.info("process %s is to take over", pid)

    def _successor_said(self, serves: bool) -> None:
        successor, self._successor = self._successor, None
        if serves and successor is not None:
            # Only the process that the service manager knows may name the one to know from now on.
            notify(MAINPID=successor.pid)
            self._proxy.leave_file()
            self._handed_over = True
            self._draining.set()
            return
        log.error("the successor did not come up; this process goes on")
        if self._drain_wanted:
            self._draining.set()


def run_process(config_path: Path, *, ready: Callable[[int], None] | None = None) -> None:
    """Run a proxy with the settings of a file until a signal ends it."""

    async def main() -> None:
        await Process(config_path, ready).run()

    uvloop.run(main())
