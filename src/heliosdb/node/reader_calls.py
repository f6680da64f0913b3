"""What the training process and the process that reads for it say to each other. Never pickle.

What always holds: a message is its kind, its length and its bytes, bounded before they are read; what is
called is one of the names of `Rows`, and what it is given is JSON, checked field by field as it is read.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from socket import MSG_WAITALL, socket
from typing import Any

from heliosdb.catalog.dataset_rows import CodeRange, ColumnReading, RowQuery
from heliosdb.domain.encoding import ColumnKind
from heliosdb.domain.ids import DatasetName

READERS = "HELIOSDB_READERS"
"""Of the environment: the names of the connection strings by which rows may be read, with commas between."""

_HEAD = struct.Struct("<cQ")
_MOST_BYTES = 512 * 1024 * 1024


class Kind(StrEnum):
    """Of messages. CALL: what is asked. VALUE: the answer, as JSON. CHUNK: a part of it, as it is. FAILED:
    what went wrong, as JSON."""

    CALL = "?"
    VALUE = "="
    CHUNK = "+"
    FAILED = "!"


def name_of_reader(conninfo: str) -> str:
    """Return by what a connection string is known to the process that connects, without being told."""
    return hashlib.sha256(conninfo.encode()).hexdigest()


class ClosedError(Exception):
    """The other side is not there any more."""


def send(line: socket, kind: Kind, body: bytes | bytearray) -> None:
    """Send one message; OSError."""
    line.sendall(_HEAD.pack(kind.value.encode(), len(body)))
    line.sendall(body)


def send_json(line: socket, kind: Kind, value: object) -> None:
    """Send one message of JSON; OSError."""
    send(line, kind, json.dumps(value).encode())


def receive(line: socket) -> tuple[Kind, bytes]:
    """Return the next message; ClosedError where there is none, ValueError for what is none."""
    kind, size = _HEAD.unpack(_exactly(line, _HEAD.size))
    if size > _MOST_BYTES:
        raise ValueError("not a message")
    return Kind(kind.decode("ascii", "replace")), _exactly(line, size)


def _exactly(line: socket, size: int) -> bytes:
    found = line.recv(size, MSG_WAITALL) if size else b""
    if len(found) == size:
        return found
    # A signal may end a call early; an end never comes with more behind it.
    rest = bytearray(found)
    while len(rest) < size:
        more = line.recv(size - len(rest), MSG_WAITALL)
        if not more:
            raise ClosedError
        rest += more
    return bytes(rest)


def write_query(query: RowQuery) -> dict[str, Any]:
    """Return a query as JSON."""
    return asdict(query)


def read_query(told: Mapping[str, Any]) -> RowQuery:
    """Read what `write_query` wrote."""
    relation = told["relation"]
    return RowQuery(
        DatasetName(str(told["dataset"])),
        tuple(map(str, told["columns"])),
        tuple(tuple(map(str, one)) for one in told["names"]),
        None if relation is None else (str(relation[0]), str(relation[1])),
    )


def write_columns(columns: Sequence[ColumnReading]) -> list[dict[str, Any]]:
    """Return how columns are read as JSON."""
    return [asdict(one) for one in columns]


def read_columns(told: Sequence[Mapping[str, Any]]) -> list[ColumnReading]:
    """Read what `write_columns` wrote."""
    return [
        ColumnReading(
            str(one["name"]),
            int(one["type_oid"]),
            ColumnKind(one["kind"]),
            int(one["elements"]),
            tuple(map(int, one["shape"])),
        )
        for one in told
    ]


def write_range(within: CodeRange | None) -> list[int] | None:
    """Return a range of codes as JSON."""
    return None if within is None else [within.first, within.last]


def read_range(told: Sequence[int] | None) -> CodeRange | None:
    """Read what `write_range` wrote."""
    return None if told is None else CodeRange(int(told[0]), int(told[1]))


def write_pairs(pairs: Mapping[int, Any] | None) -> list[list[Any]] | None:
    """Return a mapping by numbers as JSON, whose objects have none."""
    return None if pairs is None else [[number, value] for number, value in pairs.items()]


def read_counts(told: Sequence[Sequence[Any]] | None) -> dict[int, int] | None:
    """Read a mapping of counts that `write_pairs` wrote."""
    return None if told is None else {int(number): int(count) for number, count in told}


def read_texts(told: Sequence[Sequence[Any]]) -> dict[int, str]:
    """Read a mapping of texts that `write_pairs` wrote."""
    return {int(number): str(text) for number, text in told}
