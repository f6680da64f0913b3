"""The protocol's messages as protobuf.

What always holds: a field that has no effect here is an error and not left out; bytes are as many as a
tensor's shape says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from heliosdb.api.serving.rest_messages import LONGEST_ID
from heliosdb.api.serving.tensors import (
    NUMBERS,
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
from heliosdb.transport import inference_pb2 as pb

_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    TEXT: "bytes_contents",
}
_LENGTH = 4
"""Bytes of the length before each text of a raw tensor."""


def request_from_proto(message: pb.ModelInferRequest) -> InferenceRequest:
    """Read a request; a Problem 422 for what does not fit the protocol."""
    parameters = [message.parameters, *(one.parameters for one in message.inputs)]
    if any((*parameters, *(one.parameters for one in message.outputs))):
        raise misfit("The request has parameters, of which this server knows none.")
    if len(message.id) > LONGEST_ID:
        raise misfit(f"id is a text of at most {LONGEST_ID} characters.")
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise misfit(f"There are {len(message.inputs)} inputs, and raw_input_contents of {len(raw)}.")
    inputs = tuple(_tensor(one, raw[place] if raw else None) for place, one in enumerate(message.inputs))
    return InferenceRequest(inputs, tuple(one.name for one in message.outputs), message.id)


def _tensor(given: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    name, datatype = given.name, find_datatype(given.name, given.datatype)
    if raw is not None and given.HasField("contents"):
        raise misfit(f'Input "{name}" has contents beside raw_input_contents.')
    values = _typed(given.contents, name, datatype) if raw is None else _raw(raw, name, datatype)
    shape = check_shape(name, tuple(given.shape), len(values))
    if isinstance(values, np.ndarray):
        return Tensor(name, datatype, shape, check_finite(name, values))
    return Tensor(name, datatype, shape, check_text(name, values))


def _typed(contents: pb.InferTensorContents, name: str, datatype: str) -> Numbers | Texts:
    field = _CONTENTS[datatype]
    if any(descriptor.name != field for descriptor, _ in contents.ListFields()):
        raise misfit(f'Input "{name}" of datatype {datatype} has its contents in {field}.')
    elements = getattr(contents, field)
    if datatype == TEXT:
        return [_text(name, one) for one in elements]
    check_range(name, datatype, elements)
    return np.fromiter(elements, np.float64, len(elements))


def _raw(raw: bytes, name: str, datatype: str) -> Numbers | Texts:
    if datatype == TEXT:
        return _raw_texts(raw, name)
    kind = np.dtype("<u1" if datatype == "BOOL" else NUMBERS[datatype])
    if len(raw) % kind.itemsize:
        raise misfit(f'The bytes of input "{name}" are not whole elements of {datatype}.')
    values = np.frombuffer(raw, kind)
    if datatype == "BOOL" and (values > 1).any():
        raise misfit(f'Input "{name}" has a byte that is no BOOL.')
    return values.astype(np.float64)


def _raw_texts(raw: bytes, name: str) -> Texts:
    texts: list[str | None] = []
    place = 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + _LENGTH], "little")
        place += _LENGTH + length
        if place > len(raw):
            raise misfit(f'The bytes of input "{name}" end within an element.')
        texts.append(_text(name, raw[place - length : place]))
    return texts


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise misfit(f'Input "{name}" has a text that is not UTF-8.') from None


def answer_to_proto(answer: InferenceAnswer, name: str, *, raw: bool) -> pb.ModelInferResponse:
    """The answer; name: the request's id. raw: whether tensors go as bytes."""
    told = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version, id=name)
    put: Callable[[Any, Any, Tensor], None] = _put_raw if raw else _put_typed
    for one in answer.outputs:
        put(told, told.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape), one)
    return told


def _put_raw(told: Any, _output: Any, one: Tensor) -> None:
    if isinstance(one.values, np.ndarray):
        told.raw_output_contents.append(one.values.astype("<f8", copy=False).tobytes())
    else:
        told.raw_output_contents.append(b"".join(map(_prefixed, _encoded(one.values))))


def _put_typed(_told: Any, output: Any, one: Tensor) -> None:
    if isinstance(one.values, np.ndarray):
        output.contents.fp64_contents.extend(one.values.tolist())
    else:
        output.contents.bytes_contents.extend(_encoded(one.values))


def _encoded(texts: Texts) -> Sequence[bytes]:
    return [(text or "").encode() for text in texts]


def _prefixed(text: bytes) -> bytes:
    return len(text).to_bytes(_LENGTH, "little") + text


def metadata_to_proto(one: TensorMetadata) -> pb.ModelMetadataResponse.TensorMetadata:
    """What a tensor is to be."""
    return pb.ModelMetadataResponse.TensorMetadata(name=one.name, datatype=one.datatype, shape=one.shape)
