"""The texts of a column, as the words that they have: read once, beside rows that know them by their hash.

What always holds: a text that no row has which an answer may be about leaves no trace; whose it is nobody is
told here. Two texts are told apart wherever their hashes differ, and nobody makes one up that has the hash of
another's. What is not of the database's encoding, or not UTF-8 of one without, has no words.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from heliosdb.algorithms.space import slices
from heliosdb.algorithms.table import Codes
from heliosdb.catalog.dataset_rows import NULL_HASH
from heliosdb.domain.vector import Vector
from heliosdb.scoring.words import Bags

_HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
_ROW = struct.Struct(">hiqi")
"""The number of fields, 2; the size of a hash, 8, and the hash; how long the text is, whose bytes follow."""

_LONGEST_NAME = 64
"""Bytes of an encoding's name, at most."""

_TRAILER = struct.pack(">h", -1)


@dataclass(frozen=True, slots=True)
class KnownTexts:
    """hashes: rising, (texts,); bags: of each of these the text."""

    hashes: Codes
    bags: Bags

    @classmethod
    def read(cls, copied: Iterable[bytearray], column: Vector) -> KnownTexts:
        """Read the name of an encoding, a zero byte, and a binary COPY of hashes, rising, and texts; column:
        the bits of the hashes that rows have."""
        wanted = _distinct(column)
        found: list[int] = []

        def texts() -> Iterator[str]:
            codec, rows = _named(copied)
            for number, raw in _parse(rows):
                place = int(np.searchsorted(wanted, number))
                if place < wanted.size and int(wanted[place]) == number:
                    found.append(number)
                    yield _decoded(raw, codec)

        bags = Bags.of(texts())
        return cls(np.array(found, dtype=np.int64), bags)

    def place(self, column: Vector) -> Bags:
        """Put the places of texts into a column of the bits of hashes, NaN for NULL; return the texts."""
        for block in slices(column.size):
            numbers = column[block].copy().view(np.int64)
            places = np.searchsorted(self.hashes, numbers).astype(np.float64)
            places[numbers == NULL_HASH] = np.nan
            column[block] = places
        return self.bags


def _distinct(column: Vector) -> Codes:
    found = [np.unique(column[block].copy().view(np.int64)) for block in slices(column.size)]
    return np.unique(np.concatenate([*found, np.empty(0, dtype=np.int64)]))


def _decoded(raw: bytes, codec: str) -> str:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return ""


def _named(copied: Iterable[bytearray]) -> tuple[str, Iterator[bytearray]]:
    """Return the name of the encoding, and the chunks behind it; ValueError where there is none."""
    chunks, begun = iter(copied), bytearray()
    for chunk in chunks:
        begun += chunk
        name, ends, rest = begun.partition(b"\0")
        if ends and name.isascii():
            return codecs.lookup(name.decode("ascii")).name, chain([rest], chunks)
        if len(begun) > _LONGEST_NAME:
            break
    raise ValueError("not a binary COPY of texts")


def _parse(copied: Iterable[bytearray]) -> Iterator[tuple[int, bytes]]:
    """Yield hashes and texts as the chunks come, cut anywhere; ValueError for what is none."""
    rest, at, begun, ended = bytearray(), 0, False, False
    for chunk in copied:
        rest = rest[at:] + chunk
        at = 0
        if not begun:
            if len(rest) < len(_HEADER):
                continue
            begun, at = rest.startswith(_HEADER), len(_HEADER)
            if not begun:
                raise ValueError("not a binary COPY of texts")
        while len(rest) - at >= _ROW.size:
            fields, size, number, length = _ROW.unpack_from(rest, at)
            if (fields, size) != (2, 8) or length < 0:
                raise ValueError("not a binary COPY of texts")
            end = at + _ROW.size + length
            if len(rest) < end:
                break
            yield number, bytes(memoryview(rest)[at + _ROW.size : end])
            at = end
    ended = rest[at:] == _TRAILER
    if not (begun and ended):
        raise ValueError("not a binary COPY of texts")
