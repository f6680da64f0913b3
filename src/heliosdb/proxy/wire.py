"""The PostgreSQL wire protocol as far as the proxy must know it: a pure codec without I/O.

What always holds: bytes that nobody asked to see leave a `MessageStream` exactly as they came in, in order;
a stream never holds back more than its `watch` asks for; and bytes that cannot be framed are passed on
untouched, so that the other end gives its own verdict about them.
Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

HEADER = 5  # type byte and 32-bit length
MAX_STARTUP_LENGTH = 10_000  # PostgreSQL's own bound (MAX_STARTUP_PACKET_LENGTH)
MAX_MESSAGE_LENGTH = 0x3FFF_FFFF  # PostgreSQL's own bound (MaxAllocSize)

CANCEL_CODE = 80877102
SSL_CODE = 80877103
GSSENC_CODE = 80877104

HEAD = struct.Struct("!BI")  # of every message but the start-up packet: its type, its length without the type
_LENGTH = struct.Struct("!I")
_PAIR = struct.Struct("!II")


class ProtocolError(Exception):
    """The peer's bytes cannot be a PostgreSQL conversation; the connection must end."""


class NotYetError(Exception):
    """A message cannot be dealt with yet; nothing has changed, and it will be shown again."""


@dataclass(frozen=True, slots=True)
class SslRequest:
    """The client asks whether it may speak TLS."""


@dataclass(frozen=True, slots=True)
class GssEncRequest:
    """The client asks whether it may speak GSSAPI encryption."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """The client asks to cancel what the backend with this key is doing; `raw` is the packet as it came."""

    pid: int
    secret: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class StartupMessage:
    """The client opens a session; `parameters` is empty where it is malformed (the server says so)."""

    major: int
    minor: int
    parameters: dict[str, str]
    raw: bytes

    @property
    def database(self) -> str:
        """The database asked for; as in the server, it defaults to the user's name."""
        return self.parameters.get("database") or self.parameters.get("user", "")

    @property
    def replicates(self) -> bool:
        """Whether a WAL sender is asked for; what the server will not take for a boolean counts too."""
        value = self.parameters.get("replication", "0").lower()
        if value in ("0", "of", "off"):
            return False
        return not value or not ("false".startswith(value) or "no".startswith(value))


StartupPacket = SslRequest | GssEncRequest | CancelRequest | StartupMessage


def parse_startup(buffer: bytes | bytearray) -> tuple[StartupPacket, int] | None:
    """Read the packet at the start of `buffer`: the packet and its length in bytes, or None if incomplete.

    Raises ProtocolError as soon as the length alone is impossible.
    """
    if len(buffer) < 4:
        return None
    (length,) = _LENGTH.unpack_from(buffer)
    if not 8 <= length <= MAX_STARTUP_LENGTH:
        raise ProtocolError("invalid length of start-up packet")
    if len(buffer) < length:
        return None
    raw = bytes(buffer[:length])
    (code,) = _LENGTH.unpack_from(raw, 4)
    return _startup_packet(code, raw), length


def _startup_packet(code: int, raw: bytes) -> StartupPacket:
    if code in (SSL_CODE, GSSENC_CODE):
        if len(raw) != 8:
            raise ProtocolError("invalid length of encryption request")
        return SslRequest() if code == SSL_CODE else GssEncRequest()
    if code == CANCEL_CODE:
        if len(raw) < 16:
            raise ProtocolError("invalid length of cancel request")
        (pid,) = _LENGTH.unpack_from(raw, 8)
        return CancelRequest(pid, raw[12:], raw)
    return StartupMessage(code >> 16, code & 0xFFFF, _startup_parameters(raw[8:]), raw)


def _startup_parameters(body: bytes) -> dict[str, str]:
    if not body.endswith(b"\0"):
        return {}
    words = [word.decode("utf-8", "surrogateescape") for word in body[:-1].split(b"\0")]
    if words and not words[-1]:
        words.pop()
    if len(words) % 2:
        return {}
    return dict(zip(words[::2], words[1::2], strict=True))


def build_startup(parameters: dict[str, str], *, major: int = 3, minor: int = 0) -> bytes:
    """Build a start-up packet."""
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return _PAIR.pack(len(body) + 8, (major << 16) | minor) + body


def build_message(kind: bytes, body: bytes = b"") -> bytes:
    """Build one typed message."""
    return kind + _LENGTH.pack(len(body) + 4) + body


def build_error(
    sqlstate: str,
    message: str,
    *,
    severity: str = "FATAL",
    detail: str | None = None,
    hint: str | None = None,
) -> bytes:
    """Build the ErrorResponse that a client shows as `severity: message`.

    What a start-up packet named comes back as the bytes that it was, also where they are not UTF-8.
    """
    fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", message), ("D", detail), ("H", hint)]
    told = [
        (code.encode(), text.encode("utf-8", "surrogateescape")) for code, text in fields if text is not None
    ]
    return build_fields(b"E", told)


