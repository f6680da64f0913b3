"""How each error code looks at the edges that are not SQL: one table, whole by test."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import PurePath

from federated_sql.errors import ErrorCode, FederatedError, invalid_value, not_supported

__all__ = [
    "EDGES",
    "Edge",
    "ErrorCode",
    "FederatedError",
    "StrangerError",
    "edge",
    "invalid_value",
    "not_supported",
    "place_of",
]


@dataclass(frozen=True, slots=True)
class Edge:
    """The gRPC status name, HTTP status and process exit code of an error code."""

    grpc_status: str
    http_status: int
    exit_code: int


EDGES: dict[ErrorCode, Edge] = {
    ErrorCode.SYNTAX: Edge("INVALID_ARGUMENT", 400, 2),
    ErrorCode.UNDEFINED_OBJECT: Edge("NOT_FOUND", 404, 3),
    ErrorCode.UNDEFINED_COLUMN: Edge("NOT_FOUND", 404, 3),
    ErrorCode.UNDEFINED_TABLE: Edge("NOT_FOUND", 404, 3),
    ErrorCode.DUPLICATE_OBJECT: Edge("ALREADY_EXISTS", 409, 3),
    ErrorCode.INVALID_VALUE: Edge("INVALID_ARGUMENT", 400, 2),
    ErrorCode.INVALID_NAME: Edge("INVALID_ARGUMENT", 400, 2),
    ErrorCode.PRIVILEGE: Edge("PERMISSION_DENIED", 403, 4),
    ErrorCode.WRONG_STATE: Edge("FAILED_PRECONDITION", 409, 5),
    ErrorCode.IN_USE: Edge("FAILED_PRECONDITION", 409, 5),
    ErrorCode.DEPENDENTS: Edge("FAILED_PRECONDITION", 409, 5),
    ErrorCode.NOT_SUPPORTED: Edge("UNIMPLEMENTED", 501, 6),
    ErrorCode.PROGRAM_LIMIT: Edge("RESOURCE_EXHAUSTED", 413, 7),
    ErrorCode.TIMEOUT: Edge("DEADLINE_EXCEEDED", 504, 8),
    ErrorCode.UNREACHABLE: Edge("UNAVAILABLE", 503, 14),
    ErrorCode.BUDGET_EXHAUSTED: Edge("RESOURCE_EXHAUSTED", 409, 9),
    ErrorCode.NODE_REFUSED: Edge("FAILED_PRECONDITION", 409, 10),
    ErrorCode.UPDATE_REJECTED: Edge("DATA_LOSS", 422, 11),
    ErrorCode.IDENTITY: Edge("UNAUTHENTICATED", 401, 12),
    ErrorCode.FENCED: Edge("ABORTED", 409, 13),
    ErrorCode.INTERNAL: Edge("INTERNAL", 500, 1),
}


class StrangerError(FederatedError):
    """A peer showed another identity than the one that it must have; code IDENTITY."""


def edge(code: ErrorCode) -> Edge:
    """Return how `code` looks outside SQL."""
    return EDGES[code]


def place_of(error: BaseException) -> str:
    """The kind of an error and where it was raised, for a log: its own text may quote a row."""
    frames = traceback.extract_tb(error.__traceback__)
    where = "".join(f"\n  {PurePath(one.filename).name}:{one.lineno} in {one.name}" for one in frames)
    return f"{type(error).__name__}{where}"
