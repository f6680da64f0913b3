"""The protocol's messages as JSON.

What always holds: a member that has no effect here is an error and not left out; NaN and infinities are no
numbers of JSON, and what is missing is null.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from pydantic_core import from_json

from heliosdb.api.problems import Problem
from heliosdb.api.serving.tensors import (
    TEXT,
    InferenceAnswer,
    InferenceRequest,
    Numbers,
    Tensor,
    TensorMetadata,
    Texts,
    check_finite,
    check_range,
    check_shape,
    check_text,
    find_datatype,
    misfit,
)

LONGEST_ID = 1_000

_REALS: frozenset[type] = frozenset((int, float, type(None)))
_WHOLE: frozenset[type] = frozenset((int, type(None)))
_FLAGS: frozenset[type] = frozenset((bool, type(None)))
_TEXTS: frozenset[type] = frozenset((str, type(None)))
_REQUEST = frozenset(("id", "parameters", "inputs", "outputs"))
_INPUT = frozenset(("name", "shape", "datatype", "parameters", "data"))
_OUTPUT = frozenset(("name", "parameters"))


def request_from_json(body: bytes) -> InferenceRequest:
    """Read a request; a Problem 400 for what is no JSON, 422 for what is none of the protocol's."""
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise Problem(400, "The body is not JSON.", sqlstate="22032") from None
    message = _members("The body", given, _REQUEST)
    inputs, outputs, name = message.get("inputs"), message.get("outputs", []), message.get("id", "")
    if not isinstance(name, str) or len(name) > LONGEST_ID:
        raise misfit(f"id is a text of at most {LONGEST_ID} characters.")
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise misfit("inputs and outputs are lists.")
    return InferenceRequest(
        tuple(map(_tensor, inputs)),
        tuple(_name("An output", _members("An output", one, _OUTPUT)) for one in outputs),
        name,
    )


def _members(what: str, given: Any, known: frozenset[str]) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise misfit(f"{what} is a JSON object.")
    if not given.keys() <= known:
        unknown = min(given.keys() - known)
        raise misfit(f'{what} has no member "{unknown}".')
    if given.get("parameters"):
        raise misfit(f"{what} has parameters, of which this server knows none.")
    return given


def _name(what: str, given: Mapping[str, Any]) -> str:
    name = given.get("name")
    if not isinstance(name, str):
        raise misfit(f"{what} has a name.")
    return name


def _tensor(given: Any) -> Tensor:
    members = _members("An input", given, _INPUT)
    name = _name("An input", members)
    datatype, shape, data = members.get("datatype"), members.get("shape"), members.get("data")
    if not isinstance(datatype, str):
        raise misfit(f'Input "{name}" has a datatype.')
    if not isinstance(shape, list) or not all(type(one) is int for one in shape):
        raise misfit(f'Input "{name}" has a shape, a list of whole numbers.')
    if not isinstance(data, list):
        raise misfit(f'Input "{name}" has data, a list.')
    find_datatype(name, datatype)
    flat = _flatten(data)
    checked = check_shape(name, shape, len(flat))
    return Tensor(name, datatype, checked, _values(name, datatype, flat))


def _flatten(data: list[Any]) -> list[Any]:
    """Elements in row-major order: nested lists are their shape's business."""
    while data and isinstance(data[0], list):
        if not all(isinstance(one, list) for one in data):
            break
        data = list(chain.from_iterable(data))
    return data


def _values(name: str, datatype: str, flat: list[Any]) -> Numbers | Texts:
    kinds = frozenset(map(type, flat))
    if datatype == TEXT:
        _check_kinds(name, datatype, kinds, _TEXTS)
        return check_text(name, flat)
    allowed = _FLAGS if datatype == "BOOL" else _REALS if datatype.startswith("FP") else _WHOLE
    _check_kinds(name, datatype, kinds, allowed)
    check_range(name, datatype, flat)
    try:
        values = _numbers(flat, has_null=type(None) in kinds)
    except (OverflowError, struct.error):
        raise misfit(f'Input "{name}" has a number that is out of range.') from None
    if datatype == "FP32":
        with np.errstate(over="ignore"):
            values = values.astype(np.float32).astype(np.float64)
    return check_finite(name, values)


def _numbers(flat: list[Any], *, has_null: bool) -> Numbers:
    """float64 of numbers and flags; null becomes NaN."""
    if has_null:
        return np.array(flat, dtype=np.float64)
    # Twice as quick.
    return np.frombuffer(struct.pack(f"={len(flat)}d", *flat), np.float64)


def _check_kinds(name: str, datatype: str, kinds: frozenset[type], allowed: frozenset[type]) -> None:
    if not kinds <= allowed:
        raise misfit(f'The elements of input "{name}" are not all {datatype} or null.')


def answer_to_json(answer: InferenceAnswer, name: str) -> dict[str, Any]:
    """The answer; name: the request's id."""
    outputs = [
        {
            "name": one.name,
            "datatype": one.datatype,
            "shape": list(one.shape),
            "data": one.values.tolist() if isinstance(one.values, np.ndarray) else list(one.values),
        }
        for one in answer.outputs
    ]
    told: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if name:
        told["id"] = name
    return {**told, "outputs": outputs}


def metadata_to_json(one: TensorMetadata) -> dict[str, Any]:
    """What a tensor is to be."""
    return {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
