"""What every message from a peer is checked by: parsed whole, nothing unknown in it, values within range.

What always holds: a check returns the value or raises FederatedError; it never repairs one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from heliosdb.domain import bounds
from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.vector import Vector
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits

_M = TypeVar("_M", bound=Message)
_MAX_COUNT = 1_000_000_000


def parse(kind: type[_M], raw: bytes) -> _M:
    """Parse one message; what does not parse, or holds fields unknown here, is an error and never ignored."""
    message = kind()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise invalid_value("the message cannot be decoded") from error
    reject_unknown_fields(message)
    return message


def reject_unknown_fields(message: Message) -> None:
    """FederatedError NOT_SUPPORTED where a message holds a field of a version that is not ours."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise not_supported("the message holds a field that this version does not know")


def require(condition: bool, otherwise: str) -> None:
    """Raise FederatedError INVALID_VALUE with the text `otherwise` unless `condition` holds."""
    if not condition:
        raise invalid_value(otherwise)


def read_length(dtype: int, shape: Iterable[int]) -> int:
    """The length of a one-dimensional float64 vector within the limits."""
    extents = list(shape)
    require(dtype == pb.DTYPE_FLOAT64_LE, "the vector is not of dtype float64")
    require(len(extents) == 1, "the vector is not one-dimensional")
    require(8 * extents[0] <= limits.MAX_VECTOR_BYTES, "the vector is too large")
    return extents[0]


def read_name(name: str) -> str:
    """A name: not empty, not too long, without a NUL."""
    require(0 < len(name) <= limits.MAX_NAME_CHARACTERS and "\0" not in name, "a name is empty or too long")
    return name


def read_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names."""
    return tuple(read_name(name) for name in names)


def read_within(name: str, number: float, within: Bounds) -> float:
    """A number between its bounds; the error names it and them."""
    require(within.hold(number), f"{name} {number:g} is outside {within.least:g} … {within.most:g}")
    return number


def read_whole(name: str, number: int, within: Bounds) -> int:
    """A whole number between its bounds."""
    read_within(name, number, within)
    return number


def read_below(name: str, number: float, most: float, *, inclusive: bool) -> float:
    """A number greater than 0 and less than `most`, or equal to it where `inclusive`."""
    inside = 0.0 < number < most or (inclusive and number == most)
    require(inside, f"{name} {number:g} is outside (0, {most:g}{']' if inclusive else ')'}")
    return number


def read_range(lower: float, upper: float) -> tuple[float, float]:
    """The ends of a declared range: far enough apart that rounding leaves positions in it."""
    read_within("a range's end", lower, bounds.LOCATION)
    read_within("a range's end", upper, bounds.LOCATION)
    read_within("a range's width", upper - lower, bounds.SCALE)
    resolved = upper - lower >= bounds.RANGE_RESOLUTION * max(abs(lower), abs(upper))
    require(resolved, f"the range from {lower:.17g} to {upper:.17g} is lost to rounding")
    return lower, upper


def read_parameters(parameters: Vector) -> Vector:
    """Parameters, each between the bounds of one."""
    within = bounds.PARAMETER
    inside = (parameters >= within.least) & (parameters <= within.most)
    if not np.all(inside):
        read_within("a parameter", float(parameters[~inside][0]), within)
    return parameters


def read_positive(number: float) -> float:
    """A finite number greater than 0."""
    require(math.isfinite(number) and number > 0, "a number is not greater than 0")
    return number


def read_not_negative(number: float) -> float:
    """A number of at least 0, infinity included."""
    require(number >= 0, "a number is negative")
    return number


def read_count(number: int) -> int:
    """A whole number of at least 1, up to a billion."""
    require(0 < number <= _MAX_COUNT, "a count is out of range")
    return number
