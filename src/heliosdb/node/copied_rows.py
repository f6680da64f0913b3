"""The rows of a binary COPY become numbers and codes, as its chunks come.

What always holds: whatever is no row of the given fields is a ValueError that quotes none of it. Rows are of
one width, so that they are read by stride; where they hold images as bytes these are decoded one by one, as
they come, and no more than a chunk of them is held as bytes. An image that is none of its shape has no
pixels, and -1 stands in the place of their number, as of an array that is none: it never is an error here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from heliosdb.algorithms.table import Codes
from heliosdb.catalog.dataset_rows import ColumnReading
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.vector import Matrix, Vector
from heliosdb.scoring.images import decode_image

_COPY_HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
_COPY_TRAILER = struct.pack(">h", -1)

_DECODED_AT_ONCE = 1 << 22

_ARRAY_HEAD = 20
"""Bytes before the elements of an array of one dimension: dimensions, NULLs, type, length, lower bound."""

Field = Literal["number", "hash"] | int
"""A field of a row: a float8; an int8, whose bits are kept as a number's; so many float8, an array."""


def fields_of(columns: Sequence[ColumnReading]) -> list[Field]:
    """Return of which fields a row is whose columns are read so; images are decoded."""
    found: list[Field] = []
    for column in columns:
        found.append("hash" if column.is_hashed else "number")
        if column.width > 1:
            found.append(column.width - 1)
    return found


def parse_copy(
    copied: bytes | bytearray, columns: int, codes: int, hashed: Sequence[bool] = ()
) -> tuple[Matrix, Codes]:
    """Read binary COPY of numbers and hashes: (rows, columns) float64 and (rows, codes) int64.

    hashed: which columns are integers, whose bits are kept.
    """
    fields: list[Field] = ["hash" if hashed and hashed[i] else "number" for i in range(columns)]
    blocks = list(parse_blocks([bytearray(copied)], fields, codes))
    return np.concatenate([one for one, _ in blocks]), np.concatenate([one for _, one in blocks])


def parse_blocks(
    chunks: Iterable[bytearray], fields: Sequence[Field], codes: int
) -> Iterator[tuple[Matrix, Codes]]:
    """Yield the rows of a binary COPY as its chunks come, cut anywhere: at least one block, as `parse_copy`;
    ValueError for what is none."""
    row = _row_type(fields, codes)
    rest, begun = bytearray(), False
    for chunk in chunks:
        rest += chunk
        if not begun:
            if len(rest) < len(_COPY_HEADER):
                continue
            if not rest.startswith(_COPY_HEADER):
                raise _no_rows()
            del rest[: len(_COPY_HEADER)]
            begun = True
        # What may be the trailer stays.
        whole = max(0, len(rest) - len(_COPY_TRAILER)) // row.itemsize * row.itemsize
        if whole:
            yield _parse_rows(bytes(memoryview(rest)[:whole]), row, fields, codes)
            del rest[:whole]
    if not begun or rest != _COPY_TRAILER:
        raise _no_rows()
    yield np.empty((0, _width(fields))), np.empty((0, codes), dtype=np.int64)


def _no_rows() -> ValueError:
    return ValueError("not a binary COPY of such rows")


def _width(fields: Sequence[Field]) -> int:
    return sum(one if isinstance(one, int) else 1 for one in fields)


def _elements_type(count: int) -> np.dtype[Any]:
    element = np.dtype([("size", ">i4"), ("value", ">f8")])
    return np.dtype([("head", f"V{_ARRAY_HEAD}"), ("elements", element, (count,))])


def _row_type(fields: Sequence[Field], codes: int) -> np.dtype[Any]:
    simple = {"number": ">f8", "hash": ">i8"}
    kinds: list[Any] = [_elements_type(one) if isinstance(one, int) else simple[one] for one in fields]
    kinds += [">i8"] * codes
    return np.dtype(
        [("fields", ">i2")]
        + [part for i, kind in enumerate(kinds) for part in ((f"size{i}", ">i4"), (f"value{i}", kind))]
    )


