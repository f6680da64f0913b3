"""One end of what the proxy relays: a transport with its flow control.

What always holds: nothing is sent after `finish` or `close`; bytes leave in the order in which `write` got
them; reading is stopped and resumed only where that changes anything.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol, cast

from heliosdb.proxy.config import ProxyConfig

LOOK_S = 0.25  # between two looks at a client that is not read
_LINGER_NOT = struct.pack("ii", 1, 0)  # closing discards what was not taken and says so: a reset


NO_SOCKET: Final = -1
_WRITE: Final = os.write  # compiled code need not look for what is final


class End:
    """One of the two connections of a relay, with its flow control.

    It is an `asyncio.Protocol` by what it has, not by name: a class that is compiled has no other base.
    """

    __slots__ = ("_at_once", "_held", "_kill", "_mute", "_socket", "_tcp_options", "transport")

    def __init__(self, config: ProxyConfig) -> None:
        self.transport: asyncio.Transport | None = None
        self._tcp_options = config.tcp_options
        self._held = False
        self._mute = True  # nothing is to be sent, or nothing can be
        self._socket = NO_SOCKET  # what may be written to past the transport, once that has sent all it has
        self._at_once = NO_SOCKET  # the same, as long as the transport has nothing to send
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
        self.transport, self._mute = transport, False
        self._socket = self._at_once = NO_SOCKET

    def hasten(self) -> None:
        """Write from now on to the socket itself, so that the peer need not wait until the loop has read all
        that has arrived; what the socket does not take at once is the transport's.

        The transport closes its socket only after `connection_lost`, so that its number is no other's before.
        """
        transport = self.transport
        if transport is None or self._mute or transport.get_extra_info("sslcontext") is not None:
            return
        peer = transport.get_extra_info("socket")
        self._socket = peer.fileno() if peer is not None else NO_SOCKET

    def write(self, data: bytes) -> None:
        """Send, unless nothing can be sent any more."""
        if self._at_once >= 0:
            try:
                sent = _WRITE(self._at_once, data)
            except OSError:  # it takes nothing now; or it is lost, which the transport will find in its turn
                sent = 0
            if sent != len(data):
                self._at_once = NO_SOCKET
                self._leave(data[sent:])
        elif self._socket >= 0 and self.transport is not None and not self.transport.get_write_buffer_size():
            self._at_once = self._socket
            self.write(data)
        else:
            self._leave(data)

    def _leave(self, data: bytes) -> None:
        if self.transport is not None and not self._mute:
            self.transport.write(data)

    def say_no_more(self) -> None:
        """Send nothing any more."""
        self._mute = True
        self._socket = self._at_once = NO_SOCKET

    def finish(self) -> None:
        """Say that nothing more will be sent; the peer may still answer."""
        if self.transport is not None and not self._mute and not self.transport.is_closing():
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


def as_protocol(end: End) -> asyncio.Protocol:
    """Give an end to the event loop, as what it is there."""
    return cast("asyncio.Protocol", end)


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

    __slots__ = ("_client", "_ended", "data_received")

    def __init__(self, config: ProxyConfig, client: Client) -> None:
        super().__init__(config)
        self._client = client
        self.data_received = client.server_said  # the very method, so that no call stands between
        self._ended = False

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
