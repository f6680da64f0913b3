"""Blobs on Unix sockets and in Flower's records: what the two apps have in common.

What always holds: a blob comes out as it went in, or an error is raised; no more is held than a batch may be.
"""

from __future__ import annotations

import socket
import struct

from flwr.app import ConfigRecord, RecordDict

MAX_BATCH_BYTES = 292 * 1024 * 1024
"""As in heliosdb/transport/limits.py: a test compares them."""

_PART_BYTES = 4 * 1024 * 1024
"""Each record is an object of its own to Flower, which stores and fetches these one by one."""

_LENGTH = struct.Struct("!Q")


def to_records(blob: bytes) -> RecordDict:
    """A blob as the content of a message."""
    starts = range(0, len(blob), _PART_BYTES)
    parts = {f"{at:05d}": ConfigRecord({"part": blob[s : s + _PART_BYTES]}) for at, s in enumerate(starts)}
    return RecordDict(parts)


def from_records(content: RecordDict) -> bytes:
    """The blob that a message holds; ValueError for anything else, and for more than a batch may be."""
    parts, size = [], 0
    for at, name in enumerate(sorted(content)):
        record = content[name]
        part = record.get("part") if isinstance(record, ConfigRecord) else None
        if name != f"{at:05d}" or not isinstance(part, bytes):
            raise ValueError("the message holds no batch")
        size += len(part)
        if size > MAX_BATCH_BYTES:
            raise ValueError(f"the message holds more than the {MAX_BATCH_BYTES} bytes of a batch")
        parts.append(part)
    return b"".join(parts)


def write_blob(connection: socket.socket, blob: bytes) -> None:
    """Write a blob; OSError where the other end is gone."""
    connection.sendall(_LENGTH.pack(len(blob)))
    connection.sendall(blob)


def read_blob(connection: socket.socket, most: int = MAX_BATCH_BYTES) -> bytes:
    """The next blob. EOFError where the other end is gone, ValueError for one that is larger than `most`."""
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    if length > most:
        raise ValueError(f"{length} bytes were announced, and no more than {most} are taken")
    return _read(connection, length)


def _read(connection: socket.socket, length: int) -> bytes:
    held = bytearray()
    while len(held) < length:
        part = connection.recv(min(length - len(held), 1024 * 1024))
        if not part:
            raise EOFError("the other end has closed the connection")
        held += part
    return bytes(held)
