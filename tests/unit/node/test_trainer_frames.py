"""Frames between daemon and training process: exact, bounded, and never code."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import freeze, state_to_bytes
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution, Dtype, Guard, Plain
from heliosdb.node.datasets import TableRequest
from heliosdb.node.frames import (
    ComputeAnswer,
    Computed,
    ComputeRequest,
    frame_pieces,
    read_frame,
    read_frame_async,
    write_frame,
)

REQUEST = ComputeRequest(
    3,
    "dbname=x",
    TableRequest(
        "f00d",
        1,
        DatasetName("d"),
        (7, 8),
        ("a", "b"),
        "y",
        0.1,
        None,
        ("id", "day"),
        b"k" * 32,
        True,
        20,
        1 / 3,
    ),
    b"header",
    b"state",
    b"",
    [b"one", b""],
)


def test_a_request_survives_the_pipe() -> None:
    pipe = io.BytesIO()
    write_frame(pipe, REQUEST.to_parts())
    pipe.seek(0)
    parts = read_frame(pipe)
    assert parts is not None
    assert ComputeRequest.from_parts(parts) == REQUEST
    assert read_frame(pipe) is None


@pytest.mark.parametrize(
    "guard", [Plain(), ClippedSum(0.1, Mechanism(1 / 3)), AlreadyPrivate(Mechanism(2.0, 0.01, 7))]
)
def test_a_contribution_survives_the_pipe_bit_for_bit(guard: Guard) -> None:
    usage = Usage(1 / 3, 0.1, 2.0**40)
    contribution = Contribution(np.array([1 / 3, -0.0, 5e-324]), 0.1, guard, usage)
    for row_set in (None, b"rows"):
        answer = ComputeAnswer.from_parts(ComputeAnswer(4, Computed(contribution, row_set)).to_parts())
        assert isinstance(answer.outcome, Computed)
        made = answer.outcome.contribution
        assert made.vector.tobytes() == contribution.vector.tobytes()
        assert (answer.number, made.weight, made.guard, made.usage) == (4, 0.1, guard, usage)
        assert answer.outcome.row_set == row_set


@pytest.mark.parametrize("row_set", [None, b"rows"])
@pytest.mark.parametrize("stays", [None, {}, {"a": np.arange(3), "b": np.ones((2, 2), dtype=np.float32)}])
@pytest.mark.parametrize("dtype", list(Dtype))
def test_a_vector_of_any_type_and_what_stays_survive_the_pipe(
    dtype: Dtype, stays: dict[str, np.ndarray] | None, row_set: bytes | None
) -> None:
    vector = np.array([0, 1, 255], dtype=dtype.value)
    kept = None if stays is None else freeze(stays)
    sent = Computed(Contribution(vector, 1.0, Plain(), stays=kept), row_set)
    heard = ComputeAnswer.from_parts(ComputeAnswer(4, sent).to_parts()).outcome
    assert isinstance(heard, Computed)
    assert heard.contribution.vector.dtype.name == dtype.value
    assert heard.contribution.vector.tobytes() == vector.tobytes()
    assert heard.row_set == row_set
    if kept is None:
        assert heard.contribution.stays is None
    else:
        assert heard.contribution.stays is not None
        assert state_to_bytes(heard.contribution.stays) == state_to_bytes(kept)


@pytest.mark.parametrize("changed", [{"dtype": "object"}, {"dtype": "int64"}, {"stays": True}])
def test_an_answer_of_what_is_no_vector_or_no_state_is_an_error(changed: dict[str, object]) -> None:
    sent = Computed(Contribution(np.array([1.0]), 1.0, Plain()), b"no state")
    control, *rest = ComputeAnswer(4, sent).to_parts()
    told = json.dumps(json.loads(control) | changed).encode()
    with pytest.raises((ValueError, FederatedError)):
        ComputeAnswer.from_parts([told, *rest])


def test_a_request_without_row_sets_and_an_answer_that_wants_them_survive_the_pipe() -> None:
    request = replace(REQUEST, row_sets=None)
    assert ComputeRequest.from_parts(request.to_parts()) == request
    assert ComputeAnswer.from_parts(ComputeAnswer(5, None).to_parts()) == ComputeAnswer(5, None)


def test_an_error_survives_the_pipe() -> None:
    error = FederatedError(ErrorCode.NOT_SUPPORTED, "m", detail="d", hint="h")
    outcome = ComputeAnswer.from_parts(ComputeAnswer(4, error).to_parts()).outcome
    assert isinstance(outcome, FederatedError)
    assert (outcome.code, outcome.message, outcome.detail, outcome.hint) == (error.code, "m", "d", "h")


@pytest.mark.parametrize("raw", [struct.pack("<I", 0), struct.pack("<I", 72), struct.pack("<IQ", 1, 2**40)])
async def test_what_is_no_frame_is_an_error(raw: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    with pytest.raises(ValueError, match="not a frame"):
        await read_frame_async(reader)


@pytest.mark.parametrize("cut", [0, 2, 4, 9, 30])
def test_a_training_process_ends_with_its_pipe_even_within_a_frame(cut: int) -> None:
    parts = REQUEST.to_parts()
    raw = b"".join(frame_pieces(parts))
    command = [sys.executable, "-m", "heliosdb.node.training_process"]
    ended = subprocess.run(command, input=raw[:cut], capture_output=True, timeout=60, check=False)
    # It may have had the time to say what is in force.
    assert ended.returncode == 0
    assert b"number" not in ended.stdout


async def test_a_frame_cut_short_is_an_error() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"".join(frame_pieces([b"abc"]))[:-1])
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await read_frame_async(reader)
