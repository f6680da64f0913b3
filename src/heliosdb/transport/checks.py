"""What every message from a peer is checked by: parsed whole, nothing unknown in it, values within range.

What always holds: a check returns the value or raises FederatedError; it never repairs one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.transport import limits

_M = TypeVar("_M", bound=Message)
_SHORT_NAME = re.compile(rf"[a-z0-9_]{{1,{limits.MAX_SHORT_NAME_CHARACTERS}}}")


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
    # In place, for what is discarded is refused: a copy of every chunk of a model would be dear.
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise not_supported("the message holds a field that this version does not know")


def require(condition: bool, otherwise: str) -> None:
    """Raise FederatedError INVALID_VALUE with the text `otherwise` unless `condition` holds."""
    if not condition:
        raise invalid_value(otherwise)


def read_name(name: str) -> str:
    """A name: not empty, not too long, without a NUL."""
    require(0 < len(name) <= limits.MAX_NAME_CHARACTERS and "\0" not in name, "a name is empty or too long")
    return name


def read_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names."""
    return tuple(read_name(name) for name in names)


def read_short_name(what: str, name: str) -> str:
    """The name of a part, such as an algorithm; the error says of what."""
    require(_SHORT_NAME.fullmatch(name) is not None, f"the name of the {what} is none")
    return name


def read_digest(what: str, digest: bytes) -> bytes:
    """32 bytes: a SHA-256, or an X25519 public key."""
    require(len(digest) == 32, f"{what} is not of 32 bytes")
    return bytes(digest)


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


def read_not_negative(number: float) -> float:
    """A number of at least 0, infinity included."""
    require(number >= 0, "a number is negative")
    return number


def read_finite(name: str, number: float) -> float:
    """A number that is neither infinite nor NaN."""
    require(math.isfinite(number), f"{name} is not finite")
    return number
