"""The Open Inference Protocol's messages: both ways to write a tensor are one, and what does not fit is said."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from heliosdb.api.problems import Problem
from heliosdb.api.serving.grpc_messages import answer_to_proto, request_from_proto
from heliosdb.api.serving.rest_messages import answer_to_json, request_from_json
from heliosdb.api.serving.tensors import InferenceAnswer, Tensor
from heliosdb.transport import inference_pb2 as pb

TYPED: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-7, 7]),
    "INT32": ("int_contents", [-(2**31), 5]),
    "INT64": ("int64_contents", [-(2**40), 2**40]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [1, 65_535]),
    "UINT32": ("uint_contents", [1, 2**32 - 1]),
    "UINT64": ("uint64_contents", [1, 2**40]),
    "FP32": ("fp32_contents", [0.5, -0.25]),
    "FP64": ("fp64_contents", [0.1, float("nan")]),
    "BYTES": ("bytes_contents", ["a", "Ω"]),
}
CODES = dict(zip(TYPED, "?bhiqBHIQfd", strict=False))


def message(datatype: str, raw: bytes | None = None, count: int = 2, **contents: Any) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m", id="7")
    made.inputs.add(
        name="x",
        datatype=datatype,
        shape=[count],
        contents=pb.InferTensorContents(**contents) if contents else None,
    )
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def as_bytes(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in values)
    return struct.pack(f"<{len(values)}{CODES[datatype]}", *values)


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_and_raw_contents_and_json_are_one_tensor(datatype: str) -> None:
    field, values = TYPED[datatype]
    contents = [one.encode() if isinstance(one, str) else one for one in values]
    given = [None if one != one else one for one in values]
    body = {"id": "7", "inputs": [{"name": "x", "datatype": datatype, "shape": [2], "data": given}]}
    found = [
        request_from_proto(message(datatype, **{field: contents})),
        request_from_proto(message(datatype, as_bytes(datatype, values))),
        request_from_json(json.dumps(body).encode()),
    ]
    for request in found:
        [tensor] = request.inputs
        assert (request.id, tensor.name, tensor.datatype, tensor.shape) == ("7", "x", datatype, (2,))
        np.testing.assert_array_equal(tensor.values, values)


@pytest.mark.parametrize(
    "wrong",
    [
        message("FP64", bytes(15)),
        message("FP64", bytes(24)),
        message("FP64", bytes(16), fp64_contents=[1.0, 2.0]),
        message("FP64", fp32_contents=[1.0, 2.0]),
        message("FP64", fp64_contents=[1.0, float("inf")]),
        message("INT8", int_contents=[1, 200]),
        message("BOOL", b"\x01\x02"),
        message("BYTES", b"\x01\x00\x00\x00a\x09\x00\x00\x00b"),
        message("BYTES", b"\x01\x00"),
        message("BYTES", bytes_contents=[b"\xff", b"a"]),
        message("BYTES", bytes_contents=[b"\x00", b"a"]),
        message("FP16", bytes(4)),
        message("FP64", bytes(16), count=-2),
        pb.ModelInferRequest(raw_input_contents=[b""]),
        pb.ModelInferRequest(parameters={"priority": pb.InferParameter(int64_param=1)}),
    ],
)
def test_what_does_not_fit_is_refused(wrong: pb.ModelInferRequest) -> None:
    with pytest.raises(Problem) as caught:
        request_from_proto(wrong)
    assert (caught.value.status, caught.value.sqlstate) == (422, "22023")


@pytest.mark.parametrize(
    ("datatype", "given"),
    [
        ("INT64", 2**63),
        ("INT64", -(2**63) - 1),
        ("UINT64", 2**64),
        ("UINT64", -1),
        ("INT8", 128),
        ("UINT8", 10**400),
    ],
)
def test_an_integer_beyond_its_datatype_is_refused_however_a_float_rounds_it(
    datatype: str, given: int
) -> None:
    tensor = {"name": "age", "datatype": datatype, "shape": [2], "data": [None, given]}
    with pytest.raises(Problem, match=f"no {datatype}"):
        request_from_json(json.dumps({"inputs": [tensor]}).encode())


def test_answers_are_written_as_they_were_asked_for() -> None:
    answer = InferenceAnswer(
        "m",
        "3",
        (Tensor("score", "FP64", (2,), np.array([0.1, 0.2])), Tensor("class", "BYTES", (2,), ["a", "Ω"])),
    )
    raw, typed = (answer_to_proto(answer, "7", raw=one) for one in (True, False))
    assert list(raw.raw_output_contents) == [
        struct.pack("<2d", 0.1, 0.2),
        b"\x01\x00\x00\x00a\x02\x00\x00\x00\xce\xa9",
    ]
    assert list(typed.outputs[0].contents.fp64_contents) == [0.1, 0.2]
    assert list(typed.outputs[1].contents.bytes_contents) == [b"a", "Ω".encode()]
    assert answer_to_json(answer, "7") == {
        "model_name": "m", "model_version": "3", "id": "7",
        "outputs": [
            {"name": "score", "datatype": "FP64", "shape": [2], "data": [0.1, 0.2]},
            {"name": "class", "datatype": "BYTES", "shape": [2], "data": ["a", "Ω"]},
        ],
    }  # fmt: skip
