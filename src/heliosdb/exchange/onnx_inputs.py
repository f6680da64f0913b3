"""Columns as the inputs of a model, as ONNX nodes: what `scoring.rows` does.

What always holds: an input that has no value is NaN; a category's NULL comes as `NULL_TEXT`.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from onnx import TensorProto

from heliosdb.domain.encoding import ColumnEncoding, ColumnKind
from heliosdb.domain.errors import not_supported
from heliosdb.exchange.onnx_nodes import ML_DOMAIN, Nodes
from heliosdb.exchange.portable import Portable, level_place

NULL_TEXT: Final = "\\N"
"""ONNX has no text that is missing: this stands for it, as in PostgreSQL's COPY."""

_LARGEST = 1.7976931348623157e308
_MISSING = -1


def add_inputs(nodes: Nodes, model: Portable) -> str:
    """Add one input of the graph for each column; return the model's inputs, (rows, inputs), of doubles."""
    parts = []
    for one in model.encoding.columns:
        known, is_level = _known(nodes, one, finite=not model.is_inlined)
        encoded = _encoded(nodes, one, known, is_level)
        parts.append(encoded)
        if one.missing_indicator:
            source = encoded if one.form == "log1p" else known
            parts.append(_missing(nodes, source))
    return nodes.add("Concat", *parts, axis=1)


def _known(nodes: Nodes, one: ColumnEncoding, *, finite: bool) -> tuple[str, bool]:
    """Return the column's values, (rows, elements), NaN where they are missing; of a category the levels'
    indices, and True."""
    if one.kind is ColumnKind.CATEGORY:
        return _levels(nodes, one), True
    if one.kind.is_several:
        value = nodes.take(one.column, TensorProto.DOUBLE, one.elements)
    else:
        value = nodes.as_column(nodes.take(one.column, TensorProto.DOUBLE))
    if finite or one.form == "bins":
        bound = nodes.constant(_LARGEST)
        within = nodes.add("LessOrEqual", nodes.add("Abs", value), bound)
        value = nodes.add("Where", within, value, nodes.constant(math.nan))
    return value, False


def _levels(nodes: Nodes, one: ColumnEncoding) -> str:
    if NULL_TEXT in one.levels:
        raise not_supported(
            f'feature "{one.column}" has a level "{NULL_TEXT}", which stands for NULL in an ONNX file'
        )
    absent, other = level_place(one)
    places = [*range(len(one.levels)), _MISSING if absent is None else int(absent)]
    text = nodes.take(one.column, TensorProto.STRING)
    index = nodes.add(
        "LabelEncoder", text, domain=ML_DOMAIN,
        keys_strings=[*one.levels, NULL_TEXT], values_int64s=places,
        default_int64=_MISSING if other is None else int(other),
    )  # fmt: skip
    missing = nodes.add("Equal", index, nodes.constant(_MISSING, np.int64))
    known = nodes.add("Where", missing, nodes.constant(math.nan), nodes.as_double(index))
    return nodes.as_column(known)


def _encoded(nodes: Nodes, one: ColumnEncoding, known: str, is_level: bool) -> str:
    match one.form:
        case "log1p":
            above = nodes.add("Greater", known, nodes.constant(-1.0))
            safe = nodes.add("Where", above, known, nodes.constant(0.0))
            logged = nodes.add("Log", nodes.add("Add", safe, nodes.constant(1.0)))
            return nodes.add("Where", above, logged, nodes.constant(math.nan))
        case "bins":
            return _flags(nodes, known, nodes.add("Greater", known, nodes.constant([list(one.edges)])))
        case "indicators":
            levels = nodes.constant([list(range(1, len(one.level_names)))], np.int64)
            place = nodes.add("Where", nodes.add("IsNaN", known), nodes.constant(0.0), known)
            index = nodes.add("Cast", place, to=TensorProto.INT64)
            return _flags(nodes, known, nodes.add("Equal", index, levels))
        case _:
            del is_level
            return known


def _flags(nodes: Nodes, known: str, condition: str) -> str:
    """1 where a condition is met, else 0; NaN where nothing is known."""
    flags = nodes.as_double(condition)
    return nodes.add("Where", nodes.add("IsNaN", known), nodes.constant(math.nan), flags)


def _missing(nodes: Nodes, known: str) -> str:
    """1 where no value of a row is known, else 0; (rows, 1)."""
    missing = nodes.as_double(nodes.add("IsNaN", known))
    return nodes.add("ReduceMin", missing, nodes.constant([1], np.int64), keepdims=1)
