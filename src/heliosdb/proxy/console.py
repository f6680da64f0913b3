"""The proxy as a server of its own database: the protocol of a few commands, simple and extended.

What always holds: nobody but root and the proxy's own operating-system user gets in, and only by the Unix
socket; no more than one message is held in memory, and none is answered before the client has taken the
answers to those before it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from federated_sql.errors import FederatedError, not_supported
from heliosdb.proxy.admin import Administered, Command, Outcome, Value, find_command, product_version
from heliosdb.proxy.last_words import NOT_ALLOWED, STOPPING
from heliosdb.proxy.wire import (
    HEADER,
    ProtocolError,
    StartupMessage,
    build_error,
    build_fields,
    build_message,
    read_names,
)

log = logging.getLogger(__name__)

MAX_MESSAGE = 16 * 1024
MAX_NAMES = 100
PROTOCOL_3_0 = 3 << 16

READY = build_message(b"Z", b"I")

_IGNORED = (b"H", b"d", b"c", b"f")  # Flush, for nothing is held back, and copy data, as the server does

_OIDS = {str: (25, -1), int: (20, 8), bool: (16, 1)}
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def peer_user(transport: asyncio.BaseTransport) -> int | None:
    """The operating-system user at the other end of a Unix socket, as the kernel knows it."""
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family != socket.AF_UNIX:
        return None
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])


def may_administer(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end is root or the user that runs the proxy."""
    return peer_user(transport) in (0, os.geteuid())


@dataclass(slots=True)
class _Portal:
    """A bound command; `rows` is None until it is executed first."""

    command: Command | None
    formats: list[int]
    rows: Sequence[tuple[Value, ...]] | None = None
    at: int = 0


