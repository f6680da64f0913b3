"""The proxy as a process: its signals, its successor, and what the service manager is told.

What always holds: SIGTERM and SIGINT end sessions in good order and a second one cuts that short; SIGHUP
reads the settings again; SIGUSR1 accepts nobody any more and ends when the last client has left; SIGUSR2
starts the same command again with the same listening sockets and, once that one serves, goes on as SIGUSR1
does. A successor that does not come up changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import uvloop

from federated_sql.errors import FederatedError
from heliosdb.proxy.config import load_config
from heliosdb.proxy.handover import (
    inherited_listeners,
    notify,
    notify_reloading,
    own_command,
    report_ready,
    start_successor,
)
from heliosdb.proxy.rewriting import federated_rewriter
from heliosdb.proxy.server import Proxy

log = logging.getLogger(__name__)


class Process:
    """One proxy and the signals that it obeys; made inside its event loop."""

    def __init__(self, config_path: Path, ready: Callable[[int], None] | None) -> None:
        self._proxy = Proxy(load_config(config_path), federated_rewriter(), config_path)
        self._ready = ready
        self._work: asyncio.Task[None] | None = None
        self._handing_over = False
        self._draining = asyncio.Event()

    async def run(self) -> None:
        """Serve until a signal ends it."""
        loop = asyncio.get_running_loop()
        self._work = loop.create_task(self._serve())
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._draining.set)
        loop.add_signal_handler(signal.SIGUSR2, self._replace)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await self._work

    async def _serve(self) -> None:
        port = await self._proxy.start(inherited_listeners())
        try:
            if self._ready is not None:
                self._ready(port)
            notify(READY=1)
            report_ready()
            await self._draining.wait()
            log.info("accepting nobody any more; %s clients are left", self._proxy.connections)
            if not self._handing_over:
                notify(STOPPING=1)
            await self._proxy.drain()
        except asyncio.CancelledError:
            notify(STOPPING=1)
            raise
        finally:
            await self._proxy.stop()

    def _reload(self) -> None:
        notify_reloading()
        try:
            with contextlib.suppress(FederatedError):  # it is logged, and kept for SHOW STATE
                self._proxy.reload()
        finally:
            notify(READY=1)

    def _replace(self) -> None:
        if self._handing_over or self._draining.is_set():
            return
        try:
            pid, ready = start_successor(own_command(), self._proxy.sockets_to_hand_over())
        except OSError as error:
            log.error("no successor could be started: %s", error.strerror)
            return
        self._handing_over = True
        log.info("process %s is to take over", pid)
        asyncio.get_running_loop().add_reader(ready, self._successor_said, pid, ready)

    def _successor_said(self, pid: int, ready: int) -> None:
        asyncio.get_running_loop().remove_reader(ready)
        serves = os.read(ready, 1) == b"R"
        os.close(ready)
        if serves:
            # Only the process that the service manager knows may name the one to know from now on.
            notify(MAINPID=pid)
            self._proxy.hand_over()
            self._draining.set()
        else:
            os.waitpid(pid, 0)
            self._handing_over = False
            log.error("the successor did not come up; this process goes on")


def run_process(config_path: Path, *, ready: Callable[[int], None] | None = None) -> None:
    """Run a proxy with the settings of a file until a signal ends it."""

    async def main() -> None:
        await Process(config_path, ready).run()

    uvloop.run(main())
