"""What a coordinator and the program that carries its batches tell each other: frames in one blob each.

What always holds: the program knows places, which it numbers itself, and blobs that it cannot read; what it
says is believed of nothing but of where to send. Whoever carries a batch can have written it: no more is made
of it than it has bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from heliosdb.domain.errors import invalid_value
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport.checks import parse
from heliosdb.transport.limits import MAX_BATCH_ENVELOPES

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


def read_batch(raw: bytes) -> pb.RelayBatch:
    """Read a batch; FederatedError INVALID_VALUE for what is none, or is of more than MAX_BATCH_ENVELOPES.

    These are counted before they are made: two bytes are an envelope, and each takes a hundred in memory.
    """
    at = fields = 0
    while at < len(raw):
        fields += 1
        if fields > MAX_BATCH_ENVELOPES + _OTHER_FIELDS:
            raise invalid_value(f"a batch has more than {MAX_BATCH_ENVELOPES} envelopes")
        at = _after_field(raw, at)
    return parse(pb.RelayBatch, raw)


_OTHER_FIELDS = 2
_VARINT, _BYTES = 0, 2
_LONGEST_VARINT = 10


def _after_field(raw: bytes, at: int) -> int:
    """Where the field ends that begins there; as Protocol Buffers write numbers and messages."""
    tag, at = _varint(raw, at)
    value, at = _varint(raw, at)
    if tag & 7 not in (_VARINT, _BYTES):
        raise invalid_value("a batch has a field that it cannot have")
    return at + (value if tag & 7 == _BYTES else 0)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(raw[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return number, at + place + 1
    raise invalid_value("the batch cannot be decoded")