class Console:
    """One client's conversation, without I/O: a message in, its answer out."""

    def __init__(self, proxy: Administered) -> None:
        self._proxy = proxy
        self._statements: dict[bytes, Command | None] = {}
        self._portals: dict[bytes, _Portal] = {}
        self._skipping = False
        self.finished = False
        self._extended: dict[bytes, Callable[[bytes], bytes]] = {
            b"P": self._parse,
            b"B": self._bind,
            b"D": self._describe,
            b"E": self._execute,
            b"C": self._close,
        }

    def greet(self, startup: StartupMessage) -> bytes:
        """Answer the start-up message up to the first ReadyForQuery."""
        settings = {
            "server_version": f"{product_version()}/heliosdb-proxy",
            "server_encoding": "UTF8",
            "client_encoding": "UTF8",
            "application_name": startup.parameters.get("application_name", ""),
            "is_superuser": "on",
            "DateStyle": "ISO, MDY",
            "integer_datetimes": "on",
            "standard_conforming_strings": "on",
            "TimeZone": "UTC",
        }
        unknown = [name for name in startup.parameters if name.startswith("_pq_.")]
        out = [build_message(b"R", bytes(4))]
        if startup.minor or unknown:
            names = b"".join(_text(name) + b"\0" for name in unknown)
            out.insert(0, build_message(b"v", struct.pack("!II", PROTOCOL_3_0, len(unknown)) + names))
        out += [build_message(b"S", _text(k) + b"\0" + _text(v) + b"\0") for k, v in settings.items()]
        # Nothing here runs long enough to be cancelled: the key is one that no server has.
        out += [build_message(b"K", struct.pack("!I", os.getpid()) + secrets.token_bytes(4)), READY]
        return b"".join(out)

    def answer(self, kind: bytes, body: bytes) -> bytes:
        """Return the answer to one message, which may be empty."""
        if kind == b"X":
            self.finished = True
        elif kind == b"S":
            self._skipping = False
            self._portals.clear()
            return READY
        elif not self._skipping and kind not in _IGNORED:
            return self._perform(kind, body)
        return b""

    def _perform(self, kind: bytes, body: bytes) -> bytes:
        if kind == b"Q":
            return self._query(body) + READY
        if kind == b"F":
            return _error(not_supported("the proxy's own database has no functions")) + READY
        if kind in self._extended:
            return self._attempt(self._extended[kind], body)
        self.finished = True
        return build_error("08P01", "unknown message type")

    def _attempt(self, step: Callable[[bytes], bytes], body: bytes) -> bytes:
        try:
            return step(body)
        except FederatedError as error:
            self._skipping = True
            return _error(error)
        except (ProtocolError, struct.error):
            self._skipping = True
            return build_error("08P01", "malformed message", severity="ERROR")

    # Simple protocol

    def _query(self, body: bytes) -> bytes:
        texts = [text for text in _decode(body.removesuffix(b"\0")).split(";") if text.strip()]
        out: list[bytes] = []
        try:
            for text in texts:
                command = find_command(text)
                if command is not None:
                    outcome = command.perform(self._proxy)
                    out.append(_row_description(command, []) if command.columns else b"")
                    out.append(_warnings(outcome))
                    out += [_data_row(row, []) for row in outcome.rows]
                    out.append(_complete(command))
        except FederatedError as error:
            out.append(_error(error))
        return b"".join(out) if texts else build_message(b"I")

    # Extended protocol

    def _parse(self, body: bytes) -> bytes:
        name, text = _names(body, 2)
        if name and name in self._statements:
            return self._fail("42P05", "a prepared statement of this name exists")
        if len(self._statements) >= MAX_NAMES:
            return self._fail("54000", f"no more than {MAX_NAMES} prepared statements")
        self._statements[name] = find_command(_decode(text).strip().removesuffix(";"))
        return build_message(b"1")

    def _bind(self, body: bytes) -> bytes:
        portal, statement = _names(body, 2)
        if statement not in self._statements:
            return self._fail("26000", "there is no prepared statement of this name")
        if len(self._portals) >= MAX_NAMES:
            return self._fail("54000", f"no more than {MAX_NAMES} portals")
        formats = _result_formats(body[len(portal) + len(statement) + 2 :])
        self._portals[portal] = _Portal(self._statements[statement], formats)
        return build_message(b"2")

    def _describe(self, body: bytes) -> bytes:
        (name,) = _names(body[1:], 1)
        if body[:1] == b"S":
            if name not in self._statements:
                return self._fail("26000", "there is no prepared statement of this name")
            return build_message(b"t", bytes(2)) + _described(self._statements[name], [])
        if name not in self._portals:
            return self._fail("34000", "there is no portal of this name")
        portal = self._portals[name]
        return _described(portal.command, portal.formats)

    def _execute(self, body: bytes) -> bytes:
        (name,) = _names(body, 1)
        (limit,) = struct.unpack_from("!I", body, len(name) + 1)
        if name not in self._portals:
            return self._fail("34000", "there is no portal of this name")
        portal = self._portals[name]
        if portal.command is None:
            return build_message(b"I")
        warnings = b""
        if portal.rows is None:
            outcome = portal.command.perform(self._proxy)
            portal.rows, warnings = outcome.rows, _warnings(outcome)
        end = portal.at + limit if limit else len(portal.rows)
        part = portal.rows[portal.at : end]
        portal.at += len(part)
        rows = b"".join(_data_row(row, portal.formats) for row in part)
        more = portal.at < len(portal.rows)
        return warnings + rows + (build_message(b"s") if more else _complete(portal.command))

    def _close(self, body: bytes) -> bytes:
        (name,) = _names(body[1:], 1)
        if body[:1] == b"S":
            self._statements.pop(name, None)
        else:
            self._portals.pop(name, None)
        return build_message(b"3")

    def _fail(self, sqlstate: str, message: str) -> bytes:
        self._skipping = True
        return build_error(sqlstate, message, severity="ERROR")


class ConsoleHost(Administered, Protocol):
    """What a console's connection needs from the proxy."""

    def leave(self, guest: ConsoleEnd) -> None:
        """Forget the guest; called once."""