def parse_fields(body: bytes) -> list[tuple[bytes, bytes]]:
    """Read the body of an ErrorResponse or NoticeResponse: (field code, text) in the order sent.

    Raises ProtocolError for a body that does not end where it says.
    """
    fields: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(body) and body[at]:
        end = body.find(b"\0", at)
        if end < 0:
            break
        fields.append((body[at : at + 1], body[at + 1 : end]))
        at = end + 1
    if body[at:] != b"\0":
        raise ProtocolError("malformed error or notice")
    return fields


def build_fields(kind: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    """Build an ErrorResponse (`kind` E) or NoticeResponse (N) from (field code, text)."""
    return build_message(kind, b"".join(code + text + b"\0" for code, text in fields) + b"\0")


def read_names(body: bytes, count: int) -> list[bytes] | None:
    """Read the `count` zero-terminated strings that a body starts with; None if they are not all there."""
    parts = body.split(b"\0", count)
    return parts[:count] if len(parts) == count + 1 else None


class MessageStream:
    """Walks the message headers of one direction, fragment by fragment, and shows some messages to a session.

    `watched` are the message types of interest. For one of those `watch(kind, total)` answers how many of
    its `total` bytes must be there before `see(kind, head)` is called with exactly those (at least the
    header); it must not change anything, because it may be asked again. `see` returns None to leave the
    bytes as they are or other bytes to go in their place, or raises NotYetError: then the message is held
    back with all that follows, and shown again at the next `feed`, even of nothing. Before all that
    `skim(data, at)` may pass over whole messages from `at` on that it knows to need no more; it returns where
    it stopped.
    """

    __slots__ = (
        "_blind", "_held", "_need", "_pass", "_see", "_skim", "_watch", "_watched", "last_kind", "whole",
    )  # fmt: skip

    def __init__(
        self,
        watched: frozenset[int],
        watch: Callable[[int, int], int],
        see: Callable[[int, bytes], bytes | None],
        skim: Callable[[bytes, int], int] = lambda _data, at: at,
    ) -> None:
        self._watched = tuple(kind in watched for kind in range(256))
        self._watch = watch
        self._see = see
        self._skim = skim
        self._held = bytearray()
        self._need = HEADER
        self._pass = 0  # bytes of the current message that still go through unseen
        self._blind = False
        self.whole = True  # all that came is passed on, and ends with a whole message
        self.last_kind = 0  # of the last message that was not skimmed, 0 if one was skimmed since

    @property
    def at_boundary(self) -> bool:
        """Whether everything passed on so far ends with a whole message."""
        return not self._pass and not self._blind

    @property
    def blind(self) -> bool:
        """Whether bytes came that cannot be framed."""
        return self._blind

    def feed(self, data: bytes) -> bytes:
        """Take what arrived, return what may go on; that is `data` itself where nothing changed."""
        start = self._pass
        if start:
            self._pass = max(start - len(data), 0)
            self.whole = not self._pass
            if len(data) <= start:
                return data
        elif self._blind:
            return data
        elif self._held:
            self._held += data
            if len(self._held) < self._need:
                return b""
            data = bytes(self._held)
            self._held.clear()
            self.whole = True
        at = self._skim(data, start)
        if at != start:
            self.last_kind = 0
        return data if at == len(data) else self._walk(data, at)

    def flush(self) -> bytes:
        """Give up what is held back, because no more will come."""
        held = bytes(self._held)
        self._held.clear()
        self._blind = self._blind or bool(held)
        self.whole = self.whole and not held
        return held

    def _walk(self, data: bytes, at: int) -> bytes:
        """Walk from the start of the message at `at`; what is before that goes on unchanged."""
        out: list[bytes] = []
        sent, end, need = 0, len(data), HEADER
        watched, unpack = self._watched, HEAD.unpack_from
        while end - at >= HEADER:
            kind, length = unpack(data, at)
            if not 4 <= length <= MAX_MESSAGE_LENGTH:
                self._blind = True
                at = end
                break
            if watched[kind]:
                head = self._watch(kind, length + 1)
                if end - at < head:
                    need = head
                    break
                try:
                    changed = self._see(kind, data[at : at + head])
                except NotYetError:
                    need = head
                    break
                if changed is not None:
                    out += (data[sent:at], changed)
                    sent = at + head
            self.last_kind = kind
            at += length + 1
        if at > end:
            self._pass = at - end
            at = end
        elif at < end:
            self._held += data[at:]
            self._need = need
        self.whole = not (self._pass or self._blind or self._held)
        if sent:
            return b"".join((*out, data[sent:at]))
        return data if at == end else data[:at]
