"""Bytes in chunks: cut for the wire, and gathered again with nothing beyond what was announced. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from heliosdb.transport.limits import CHUNK_BYTES


class ExcessBytesError(Exception):
    """More bytes arrived than were announced."""


def cut(*payloads: bytes | memoryview) -> Iterator[bytes]:
    """Cut each into chunks of CHUNK_BYTES, one payload behind the other; nothing for no bytes."""
    for payload in payloads:
        view = memoryview(payload)
        for start in range(0, len(view), CHUNK_BYTES):
            yield bytes(view[start : start + CHUNK_BYTES])


def cut_first(payload: bytes) -> tuple[bytes, memoryview]:
    """What of `payload` travels with its header, and the rest.

    All of it where that is one chunk, else nothing: whoever takes many headers then holds no payloads.
    """
    first = payload if len(payload) <= CHUNK_BYTES else b""
    return first, memoryview(payload)[len(first) :]


class Gatherer:
    """Collects announced bytes; memory grows with what arrives, never with what was announced."""

    def __init__(self, announced: int) -> None:
        self._announced = announced
        self._chunks: list[bytes] = []
        self._gathered = 0
        self._hash = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Take one chunk; ExcessBytesError where it goes beyond what was announced."""
        self._gathered += len(chunk)
        if self._gathered > self._announced:
            self._chunks.clear()
            raise ExcessBytesError
        self._hash.update(chunk)
        self._chunks.append(chunk)

    @property
    def complete(self) -> bool:
        """Whether all announced bytes are there."""
        return self._gathered == self._announced

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the bytes so far."""
        return self._hash.digest()

    def parts(self, first: int) -> tuple[bytes, bytes]:
        """The first so many bytes, and the rest; the gatherer is empty afterwards."""
        front: list[bytes] = []
        while first and self._chunks:
            chunk = self._chunks[0]
            front.append(chunk[:first])
            if len(chunk) > first:
                self._chunks[0] = chunk[first:]
            else:
                del self._chunks[0]
            first -= len(front[-1])
        return b"".join(front), self.payload()

    def payload(self) -> bytes:
        """All bytes so far, in order; the gatherer is empty afterwards."""
        joined = b"".join(self._chunks)
        self._chunks.clear()
        return joined
