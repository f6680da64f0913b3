"""What a daemon tells the service manager that started it: readiness, reloading, stopping, being alive.

What always holds: without a manager nothing is sent, and telling it never fails the caller and holds it up
for a moment at most; the watchdog is fed by the event loop itself, so that a loop that stands still is seen,
and by the process that the manager watches and no child of it.
Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator

_PATIENCE_S = 1.0  # with a manager that does not read


def notify(**states: str | int) -> None:
    """Tell the service manager, if there is one; it never fails the caller."""
    _send("\n".join(f"{name}={value}" for name, value in states.items()), _PATIENCE_S)


def notify_reloading() -> None:
    """Tell the service manager that the settings are being read again."""
    notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)


def watchdog_interval() -> float | None:
    """How often to say that the process is alive, in seconds: twice in the time allowed; None: never."""
    allowed, watched = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if (
        not (allowed.isascii() and allowed.isdigit())
        or int(allowed) == 0
        or watched not in ("", str(os.getpid()))
    ):
        return None
    return int(allowed) / 2_000_000


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Feed the service manager's watchdog for the length of a block, as long as the event loop turns."""
    interval = watchdog_interval()
    feeding = None if interval is None else asyncio.get_running_loop().create_task(_feed(interval))
    try:
        yield
    finally:
        if feeding is not None:
            feeding.cancel()


async def _feed(interval: float) -> None:
    while True:
        # A manager that does not read must not hold up the loop; the next one says the same.
        _send("WATCHDOG=1", patience=0)
        await asyncio.sleep(interval)


def _send(message: str, patience: float) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(patience)
        sender.connect("\0" + address[1:] if address[0] == "@" else address)
        sender.send(message.encode())
