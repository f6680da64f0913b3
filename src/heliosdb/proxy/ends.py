"""One end of what the proxy relays: a transport with its flow control.

What always holds: nothing is sent after `finish` or `close`; reading is stopped and resumed only where that
changes anything.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from heliosdb.proxy.config import ProxyConfig

LOOK_S = 0.25  # between two looks at a client that is not read
_LINGER_NOT = struct.pack("ii", 1, 0)  # closing discards what was not taken and says so: a reset


class End(asyncio.Protocol):
    """One of the two connections of a relay, with its flow control."""

    __slots__ = ("_held", "_kill", "_tcp_options", "transport", "write")

    def __init__(self, config: ProxyConfig) -> None:
        self.transport: asyncio.Transport | None = None
        self._tcp_options = config.tcp_options
        self._held = False
        self.write: Callable[[bytes], object] = _to_nobody  # sends, unless nothing can be sent any more
        self._kill: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.use(cast("asyncio.Transport", transport))
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in self._tcp_options:
                peer.setsockopt(socket.IPPROTO_TCP, option, value)

    @property
    def open(self) -> bool:
        """Whether anything can still be sent."""
        return self.transport is not None and not self.transport.is_closing()

    def use(self, transport: asyncio.Transport) -> None:
        """Speak through this transport from now on."""
        self.transport, self.write = transport, transport.write

    def say_no_more(self) -> None:
        """Send nothing any more."""
        self.write = _to_nobody

    def finish(self) -> None:
        """Say that nothing more will be sent; the peer may still answer."""
        if self.transport is not None and self.write is not _to_nobody and not self.transport.is_closing():
            self.say_no_more()
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
        self.say_no_more()
        self.transport.close()
        self._kill = asyncio.get_running_loop().call_later(timeout_s, self.transport.abort)

    def reset(self) -> None:
        """Close at once, so that the peer hears of it even where it has not taken what was sent."""
        if self.transport is None:
            return
        self.say_no_more()
        peer = self.transport.get_extra_info("socket")
        if peer is not None and peer.family != socket.AF_UNIX and peer.fileno() >= 0:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.transport.abort()

    def closed(self) -> None:
        """Note that the connection is lost."""
        if self._kill is not None:
            self._kill.cancel()
        self.transport = None
        self.say_no_more()


def _to_nobody(_data: bytes) -> None:
    """Take what cannot be sent any more."""


class Client(Protocol):
    """What the connection to the server tells the client's."""

    def server_said(self, data: bytes) -> None:
        """Pass the server's bytes on."""

    def server_ended(self) -> None:
        """The server says nothing more; called once."""

    def server_congested(self, congested: bool) -> None:
        """The server takes no more for now, or takes more again."""

    def settle(self) -> None:
        """The server's connection is closed."""


class ServerEnd(End):
    """The connection to the server."""

    __slots__ = ("_client", "_ended")

    def __init__(self, config: ProxyConfig, client: Client) -> None:
        super().__init__(config)
        self._client = client
        self._ended = False

    def data_received(self, data: bytes) -> None:
        self._client.server_said(data)

    def eof_received(self) -> bool:
        self._end()
        self.say_no_more()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed()
        self._end()
        self._client.settle()

    def pause_writing(self) -> None:
        self._client.server_congested(True)

    def resume_writing(self) -> None:
        self._client.server_congested(False)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._client.server_ended()


class Lookout:
    """Looks, at intervals, at a connection that is not read and so does not tell when the peer leaves."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look
        self._wanted = False
        self._timer: asyncio.TimerHandle | None = None

    def keep(self, wanted: bool) -> None:
        """Begin or end looking; both are cheap, for they alternate quickly while much is sent."""
        self._wanted = wanted
        if wanted and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._due)

    def stop(self) -> None:
        """Look no more."""
        self._wanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._wanted:
            self._look()
            self.keep(self._wanted)


def has_said_all(transport: asyncio.Transport) -> bool:
    """Whether the peer's last byte and its end have arrived, read or not."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(peer.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
