"""Rows of a binary COPY: numbers, codes, arrays, and images as bytes, whatever chunks they come in."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from heliosdb.catalog.dataset_rows import ColumnReading
from heliosdb.domain.encoding import ColumnKind
from heliosdb.node.copied_rows import decode_images, fields_of, parse_blocks
from tests.support.images import as_file, grey

AGE = ColumnReading("age", 701, ColumnKind.NUMBER)
SCAN = ColumnReading("scan", 17, ColumnKind.IMAGE, 6, (1, 2, 3))
VALUES = ColumnReading("values", 1022, ColumnKind.ARRAY, 2)
PIXELS = grey(2, 3)

HEADER = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
NUMBER = struct.Struct(">id")


def field(raw: bytes | None) -> bytes:
    return struct.pack(">i", -1) if raw is None else struct.pack(">i", len(raw)) + raw


def row(age: float, scan: bytes | None, values: tuple[float, ...], code: int) -> bytes:
    array = struct.pack(">iiiii", 1, 0, 701, len(values), 1)
    array += b"".join(NUMBER.pack(8, one) for one in values)
    fields = (NUMBER.pack(8, age), field(scan), NUMBER.pack(8, len(values)), field(array))
    return struct.pack(">h", 5) + b"".join(fields) + struct.pack(">iq", 8, code)


def chunks(raw: bytes, size: int) -> Iterator[bytearray]:
    for start in range(0, len(raw), size):
        yield bytearray(raw[start : start + size])


ROWS = [
    row(1.5, as_file(PIXELS), (7.0, np.nan), 11),
    row(2.5, None, (8.0, 9.0), 12),
    row(3.5, b"no image", (1.0, 2.0), 13),
    row(4.5, as_file(grey(3, 2)), (1.0, 2.0), 14),
    row(5.5, b"", (1.0, 2.0), -1),
]


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_an_image_becomes_its_pixels_and_what_is_none_is_counted_out(size: int) -> None:
    columns = [AGE, SCAN, VALUES]
    copied = chunks(HEADER + b"".join(ROWS) + struct.pack(">h", -1), size)
    blocks = list(parse_blocks(decode_images(copied, columns, 1), fields_of(columns), 1))
    values, codes = np.concatenate([one for one, _ in blocks]), np.concatenate([one for _, one in blocks])
    assert values[:, 0].tolist() == [1.5, 2.5, 3.5, 4.5, 5.5]
    np.testing.assert_array_equal(values[:, 1], [6.0, np.nan, -1.0, -1.0, -1.0])
    np.testing.assert_allclose(values[0, 2:8], PIXELS.ravel() / 255)
    assert np.isnan(values[1:, 2:8]).all()
    assert values[:, 8].tolist() == [2.0] * 5
    np.testing.assert_array_equal(values[:2, 9:], [[7.0, np.nan], [8.0, 9.0]])
    assert codes.ravel().tolist() == [11, 12, 13, 14, -1]


def test_what_ends_within_a_row_or_lacks_a_field_is_no_copy() -> None:
    columns = [AGE, SCAN, VALUES]
    whole = HEADER + b"".join(ROWS) + struct.pack(">h", -1)
    short = struct.pack(">h", 4) + ROWS[0][2:]
    for raw in (whole[:-30], whole[:-2], HEADER + short + struct.pack(">h", -1), b"none", whole + b"\0"):
        with pytest.raises(ValueError, match="not a binary COPY"):
            list(parse_blocks(decode_images(chunks(raw, 64), columns, 1), fields_of(columns), 1))


def test_many_pixels_of_few_bytes_come_some_at_a_time() -> None:
    scan = ColumnReading("scan", 17, ColumnKind.IMAGE, 12_288, (3, 64, 64))
    one = as_file(np.zeros((64, 64, 3), dtype=np.uint8))
    body = (struct.pack(">h", 2) + field(one) + struct.pack(">iq", 8, 1)) * 200
    made = list(decode_images([bytearray(HEADER + body + struct.pack(">h", -1))], [scan], 1))
    assert max(map(len, made)) < 5 << 20
    assert sum(len(values) for values, _ in parse_blocks(made, fields_of([scan]), 1)) == 200
