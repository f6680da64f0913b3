"""One end of what the proxy relays: a transport with its flow control.

What always holds: nothing is sent after `finish` or `close`; reading is stopped and resumed only where that
changes anything.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast


class End(asyncio.Protocol):
    """One of the two connections of a relay, with its flow control."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._held = False
        self._finished = False
        self._kill: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    @property
    def open(self) -> bool:
        """Whether anything can still be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send `data`, unless nothing can be sent any more."""
        transport = self.transport
        if data and transport is not None and not self._finished and not transport.is_closing():
            transport.write(data)

    def finish(self) -> None:
        """Say that nothing more will be sent; the peer may still answer."""
        if self.transport is not None and not self._finished and not self.transport.is_closing():
            self._finished = True
            self.transport.write_eof()

    def hold(self, stop: bool) -> None:
        """Stop or resume reading."""
        if self.transport is None or self.transport.is_closing() or stop == self._held:
            return
        self._held = stop
        if stop:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def close(self, timeout_s: float) -> None:
        """Send what is buffered and close; a peer that does not take it is cut off after the timeout."""
        if self.transport is None or self._kill is not None:
            return
        self.transport.close()
        self._kill = asyncio.get_running_loop().call_later(timeout_s, self.transport.abort)

    def closed(self) -> None:
        """Note that the connection is lost."""
        if self._kill is not None:
            self._kill.cancel()
        self.transport = None
