"""Texts of a column, read from a binary COPY beside rows that know them by their hash."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from heliosdb.catalog.dataset_rows import NULL_HASH
from heliosdb.node.read_texts import KnownTexts

HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)


def _copy(*rows: tuple[int, bytes], codec: str = "utf-8") -> bytes:
    body = b"".join(struct.pack(">hiqi", 2, 8, number, len(text)) + text for number, text in rows)
    return codec.encode() + b"\0" + HEADER + body + struct.pack(">h", -1)


def _column(*hashes: int) -> np.ndarray:
    return np.array(hashes, dtype=np.int64).view(np.float64).copy()


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_rows_find_their_texts_however_the_copy_is_cut(size: int) -> None:
    raw = _copy((-5, b"fever"), (3, "Müdigkeit".encode()), (2**60, b""))
    chunks = [bytearray(raw[start : start + size]) for start in range(0, len(raw), size)]
    column = _column(3, NULL_HASH, -5, 3, 2**60)

    bags = KnownTexts.read(chunks, column).place(column)

    assert np.array_equal(column, [1.0, np.nan, 0.0, 1.0, 2.0], equal_nan=True)
    assert bags.words == (b"fever", "müdigkeit".encode())


def test_a_text_that_no_row_has_leaves_no_trace() -> None:
    column, alone = _column(-5), _column(-5)
    found = KnownTexts.read([bytearray(_copy((-9, b"somebody else"), (-5, b"fever")))], column)
    other = KnownTexts.read([bytearray(_copy((-5, b"fever")))], alone)

    assert repr(found.place(column)) == repr(other.place(alone))
    assert np.array_equal(column, alone)


def test_what_is_not_utf_8_has_no_words() -> None:
    column = _column(1)
    assert KnownTexts.read([bytearray(_copy((1, b"\xff\xfe fever")))], column).bags.words == ()


def test_texts_are_of_the_encoding_that_is_named() -> None:
    raw = _copy((1, "Müde".encode("cp1252")), (2, b"fever\x81"), codec="cp1252")
    bags = KnownTexts.read([bytearray(raw)], _column(1, 2)).bags

    assert (bags.texts, bags.words) == (2, ("müde".encode(),))


@pytest.mark.parametrize(
    "raw",
    [b"", HEADER, b"utf-8\0" + HEADER, _copy((1, b"fever"))[:-3], b"x" * 400, b"x" * 40, _copy() + b"x"],
)
def test_what_is_no_copy_of_texts_is_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="not a binary COPY of texts"):
        KnownTexts.read([bytearray(raw)], _column(1))