class ConsoleEnd(asyncio.Protocol):
    """The connection of one guest."""

    def __init__(self, host: ConsoleHost, transport: asyncio.Transport, startup: StartupMessage) -> None:
        self.user = startup.parameters.get("user", "")
        self.since = time.time()
        self._host = host
        self._transport = transport
        self._console = Console(host)
        self._buffer = bytearray()
        self._paused = False

    def begin(self, startup: StartupMessage, rest: bytes, *, refusal: bytes | None = None) -> None:
        """Take the connection over and greet the guest, or send him away."""
        self._transport.set_protocol(self)
        if refusal is not None:
            self._end(refusal)
        elif not may_administer(self._transport):
            log.warning("user %s of the operating system may not administer", peer_user(self._transport))
            self._end(NOT_ALLOWED)
        elif "replication" in startup.parameters:
            self._end(build_error("0A000", "the proxy's own database cannot be replicated"))
        else:
            self._transport.write(self._console.greet(startup))
            self.data_received(rest)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.leave(self)

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        self._transport.resume_reading()
        self._go_on()

    def stop(self) -> None:
        """End with a word."""
        self._end(STOPPING)

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def _end(self, last_word: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(last_word)
            self._transport.close()

    def _go_on(self) -> None:
        """Answer what is there, as long as the client takes the answers."""
        while not self._paused and not self._transport.is_closing() and len(self._buffer) >= HEADER:
            (length,) = struct.unpack_from("!I", self._buffer, 1)
            if not 4 <= length <= MAX_MESSAGE:
                self._end(build_error("08P01", "invalid message length"))
                return
            if len(self._buffer) <= length:
                return
            kind, body = bytes(self._buffer[:1]), bytes(self._buffer[HEADER : length + 1])
            del self._buffer[: length + 1]
            answer = self._console.answer(kind, body)
            if answer:
                self._transport.write(answer)
            if self._console.finished:
                self._transport.close()


def _text(value: str) -> bytes:
    return value.encode("utf-8", "replace")


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _names(body: bytes, count: int) -> list[bytes]:
    names = read_names(body, count)
    if names is None:
        raise ProtocolError("names are not there")
    return names


def _result_formats(rest: bytes) -> list[int]:
    """Read the result formats of a Bind message, from its parameter formats on; parameters there are none."""
    (count,) = struct.unpack_from("!H", rest)
    at = 2 + 2 * count
    (values,) = struct.unpack_from("!H", rest, at)
    if values:
        raise not_supported("the commands of the proxy's own database have no parameters")
    (count,) = struct.unpack_from("!H", rest, at + 2)
    return list(struct.unpack_from(f"!{count}H", rest, at + 4))


def _format(formats: list[int], index: int) -> int:
    if len(formats) <= 1:
        return formats[0] if formats else 0
    return formats[index] if index < len(formats) else 0


def _described(command: Command | None, formats: list[int]) -> bytes:
    if command is None or not command.columns:
        return build_message(b"n")
    return _row_description(command, formats)


def _row_description(command: Command, formats: list[int]) -> bytes:
    parts = [struct.pack("!H", len(command.columns))]
    for index, column in enumerate(command.columns):
        oid, size = _OIDS[column.kind]
        parts += [
            _text(column.name) + b"\0",
            struct.pack("!IHIhiH", 0, 0, oid, size, -1, _format(formats, index)),
        ]
    return build_message(b"T", b"".join(parts))


def _data_row(row: tuple[Value, ...], formats: list[int]) -> bytes:
    parts = [struct.pack("!H", len(row))]
    for index, value in enumerate(row):
        if value is None:
            parts.append(struct.pack("!i", -1))
        else:
            raw = _binary(value) if _format(formats, index) else _as_text(value)
            parts += [struct.pack("!i", len(raw)), raw]
    return build_message(b"D", b"".join(parts))


def _as_text(value: str | int) -> bytes:
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return _text(str(value))


def _binary(value: str | int) -> bytes:
    if isinstance(value, bool):
        return b"\1" if value else b"\0"
    return struct.pack("!q", value) if isinstance(value, int) else _text(value)


def _complete(command: Command) -> bytes:
    return build_message(b"C", _text(command.tag) + b"\0")


def _warnings(outcome: Outcome) -> bytes:
    return b"".join(
        build_fields(b"N", [(b"S", b"WARNING"), (b"V", b"WARNING"), (b"C", b"01000"), (b"M", _text(text))])
        for text in outcome.warnings
    )


def _error(error: FederatedError) -> bytes:
    return build_error(error.sqlstate, error.message, severity="ERROR", detail=error.detail, hint=error.hint)
