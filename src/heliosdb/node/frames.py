"""What the daemon and its training process say to each other: frames of byte parts over pipes. Never pickle.

What always holds: a frame is a count of parts, their sizes, their bytes, all bounded before they are read;
the first part is JSON. The two trust each other no further than this: a training process that was taken
over can send numbers and text, nothing else.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, BinaryIO

import numpy as np

from heliosdb.algorithms.space import MEMORY, Space, as_bytes
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.folds import Fold
from heliosdb.domain.ids import DatasetName
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.state import state_from_bytes, state_to_bytes
from heliosdb.domain.usage import Usage
from heliosdb.domain.vector import (
    AlreadyPrivate,
    ClippedSum,
    Contribution,
    Dtype,
    Guard,
    Plain,
    vector_from_bytes,
    vector_to_bytes,
)
from heliosdb.node.admission import Admission
from heliosdb.node.allowance import Allowance
from heliosdb.node.datasets import TableRequest
from heliosdb.node.disclosure import MOST_ROW_SETS
from heliosdb.node.scratch import Scratch
from heliosdb.phi.kinds import Finding

Parts = list[bytes]
_FIXED_PARTS = 7
"""Control, header, state, memory, withdrawn, admitted, unexplained; behind them row sets."""

_TABLE_FIELDS = tuple(one.name for one in fields(TableRequest))
_MAX_PARTS = _FIXED_PARTS + MOST_ROW_SETS
_MAX_PART_BYTES = 512 * 1024 * 1024
_LARGE = 1 << 20


@dataclass(frozen=True, slots=True)
class ComputeRequest:
    """One computation: the table, whose connection, the task (header bytes, its state's bytes), and what
    the step kept of the run (a state's bytes; empty: nothing).

    row_sets: those that a plain table is compared with when it is read; None: it may not be read anew.
    allowance: what the computation may take.
    """

    number: int
    reader: str
    table: TableRequest
    header: bytes
    state: bytes
    memory: bytes = b""
    row_sets: Sequence[bytes] | None = None
    allowance: Allowance = field(default_factory=Allowance)

    def to_parts(self) -> Parts:
        """The frame's parts."""
        admission, fold = self.table.admission, self.table.fold
        # Field by field: asdict copies each of the names in it.
        table = {name: getattr(self.table, name) for name in _TABLE_FIELDS}
        table |= {"key": self.table.key.hex(), "fold": None if fold is None else asdict(fold)}
        # Bytes that may be many, and go as parts.
        table["admission"] = admission.admitted is not None
        sizes = None if self.row_sets is None else [len(one) for one in self.row_sets]
        control = {"number": self.number, "reader": self.reader, "table": table, "row_sets": sizes}
        control["allowance"] = asdict(self.allowance)
        left_out = (admission.withdrawn, admission.admitted or b"", admission.unexplained or b"")
        fixed = (json.dumps(control).encode(), self.header, self.state, self.memory, *left_out)
        return [*fixed, *(self.row_sets or ())]

    @classmethod
    def from_parts(cls, parts: Parts) -> ComputeRequest:
        """Read a frame's parts."""
        control_part, header, state, memory, withdrawn, admitted, unexplained, *row_sets = parts
        control = json.loads(control_part)
        table = control["table"]
        table["key"] = bytes.fromhex(table["key"])
        table["dataset"] = DatasetName(table["dataset"])
        for name in ("base_tables", "features", "classes", "known_by", "named", "elements", "hashed"):
            table[name] = tuple(table[name])
        for name in ("levels", "shapes"):
            table[name] = tuple(map(tuple, table[name]))
        table["fold"] = None if table["fold"] is None else Fold(**table["fold"])
        table["roles"] = tuple((role, column) for role, column in table["roles"])
        table["admission"] = Admission(withdrawn, admitted if table["admission"] else None, unexplained)
        given = None if control["row_sets"] is None else row_sets
        asked = (control["number"], control["reader"], TableRequest(**table), header, state, memory, given)
        return cls(*asked, Allowance(**control["allowance"]))


@dataclass(frozen=True, slots=True)
class Computed:
    """A contribution that has not passed the release door.

    row_set: what a plain table that was read anew is about. rows_read: keyed hash of the table. consenting:
    digest of who is in the dataset's consent_query; b"" where it has none. findings: what its values
    look like, for the node's DBA.
    """

    contribution: Contribution
    row_set: bytes | None = None
    rows_read: bytes = b""
    consenting: bytes = b""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class ComputeAnswer:
    """What a computation gave, or an error; None where a plain table is wanted that has to be compared
    first."""

    number: int
    outcome: Computed | FederatedError | None

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
            return [json.dumps({"number": self.number, "error": told}).encode()]
        if self.outcome is None:
            return [json.dumps({"number": self.number, "row_sets_wanted": True}).encode()]
        made, row_set = self.outcome.contribution, self.outcome.row_set
        control = {
            "number": self.number,
            "weight": made.weight,
            "guard": _guard_to_json(made.guard),
            "usage": None if made.usage is None else asdict(made.usage),
            "dtype": made.vector.dtype.name,
            "stays": made.stays is not None,
            "personal": made.personal is not None,
            "rows_read": self.outcome.rows_read.hex(),
            "findings": [one.to_json() for one in self.outcome.findings],
            "consenting": self.outcome.consenting.hex(),
        }
        stays = [state_to_bytes(one) for one in (made.stays, made.personal) if one is not None]
        rows = [] if row_set is None else [row_set]
        vector = vector_to_bytes(made.vector, Dtype(made.vector.dtype.name))
        return [json.dumps(control).encode(), vector, *stays, *rows]

    @classmethod
    def from_parts(cls, parts: Parts) -> ComputeAnswer:
        """Read a frame's parts; ValueError or FederatedError for what is no answer."""
        control_part, *rest = parts
        control = json.loads(control_part)
        if control.get("row_sets_wanted"):
            return cls(control["number"], None)
        if (told := control.get("error")) is not None:
            code = ErrorCode[told["code"]]
            return cls(
                control["number"],
                FederatedError(code, told["message"], detail=told["detail"], hint=told["hint"]),
            )
        vector, *row_sets = rest
        usage = control["usage"]
        contribution = Contribution(
            vector_from_bytes(vector, Dtype(control["dtype"])),
            float(control["weight"]),
            _guard_from_json(control["guard"]),
            None if usage is None else Usage(**{name: float(value) for name, value in usage.items()}),
            state_from_bytes(row_sets.pop(0)) if control["stays"] else None,
            state_from_bytes(row_sets.pop(0)) if control["personal"] else None,
        )
        row_set = row_sets[0] if row_sets else None
        findings = tuple(map(Finding.from_json, control["findings"]))
        rows_read, consenting = (bytes.fromhex(control[name]) for name in ("rows_read", "consenting"))
        return cls(control["number"], Computed(contribution, row_set, rows_read, consenting, findings))


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


def check_part(part: bytes, what: str) -> None:
    """FederatedError PROGRAM_LIMIT for bytes that no frame holds, nor a value of the node's database."""
    if len(part) > _MAX_PART_BYTES:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT, f"{what} are more than a node keeps of an answer without noise"
        )


def frame_pieces(parts: Parts) -> Iterator[bytes]:
    """The bytes of a frame in few pieces, each a call of the kernel; what is large is not copied."""
    small = [struct.pack(f"<I{len(parts)}Q", len(parts), *map(len, parts))]
    for part in parts:
        if len(part) < _LARGE:
            small.append(part)
            continue
        yield b"".join(small)
        yield part
        small.clear()
    yield b"".join(small)


def write_frame(stream: BinaryIO, parts: Parts) -> None:
    """Write a frame to a blocking stream."""
    for piece in frame_pieces(parts):
        stream.write(piece)
    stream.flush()


def read_frame(stream: BinaryIO) -> Parts | None:
    """Read a frame from a blocking stream; None at its end.

    Large row sets are put where the request's allowance has a scratch directory.
    """
    head = stream.read(4)
    if len(head) < 4:
        return None
    count = _checked_count(head)
    sizes = _checked_sizes(stream.read(8 * count), count)
    parts: list[bytes] = [stream.read(size) for size in sizes[:_FIXED_PARTS]]
    large = [size for size in sizes[_FIXED_PARTS:] if size >= _LARGE]
    space = _scratch_of(parts[0]) if large else MEMORY
    return [*parts, *(_read_into(stream, size, space) for size in sizes[_FIXED_PARTS:])]


def _scratch_of(control: bytes) -> Space:
    scratch = json.loads(control)["allowance"]["scratch"]
    return MEMORY if scratch is None else Scratch(scratch)


def _read_into(stream: BinaryIO, size: int, space: Space) -> bytes:
    if size < _LARGE:
        return stream.read(size)
    part = space.empty(size, np.uint8).data
    filled = 0
    while filled < size:
        taken = stream.readinto(part[filled:])  # type: ignore[attr-defined]  # of a buffered reader
        if not taken:
            raise EOFError
        filled += taken
    return as_bytes(part)


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
