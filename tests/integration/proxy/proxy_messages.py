"""The frontend's messages, and conversations made of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from heliosdb.proxy.wire import build_message
from tests.integration.proxy.proxy_harness import Wire

SYNC, FLUSH = build_message(b"S"), build_message(b"H")
COPY_DONE = build_message(b"c")
Z = "Z"


def parse(name: str, text: str, *types: int) -> bytes:
    """Parse; types: the OIDs of the parameters that are given one."""
    return build_message(
        b"P", f"{name}\0{text}\0".encode() + struct.pack(f"!H{len(types)}I", len(types), *types)
    )


def bind(
    portal: str,
    name: str,
    *values: str | bytes | None,
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind values; formats: of the parameters, results: of the columns (0 text, 1 binary)."""
    body = f"{portal}\0{name}\0".encode() + _numbers(formats) + struct.pack("!H", len(values))
    for value in values:
        raw = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return build_message(b"B", body + _numbers(results))


def _numbers(values: Sequence[int]) -> bytes:
    return struct.pack(f"!H{len(values)}H", len(values), *values)


def execute(portal: str = "", limit: int = 0) -> bytes:
    return build_message(b"E", portal.encode() + b"\0" + struct.pack("!I", limit))


def describe(kind: str, name: str = "") -> bytes:
    return build_message(b"D", (kind + name).encode() + b"\0")


def close(kind: str, name: str = "") -> bytes:
    return build_message(b"C", (kind + name).encode() + b"\0")


def data(text: str) -> bytes:
    return build_message(b"d", text.encode())


def call_function(oid: int, *arguments: int | bytes | None) -> bytes:
    """FunctionCall with binary arguments and a binary result."""
    body = struct.pack("!IHHH", oid, 1, 1, len(arguments))
    for argument in arguments:
        raw = struct.pack("!I", argument) if isinstance(argument, int) else argument
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return build_message(b"F", body + struct.pack("!H", 1))


def step(until: str, *messages: bytes) -> tuple[bytes, bytes]:
    """Send the messages, then read up to a message of the kind `until` (empty: to the end of the stream)."""
    return b"".join(messages), until.encode()


def play(wire: Wire, conversation: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Send each step and wait for its end; return all messages, without process ids and cancel keys."""
    for sent, until in conversation:
        wire.send(sent)
        wire.until(until)
    return [(kind, b"" if kind == b"K" else body[4:] if kind == b"A" else body) for kind, body in wire.got]
