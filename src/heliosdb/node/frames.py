"""What the daemon and its training process say to each other: frames of byte parts over pipes. Never pickle.

What always holds: a frame is a count of parts, their sizes, their bytes; the first part is JSON. The two
trust each other no further than this: a training process that was taken over can send numbers and text,
nothing else.
"""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import (
    AlreadyPrivate,
    ClippedSum,
    Contribution,
    Guard,
    Plain,
    vector_from_bytes,
    vector_to_bytes,
)
from heliosdb.node.datasets import TableRequest

Parts = list[bytes]
_MAX_PARTS = 4
_MAX_PART_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """One computation: the table, whose connection, and the task (header bytes, parameter bytes)."""

    number: int
    reader: str
    table: TableRequest
    header: bytes
    parameters: bytes

    def to_parts(self) -> Parts:
        """The frame's parts."""
        table = {**asdict(self.table), "held_out_key": self.table.held_out_key.hex()}
        control = {"number": self.number, "reader": self.reader, "table": table}
        return [json.dumps(control).encode(), self.header, self.parameters]

    @classmethod
    def from_parts(cls, parts: Parts) -> TrainingRequest:
        """Read a frame's parts."""
        control_part, header, parameters = parts
        control = json.loads(control_part)
        table = control["table"]
        table["held_out_key"] = bytes.fromhex(table["held_out_key"])
        table["dataset"] = DatasetName(table["dataset"])
        table["features"] = tuple(table["features"])
        return cls(control["number"], control["reader"], TableRequest(**table), header, parameters)


@dataclass(frozen=True, slots=True)
class TrainingAnswer:
    """What a computation gave: a contribution that has not passed the release door, or an error."""

    number: int
    outcome: Contribution | FederatedError

    def to_parts(self) -> Parts:
        """The frame's parts."""
        if isinstance(self.outcome, FederatedError):
            error = self.outcome
            told = {
                "code": error.code.name,
                "message": error.message,
                "detail": error.detail,
                "hint": error.hint,
            }
            return [json.dumps({"number": self.number, "error": told}).encode(), b""]
        control = {
            "number": self.number,
            "weight": self.outcome.weight,
            "guard": _guard_to_json(self.outcome.guard),
            "usage": None if self.outcome.usage is None else asdict(self.outcome.usage),
        }
        return [json.dumps(control).encode(), vector_to_bytes(self.outcome.vector)]

    @classmethod
    def from_parts(cls, parts: Parts) -> TrainingAnswer:
        """Read a frame's parts."""
        control_part, vector = parts
        control = json.loads(control_part)
        if (told := control.get("error")) is not None:
            code = ErrorCode[told["code"]]
            return cls(
                control["number"],
                FederatedError(code, told["message"], detail=told["detail"], hint=told["hint"]),
            )
        usage = control["usage"]
        contribution = Contribution(
            vector_from_bytes(vector),
            control["weight"],
            _guard_from_json(control["guard"]),
            None if usage is None else Usage(**{name: float(value) for name, value in usage.items()}),
        )
        return cls(control["number"], contribution)


def _guard_to_json(guard: Guard) -> dict[str, Any]:
    match guard:
        case Plain():
            return {"kind": "plain"}
        case ClippedSum():
            return {
                "kind": "clipped_sum",
                "sensitivity": guard.sensitivity,
                "mechanism": asdict(guard.mechanism),
            }
        case AlreadyPrivate():
            return {"kind": "already_private", "mechanism": asdict(guard.mechanism)}


def _guard_from_json(guard: dict[str, Any]) -> Guard:
    match guard["kind"]:
        case "plain":
            return Plain()
        case "clipped_sum":
            return ClippedSum(guard["sensitivity"], Mechanism(**guard["mechanism"]))
        case "already_private":
            return AlreadyPrivate(Mechanism(**guard["mechanism"]))
        case _:
            raise ValueError("unknown guard")


def frame_head(parts: Parts) -> bytes:
    """The bytes in front of the parts."""
    return struct.pack("<I", len(parts)) + b"".join(struct.pack("<Q", len(part)) for part in parts)


def write_frame(stream: BinaryIO, parts: Parts) -> None:
    """Write a frame to a blocking stream."""
    stream.write(frame_head(parts))
    for part in parts:
        stream.write(part)
    stream.flush()


def read_frame(stream: BinaryIO) -> Parts | None:
    """Read a frame from a blocking stream; None at its end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    count = _checked_count(head)
    sizes = _checked_sizes(stream.read(8 * count), count)
    return [stream.read(size) for size in sizes]


async def read_frame_async(reader: asyncio.StreamReader) -> Parts:
    """Read a frame; asyncio.IncompleteReadError at the stream's end, ValueError for what is no frame."""
    count = _checked_count(await reader.readexactly(4))
    sizes = _checked_sizes(await reader.readexactly(8 * count), count)
    return [await reader.readexactly(size) for size in sizes]


def _checked_count(raw: bytes) -> int:
    (count,) = struct.unpack("<I", raw)
    if not 0 < count <= _MAX_PARTS:
        raise ValueError("not a frame")
    return int(count)


def _checked_sizes(raw: bytes, count: int) -> tuple[int, ...]:
    sizes = struct.unpack(f"<{count}Q", raw)
    if any(size > _MAX_PART_BYTES for size in sizes):
        raise ValueError("not a frame")
    return sizes
