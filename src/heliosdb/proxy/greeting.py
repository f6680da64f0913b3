"""What happens before a session exists: encryption requests, cancel requests, the start-up message. No I/O.

What always holds: nothing that arrived in plain text is ever taken for something said inside TLS; one SSL
and one GSS question are answered each, and nothing may come before the answer; no more than one start-up
packet's length is held.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.proxy.wire import (
    CancelRequest,
    GssEncRequest,
    ProtocolError,
    SslRequest,
    StartupMessage,
    build_error,
    parse_startup,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """Send `data` and go on reading."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StartTls:
    """Send `S` and begin the TLS handshake; then call `Greeting.encrypted`."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Relay this request to the server that issued the key, then close."""

    request: CancelRequest


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the server connection; `rest` is what the client has already sent after its start-up message."""

    startup: StartupMessage
    rest: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send `data` (may be empty) and close."""

    data: bytes


Action = Reply | StartTls | Cancel | Connect | Refuse


class Greeting:
    """The state of one connection before its session."""

    def __init__(self, *, tls_available: bool, tls_required: bool = False) -> None:
        self._tls_available = tls_available
        self._tls_required = tls_required
        self._encrypted = False
        self._asked: set[type] = set()
        self._buffer = bytearray()

    def encrypted(self) -> None:
        """Note that the TLS handshake has succeeded."""
        self._encrypted = True

    def feed(self, data: bytes) -> Action | None:
        """Take what arrived; return what to do now, or None if more is needed.

        After a `Reply` call again with no data: the next packet may be there already.
        """
        self._buffer += data
        try:
            found = parse_startup(self._buffer)
        except ProtocolError:
            return Refuse(b"")  # as the server does: such bytes get no answer
        if found is None:
            return None
        packet, length = found
        del self._buffer[:length]
        if isinstance(packet, CancelRequest):
            return Cancel(packet)
        if isinstance(packet, StartupMessage):
            return self._start(packet)
        return self._answer_encryption(packet)

    def _answer_encryption(self, packet: SslRequest | GssEncRequest) -> Action:
        if type(packet) in self._asked or self._encrypted:
            return Refuse(build_error("08P01", "encryption was requested more than once"))
        self._asked.add(type(packet))
        declined = isinstance(packet, GssEncRequest) or not self._tls_available
        if self._buffer:
            return Refuse((b"N" if declined else b"") + _stuffed(packet))
        return Reply(b"N") if declined else StartTls()

    def _start(self, packet: StartupMessage) -> Action:
        if packet.major != 3:
            return Refuse(
                build_error("0A000", f"unsupported frontend protocol {packet.major}.{packet.minor}")
            )
        if self._tls_required and not self._encrypted:
            return Refuse(
                build_error("28000", "this proxy accepts only TLS connections", hint="Use sslmode=require.")
            )
        rest = bytes(self._buffer)
        self._buffer.clear()
        return Connect(packet, rest)


def _stuffed(packet: SslRequest | GssEncRequest) -> bytes:
    """What the server says where more comes before the answer to the question, also if that is no."""
    kind = "SSL" if isinstance(packet, SslRequest) else "GSSAPI encryption"
    return build_error(
        "08P01",
        f"received unencrypted data after {kind} request",
        detail="This could be either a client-software bug or evidence of an attempted man-in-the-middle "
        "attack.",
    )
