"""A message by gRPC before it is parsed: which model it asks, and whether it may be parsed at all.

What always holds: a look costs at most `MOST_FIELDS` steps and no copy of the message; what it lets through
has no more fields, those of its tensors counted, so that the parsed message is a small multiple of its bytes.
Source: Protocol Buffers' encoding (protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from heliosdb.api.serving.tensors import misfit
from heliosdb.transport import inference_pb2 as pb

MOST_FIELDS = 16_384
"""Of a model of 1,500 features with a tensor for each there are half as many."""

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
_NAME = pb.ModelInferRequest.MODEL_NAME_FIELD_NUMBER
_VERSION = pb.ModelInferRequest.MODEL_VERSION_FIELD_NUMBER
_TENSORS = frozenset({pb.ModelInferRequest.INPUTS_FIELD_NUMBER, pb.ModelInferRequest.OUTPUTS_FIELD_NUMBER})


@dataclass(frozen=True, slots=True)
class Asked:
    """The model that a message names, and the version, which may be empty."""

    model: str
    version: str


def scan(raw: bytes) -> Asked:
    """Look through a ModelInferRequest; a Problem 422 for one out of bounds or none at all."""
    found, left = {_NAME: b"", _VERSION: b""}, MOST_FIELDS
    for number, start, end in _fields(raw, 0, len(raw)):
        left -= 1
        if number in found:
            found[number] = raw[start:end]
        elif number in _TENSORS:
            left = _count(raw, start, end, left)
        _check_left(left)
    try:
        return Asked(found[_NAME].decode(), found[_VERSION].decode())
    except UnicodeDecodeError:
        raise unreadable() from None


def unreadable() -> Exception:
    """The answer to bytes that are no message."""
    return misfit("The message is none of the protocol's.")


def _count(raw: bytes, start: int, end: int, left: int) -> int:
    """How many fields there may be after those of a tensor."""
    for _ in _fields(raw, start, end):
        left -= 1
        _check_left(left)
    return left


def _check_left(left: int) -> None:
    if left < 0:
        raise misfit(f"A message may have at most {MOST_FIELDS} fields, those of its tensors counted.")


def _fields(raw: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number of each field, 0 for one that is no bytes, and where its value begins and ends."""
    while place < end:
        tag, place = _varint(raw, place, end)
        kind = tag & 7
        if kind == _BYTES:
            length, place = _varint(raw, place, end)
            stop = place + length
        elif kind == _VARINT:
            _, stop = _varint(raw, place, end)
        elif kind in _FIXED:
            stop = place + _FIXED[kind]
        else:
            raise unreadable()
        if stop > end:
            raise unreadable()
        yield tag >> 3 if kind == _BYTES else 0, place, stop
        place = stop


def _varint(raw: bytes, place: int, end: int) -> tuple[int, int]:
    """An integer of at most ten bytes, and where it ends."""
    value = 0
    for shift, byte in enumerate(raw[place : min(end, place + 10)]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise unreadable()
