"""The format of a checkpoint's file: a header in plain, sealed parts behind it, and a digest of all of it.

What always holds: the file is one sequence of bytes for the same header and parts; a file that is not whole,
was changed, is no checkpoint, or is of a later format is refused with that reason; of a hostile one no more
is held than the header's bound and one piece. What the header says is for people and for a first look: only
what is sealed is ever trained from.

Little-endian: 8 bytes `MAGIC`, uint32 format, uint32 bytes of the header, the header (JSON, UTF-8), the
parts' bytes in the header's order, 32 bytes SHA-256 of everything before them.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.ids import RunId
from heliosdb.domain.wording import counted

MAGIC = b"\x89HLSCKPT"
FORMAT = 1
MOST_HEADER_BYTES = 64 * 1024
MOST_NAME_CHARACTERS = 255
MOST_PART_BYTES = 320 * 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024
MANIFEST = "manifest"

_FRONT = struct.Struct("<8sII")
_DIGEST_BYTES = 32
_PART = re.compile(r"manifest|(state|memory)/(0|[1-9][0-9]{0,8})")
_MOST_PARTS = 5

Read = Callable[[int], bytes]
"""Gives as many of the file's next bytes, fewer only at its end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One sealed part. name: `manifest`, or `state/N` and `memory/N` of round N; size: in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. round: the run's last closed one; created_at: ISO 8601, UTC."""

    workspace: str
    model: str
    run: RunId
    round: int
    created_at: str
    parts: tuple[Part, ...]

    def to_bytes(self) -> bytes:
        """The file's beginning, up to its first part."""
        said = {
            "workspace": self.workspace,
            "model": self.model,
            "run": str(self.run),
            "round": self.round,
            "created_at": self.created_at,
            "parts": [[part.name, part.size] for part in self.parts],
        }
        text = json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        return _FRONT.pack(MAGIC, FORMAT, len(text)) + text

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.to_bytes()) + sum(part.size for part in self.parts) + _DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a part. place: which piece of it, from 0."""

    part: str
    place: int
    content: bytes


def write_checkpoint(header: Header, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the file's bytes. pieces: the parts', in the header's order; INTERNAL where they are not as long
    as it says."""
    digest, written, front = hashlib.sha256(), 0, header.to_bytes()
    for some in chain((front,), pieces):
        digest.update(some)
        written += len(some)
        yield some
    if written + _DIGEST_BYTES != header.size:
        raise FederatedError(ErrorCode.INTERNAL, "the parts of a checkpoint are not as long as was said")
    yield digest.digest()


def read_header(read: Read, size: int) -> Header:
    """Read a file's beginning; FederatedError INVALID_VALUE, or NOT_SUPPORTED for a later format.

    size: of the whole file in bytes.
    """
    front = read(_FRONT.size)
    if not front.startswith(MAGIC[: len(front)]) or not front:
        raise invalid_value("the file is no checkpoint of a federated training")
    if len(front) < _FRONT.size:
        raise _truncated(f"It ends after {counted(len(front), 'byte')}.")
    _, version, length = _FRONT.unpack(front)
    if version > FORMAT:
        raise FederatedError(
            ErrorCode.NOT_SUPPORTED,
            f"the checkpoint is of format {version}, which a later release writes",
            detail=f"This one reads format {FORMAT}.",
        )
    if version != FORMAT or length > MOST_HEADER_BYTES:
        raise _changed("Its header is not one that a coordinator's database writes.")
    text = read(length)
    if len(text) < length:
        raise _truncated("It ends within its header.")
    header = _parse(text)
    if size != header.size:
        message = f"It has {counted(size, 'byte')}; whole it has {header.size}."
        raise _truncated(message) if size < header.size else _changed(message)
    return header


def read_pieces(read: Read, header: Header) -> Iterator[Piece]:
    """Yield what is behind the header; FederatedError INVALID_VALUE, at the end, where it is not whole."""
    digest = hashlib.sha256(header.to_bytes())
    for part in header.parts:
        left, place = part.size, 0
        while left:
            content = read(min(left, PIECE_BYTES))
            if not content:
                raise _truncated(f"It ends within {part.name}.")
            digest.update(content)
            yield Piece(part.name, place, content)
            left, place = left - len(content), place + 1
    if read(_DIGEST_BYTES) != digest.digest() or read(1):
        raise _changed("Its SHA-256 is not the one at its end.")


def _parse(text: bytes) -> Header:
    try:
        said = json.loads(text)
        header = Header(
            workspace=_text(said["workspace"]),
            model=_text(said["model"]),
            run=RunId(UUID(said["run"])),
            round=_count(said["round"], 10**9),
            created_at=_text(said["created_at"]),
            parts=tuple(
                Part(_part_name(name), _count(size, MOST_PART_BYTES)) for name, size in said["parts"]
            ),
        )
        # One header has one form: what is hashed is what was read.
        if header.to_bytes()[_FRONT.size :] != text:
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise _changed("Its header cannot be read.") from None
    names = [part.name for part in header.parts]
    if len(set(names)) != len(names) or len(names) > _MOST_PARTS or names[:1] != [MANIFEST]:
        raise _changed("Its header names other parts than a checkpoint has.")
    return header


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MOST_NAME_CHARACTERS:
        raise ValueError
    return value


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError
    return value


def _part_name(value: Any) -> str:
    if not isinstance(value, str) or _PART.fullmatch(value) is None:
        raise ValueError
    return value


def _truncated(detail: str) -> FederatedError:
    return invalid_value("the checkpoint is truncated", detail=detail)


def _changed(detail: str) -> FederatedError:
    return invalid_value("the checkpoint is damaged or was changed", detail=detail)
