"""An encoding on the wire: how a task's columns become inputs.

What always holds: what is read back is equal to what was written; levels ascend, edges ascend, names and
numbers are within the limits of transport/limits.py, and there is one entry for each feature, in their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import cast, get_args

from heliosdb.domain.bounds import LOCATION
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding, Form
from heliosdb.domain.transforms import HASHED
from heliosdb.transport import federation_pb2 as pb
from heliosdb.transport import limits
from heliosdb.transport.checks import read_within, require

_LARGEST_KEPT = 1 << 16
"""Bytes of an encoding that is kept as it was read."""


def encoding_to_proto(encoding: Encoding) -> pb.Encoding:
    """An encoding for the wire."""
    return pb.Encoding(columns=map(_column_to_proto, encoding.columns), classes=encoding.classes)


def encoding_from_proto(encoding: pb.Encoding, features: Sequence[str]) -> Encoding:
    """An encoding from the wire; FederatedError INVALID_VALUE for one that is none of these features."""
    # Each task of a run brings the same one.
    raw = encoding.SerializeToString()
    if len(raw) > _LARGEST_KEPT:
        return _read(encoding, features)
    return _read_once(raw, tuple(features))


@lru_cache(maxsize=64)
def _read_once(raw: bytes, features: tuple[str, ...]) -> Encoding:
    return _read(pb.Encoding.FromString(raw), features)


def _read(encoding: pb.Encoding, features: Sequence[str]) -> Encoding:
    columns = tuple(map(_column_from_proto, encoding.columns))
    require(tuple(one.column for one in columns) == tuple(features), "encoding and features differ")
    classes = tuple(encoding.classes)
    fits = len(classes) != 1 and len(classes) <= limits.MAX_CLASSES
    require(fits and len(set(classes)) == len(classes), "the classes of the encoding are none")
    require(all(map(_is_level, classes)), "the name of a class is too long, or holds a NUL")
    found = Encoding(columns, classes)
    require(0 < len(found.inputs) <= limits.MAX_INPUTS, "the number of inputs is out of range")
    return found


def _column_to_proto(column: ColumnEncoding) -> pb.ColumnEncoding:
    return pb.ColumnEncoding(
        column=column.column,
        kind=column.kind,
        form=column.form,
        levels=column.levels,
        null_level=column.null_level,
        other_level=column.other_level,
        edges=column.edges,
        elements=column.elements,
        missing_indicator=column.missing_indicator,
        scaled=column.scaled,
        shape=column.shape,
    )


def _column_from_proto(column: pb.ColumnEncoding) -> ColumnEncoding:
    require(column.kind in set(ColumnKind), "an encoding's kind is none")
    require(column.form in get_args(Form), "an encoding's form is none")
    require(len(column.levels) <= limits.MAX_LEVELS, "a column has too many levels")
    require(all(map(_is_level, column.levels)), "the name of a level is too long, or holds a NUL")
    require(_rises([level.encode() for level in column.levels]), "the levels of a column are in no order")
    require(len(column.edges) <= limits.MAX_EDGES, "a column has too many bins")
    edges = tuple(read_within("an edge", edge, LOCATION) for edge in column.edges)
    require(_rises(edges), "the edges of a column are in no order")
    kind, shape = ColumnKind(column.kind), tuple(column.shape)
    most = HASHED.most if kind is ColumnKind.TEXT else limits.MAX_INPUTS
    require(0 < column.elements <= most, "the number of a column's elements is out of range")
    is_image = len(shape) == 3 and math.prod(shape) == column.elements
    fits = is_image and kind.is_several if shape else kind is not ColumnKind.IMAGE
    require(fits, "the shape of a column is none of an image")
    return ColumnEncoding(
        column.column,
        kind,
        cast(Form, column.form),
        tuple(column.levels),
        column.null_level,
        column.other_level,
        edges,
        column.elements,
        column.missing_indicator,
        column.scaled,
        shape,
    )


def _is_level(name: str) -> bool:
    return len(name.encode()) <= limits.MAX_LEVEL_BYTES and "\0" not in name


def _rises(values: Sequence[bytes] | Sequence[float]) -> bool:
    return all(one < other for one, other in pairwise(values))  # type: ignore[operator]