def _parse_rows(body: bytes, row: np.dtype[Any], fields: Sequence[Field], codes: int) -> tuple[Matrix, Codes]:
    rows, count = np.frombuffer(body, dtype=row), len(fields) + codes
    sizes = [row[f"value{i}"].itemsize for i in range(count)]
    if not (rows["fields"] == count).all() or not all(
        (rows[f"size{i}"] == size).all() for i, size in enumerate(sizes)
    ):
        raise _no_rows()
    values, found = np.empty((len(rows), _width(fields))), np.empty((len(rows), codes), dtype=np.int64)
    bits, start = values.view(np.int64), 0
    for i, field in enumerate(fields):
        if isinstance(field, int):
            elements = rows[f"value{i}"]["elements"]
            if not (elements["size"] == 8).all():
                raise _no_rows()
            values[:, start : start + field] = elements["value"]
            start += field
        else:
            (bits if field == "hash" else values)[:, start] = rows[f"value{i}"]
            start += 1
    for i in range(codes):
        found[:, i] = rows[f"value{len(fields) + i}"]
    return values, found


def decode_images(
    chunks: Iterable[bytearray], columns: Sequence[ColumnReading], codes: int
) -> Iterable[bytearray]:
    """Return chunks of which rows are of one width: in the place of an image its number of pixels, and these
    as an array; what an array is, is left as it is."""
    if not any(column.kind is ColumnKind.IMAGE for column in columns):
        return chunks
    return _decoded(chunks, _pieces(columns, codes))


def _pieces(columns: Sequence[ColumnReading], codes: int) -> list[int | ColumnReading]:
    """Return what a row is of: so many bytes that stay as they are, or an image."""
    found: list[int | ColumnReading] = [0]
    for column in columns:
        if column.kind is ColumnKind.IMAGE:
            found += [column, 0]
            continue
        assert isinstance(found[-1], int)
        found[-1] += 12 + (4 + _elements_type(column.elements).itemsize if column.width > 1 else 0)
    assert isinstance(found[-1], int)
    found[-1] += 12 * codes
    return found


def _decoded(chunks: Iterable[bytearray], pieces: Sequence[int | ColumnReading]) -> Iterator[bytearray]:
    rest, begun = bytearray(), False
    for chunk in chunks:
        rest += chunk
        if not begun and len(rest) >= len(_COPY_HEADER):
            begun = True
            yield rest[: len(_COPY_HEADER)]
            del rest[: len(_COPY_HEADER)]
        place, made = 0, bytearray()
        while begun and (row := _decode_row(rest, place, pieces)) is not None:
            place = row[0]
            made += row[1]
            # A few hundred bytes may hold tens of thousands of pixels.
            if len(made) >= _DECODED_AT_ONCE:
                yield made
                made = bytearray()
        del rest[:place]
        yield made
    yield rest


def _decode_row(
    rest: bytearray, place: int, pieces: Sequence[int | ColumnReading]
) -> tuple[int, bytearray] | None:
    """Return where the next row begins, and this one with its images decoded; None where it is not whole, or
    none."""
    if len(rest) < place + 2 or rest.startswith(_COPY_TRAILER, place):
        return None
    (count,) = struct.unpack_from(">h", rest, place)
    made = bytearray(struct.pack(">h", count + sum(isinstance(one, ColumnReading) for one in pieces)))
    place += 2
    for piece in pieces:
        if isinstance(piece, int):
            if len(rest) < place + piece:
                return None
            made += rest[place : place + piece]
            place += piece
            continue
        if len(rest) < place + 4:
            return None
        (size,) = struct.unpack_from(">i", rest, place)
        place += 4
        if len(rest) < place + max(size, 0):
            return None
        given = None if size < 0 else bytes(rest[place : place + size])
        made += _written(*read_image(given, piece.shape))
        place += max(size, 0)
    return place, made


def read_image(given: bytes | None, shape: Sequence[int]) -> tuple[float, Vector]:
    """Return how many pixels there are and these; NaN where there is no image, -1 where it is none of that
    shape. FederatedError NOT_SUPPORTED where nothing decodes it."""
    count = int(np.prod(shape))
    if given is None:
        return np.nan, np.full(count, np.nan)
    try:
        return float(count), decode_image(given, shape)
    except FederatedError as error:
        if error.code is not ErrorCode.INVALID_VALUE:
            raise
        return -1.0, np.full(count, np.nan)


def _written(length: float, pixels: Vector) -> bytes:
    made = np.zeros((), dtype=_elements_type(pixels.size))
    made["elements"]["size"], made["elements"]["value"] = 8, pixels
    return struct.pack(">idi", 8, length, made.nbytes) + made.tobytes()
