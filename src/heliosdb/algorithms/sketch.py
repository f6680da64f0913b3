"""A set of short texts with counts as a vector whose sum over nodes reads as the union: an invertible Bloom
lookup table (Goodrich and Mitzenmacher 2011, "Invertible Bloom Lookup Tables", section 2).

What always holds: every value is a whole number that a double holds exactly, in the sum over as many nodes as
there may be too; what is read is what was put in, or nothing is read at all. Texts that several nodes put in
count once, with all their rows.

A text lies in three cells, one in each third of the table. A cell sums over what lies in it: how often, the
rows, a check of the text, its length, its bytes in digits of 32 bits. Where a cell holds one text only,
however often, that is read from it and taken out of its other cells, until none is left. With up to two
thirds as many texts as cells that succeeds nearly always (section 2.2, with 3 hash functions up to 0.81).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.vector import Vector

MOST_BYTES = 120
"""Of a text in UTF-8."""

_DIGITS = MOST_BYTES // 4
_TIMES, _ROWS, _CHECK, _LENGTH, _FIRST = range(5)
CELL = _FIRST + _DIGITS
"""Values of a cell."""

HASHES = 3

_Cells = NDArray[np.int64]


def sketch(rows: Mapping[str, int], cells: int, salt: int) -> Vector:
    """Put texts with their rows into a table of so many cells, a multiple of 3; (cells · CELL,).

    salt: of the hashes, in [0, 2**32): the same at all nodes.
    """
    table = np.zeros((cells, CELL), dtype=np.int64)
    for text, count in rows.items():
        _add(table, text.encode(), 1, count, salt)
    return table.reshape(-1).astype(np.float64)


def read_sketch(values: Vector, cells: int, salt: int) -> dict[str, int] | None:
    """Return the texts of a sum of tables, with their rows; None where it cannot be read."""
    if not bool(np.all((values >= 0) & (values < 2.0**53) & (values == np.rint(values)))):
        return None
    table, found = values.astype(np.int64).reshape(cells, CELL), dict[str, int]()
    waiting = [int(place) for place in np.flatnonzero(table[:, _TIMES])]
    while waiting:
        place = waiting.pop()
        text = _single(table[place], place, cells, salt)
        if text is None:
            continue
        times, rows = int(table[place, _TIMES]), int(table[place, _ROWS])
        if text.decode() in found:
            return None
        found[text.decode()] = rows
        waiting += [each for each in _add(table, text, -times, -rows, salt) if table[each, _TIMES]]
    return None if table.any() else found


def _add(table: _Cells, text: bytes, times: int, rows: int, salt: int) -> list[int]:
    """Put a text in, or take it out; returns its cells."""
    places, check = _places(text, len(table), salt)
    digits = np.frombuffer(text.ljust(MOST_BYTES, b"\0"), dtype="<u4").astype(np.int64)
    one = np.array([1, 0, check, len(text), *digits], dtype=np.int64) * times
    one[_ROWS] = rows
    for place in places:
        table[place] += one
    return places


def _single(cell: _Cells, place: int, cells: int, salt: int) -> bytes | None:
    """The one text that lies in a cell; None where there are several."""
    times = int(cell[_TIMES])
    if times <= 0 or bool((cell[_CHECK:] % times).any()):
        return None
    one = cell // times
    length = int(one[_LENGTH])
    if not 0 <= length <= MOST_BYTES or bool((one[_FIRST:] >> 32).any()):
        return None
    raw = one[_FIRST:].astype("<u4").tobytes()
    text = raw[:length]
    places, check = _places(text, cells, salt)
    if check != one[_CHECK] or place not in places or any(raw[length:]) or not _is_text(text):
        return None
    return text


def _is_text(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode()
    except UnicodeDecodeError:
        return False


def _places(text: bytes, cells: int, salt: int) -> tuple[list[int], int]:
    """Three cells and a check."""
    digest = hashlib.blake2b(text, digest_size=28, salt=struct.pack("<I", salt), person=b"levels").digest()
    first, second, third, check = struct.unpack("<QQQI", digest)
    part = cells // HASHES
    return [first % part, part + second % part, 2 * part + third % part], check
