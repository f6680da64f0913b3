"""A checkpoint's file: what is whole is read as it was written, and all else is refused with the reason."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.domain.checkpoint import (
    FORMAT,
    MAGIC,
    MOST_HEADER_BYTES,
    MOST_PART_BYTES,
    PIECE_BYTES,
    Header,
    Part,
    read_header,
    read_pieces,
    write_checkpoint,
)
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import RunId

CONTENTS = {"manifest": b"sealed manifest", "memory/3": b"", "state/3": b"sealed state" * 5}
HEADER = Header(
    workspace="clinics",
    model='größe "1"',
    run=RunId(UUID(int=7)),
    round=3,
    created_at="2026-01-31T12:00:00+00:00",
    parts=tuple(Part(name, len(content)) for name, content in CONTENTS.items()),
)
WHOLE = b"".join(write_checkpoint(HEADER, CONTENTS.values()))


class Counting(io.BytesIO):
    """A file that knows the most that was asked of it at once."""

    most = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read, and note how much that was."""
        assert size is not None
        assert size >= 0, "a hostile file is never read to its end at once"
        self.most = max(self.most, size)
        return super().read(size)


def read(raw: bytes) -> tuple[Header, dict[str, bytes]]:
    """Read a file whole."""
    file = Counting(raw)
    header, found = read_header(file.read, len(raw)), {}
    for piece in read_pieces(file.read, header):
        found[piece.part] = found.get(piece.part, b"") + piece.content
    assert file.most <= max(PIECE_BYTES, MOST_HEADER_BYTES)
    return header, found


def refusal(raw: bytes) -> FederatedError:
    """Return the error that a file gets."""
    with pytest.raises(FederatedError) as caught:
        read(raw)
    return caught.value


def with_header(**said: object) -> bytes:
    """A file whose header says something else, whatever is behind it."""
    length = struct.unpack_from("<I", WHOLE, 12)[0]
    text = json.dumps(json.loads(WHOLE[16 : 16 + length]) | said).encode()
    return WHOLE[:12] + struct.pack("<I", len(text)) + text + WHOLE[16 + length :]


def test_what_is_written_is_read_as_it_was() -> None:
    header, found = read(WHOLE)

    assert header == HEADER
    assert len(WHOLE) == HEADER.size
    assert found == {name: content for name, content in CONTENTS.items() if content}


def test_a_large_part_is_read_in_pieces() -> None:
    content = bytes(PIECE_BYTES) + b"x"
    header = replace(HEADER, parts=(Part("manifest", len(content)),))

    file = Counting(b"".join(write_checkpoint(header, [content[:9], content[9:]])))

    pieces = list(read_pieces(file.read, read_header(file.read, header.size)))
    assert [(one.place, len(one.content)) for one in pieces] == [(0, PIECE_BYTES), (1, 1)]


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_every_truncation_is_refused(length: int) -> None:
    error = refusal(WHOLE[:length])

    assert error.code is ErrorCode.INVALID_VALUE
    expected = (
        "the checkpoint is truncated" if length else "the file is no checkpoint of a federated training"
    )
    assert error.message == expected


@pytest.mark.parametrize("place", range(len(WHOLE)))
def test_every_changed_byte_is_refused(place: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= 0x01

    assert refusal(bytes(changed)).code in (ErrorCode.INVALID_VALUE, ErrorCode.NOT_SUPPORTED)


@given(st.binary(max_size=300), st.integers(0, len(WHOLE)))
@settings(max_examples=300, deadline=None)
def test_no_bytes_are_read_as_a_checkpoint_or_end_in_another_error(raw: bytes, kept: int) -> None:
    for hostile in (raw, WHOLE[:kept] + raw):
        if hostile != WHOLE:
            assert refusal(hostile).code in (ErrorCode.INVALID_VALUE, ErrorCode.NOT_SUPPORTED)


def test_something_behind_a_checkpoint_is_refused() -> None:
    assert refusal(WHOLE + b"x").message == "the checkpoint is damaged or was changed"


def test_a_file_that_changes_after_its_size_was_seen_is_refused() -> None:
    file = io.BytesIO(WHOLE + b"x")
    with pytest.raises(FederatedError, match="damaged or was changed"):
        list(read_pieces(file.read, read_header(file.read, len(WHOLE))))


def test_another_file_is_refused_as_none() -> None:
    assert refusal(b"PGDMP\1\16" * 9).message == "the file is no checkpoint of a federated training"


def test_a_later_format_is_refused_as_that_whatever_else_it_says() -> None:
    error = refusal(MAGIC + struct.pack("<I", FORMAT + 1) + b"anything at all")

    assert error.code is ErrorCode.NOT_SUPPORTED
    assert error.message == f"the checkpoint is of format {FORMAT + 1}, which a later release writes"
    assert error.detail == f"This one reads format {FORMAT}."


@pytest.mark.parametrize(
    "said",
    [
        {"parts": [["manifest", MOST_PART_BYTES + 1]]},
        {"parts": [["manifest", -1]]},
        {"parts": [["manifest", True]]},
        {"parts": [["manifest", 1.0]]},
        {"parts": [["manifest", 1], ["manifest", 1]]},
        {"parts": [["manifest", 1], *([f"state/{n}", 1] for n in range(5))]},
        {"parts": [["state/1", 1]]},
        {"parts": [["manifest", 1], ["../x", 1]]},
        {"parts": []},
        {"parts": {}},
        {"parts": [[]]},
        {"model": "x" * 300},
        {"model": ""},
        {"model": None},
        {"run": "x"},
        {"run": 1},
        {"round": -1},
        {"round": "3"},
        {"more": 1},
    ],
)  # fmt: skip
def test_a_header_that_none_has_is_refused(said: dict[str, object]) -> None:
    assert refusal(with_header(**said)).message == "the checkpoint is damaged or was changed"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"a":' * 9000, b"\xff", b'"\\ud800"', b"1" * 5000])
def test_a_header_that_is_no_object_is_refused(text: bytes) -> None:
    raw = MAGIC + struct.pack("<II", FORMAT, len(text)) + text
    assert refusal(raw).message == "the checkpoint is damaged or was changed"


def test_a_header_without_bound_is_refused_before_it_is_read() -> None:
    raw = MAGIC + struct.pack("<II", FORMAT, 2**32 - 1)
    assert refusal(raw).message == "the checkpoint is damaged or was changed"


def test_parts_that_are_not_as_long_as_said_are_never_written_to_the_end() -> None:
    with pytest.raises(FederatedError, match="not as long") as caught:
        list(write_checkpoint(HEADER, [b"short"]))
    assert caught.value.code is ErrorCode.INTERNAL
