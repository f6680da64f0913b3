"""What a coordinator and the program that carries its batches tell each other: frames in one blob each.

What always holds: the program knows places, which it numbers itself, and blobs that it cannot read; what it
says is believed of nothing but of where to send.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from heliosdb.domain.errors import invalid_value

_PLACES, _BATCH, _LOST = b"P", b"B", b"L"
_PLACE = struct.Struct("!Q")
MAX_PLACES = 10_000
FRAME_BYTES = 1 + _PLACE.size


@dataclass(frozen=True, slots=True)
class Places:
    """The places that there are now."""

    places: frozenset[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """What came back from a place; at most one batch is on its way to a place and back."""

    place: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing came back from a place: what was sent there may have arrived."""

    place: int


Frame = Places | Batch | Lost


def read_frame(blob: bytes) -> Frame:
    """Read what the program says; FederatedError INVALID_VALUE for what is no frame."""
    kind, rest = blob[:1], blob[1:]
    if kind == _PLACES and len(rest) % _PLACE.size == 0 and len(rest) <= MAX_PLACES * _PLACE.size:
        return Places(frozenset(place for (place,) in _PLACE.iter_unpack(rest)))
    if kind == _BATCH and len(rest) >= _PLACE.size:
        return Batch(_PLACE.unpack_from(rest)[0], rest[_PLACE.size :])
    if kind == _LOST and len(rest) == _PLACE.size:
        return Lost(_PLACE.unpack(rest)[0])
    raise invalid_value("what carries the batches says something that is no frame")


def batch_frame(place: int, content: bytes) -> bytes:
    """A batch for a place."""
    return _BATCH + _PLACE.pack(place) + content
