"""Checkpoints as the catalog keeps them: what a file is written from, what a run goes on from.

What always holds: functions that write a run's rows expect a transaction of `lease.fenced`; what is sealed
passes through here as it is; one call is one statement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from heliosdb.catalog.commands import Model
from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.checkpoint import PIECE_BYTES, Part, Piece
from heliosdb.domain.ids import ModelName, RoundNumber, RunId, WorkspaceName

_SQL = Statements("checkpoints.sql")


@dataclass(frozen=True, slots=True)
class ClosedRound:
    """The last closed round of a run, for a file. parts: sealed; () where it cannot be made into one."""

    run: RunId
    round: RoundNumber
    is_of_series: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class LatestRun:
    """The last run of a model that closed a round. obstacle: why it cannot be resumed; None: it can."""

    run: RunId
    round: RoundNumber
    obstacle: str | None


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a run that was just claimed stands.

    resumed_from, resumed_round: of the file that it goes on from, None for none. is_unread: that is still to
    be taken up. is_own: whether that run is one of the same model here. closed: its last closed round, None
    before one. has_failed: whether a round was given up.
    """

    workspace: WorkspaceName
    model: ModelName
    resumed_from: RunId | None
    resumed_round: RoundNumber
    is_unread: bool
    is_own: bool
    closed: RoundNumber | None
    has_failed: bool


@dataclass(frozen=True, slots=True)
class StateDigests:
    """SHA-256 of what is kept of one round, hexadecimal; memory None: nothing is. bytes: of both."""

    round: RoundNumber
    state: str
    memory: str | None
    bytes: int


def hold_checkpoint(connection: Connection, model: Model) -> ClosedRound | None:
    """Return the last closed round of a model, which stays as it is until the transaction ends; None where
    none was closed."""
    rows = _SQL.query(connection, "hold_checkpoint", model.model_id)
    if not rows:
        return None
    row = rows[0]
    sizes: Mapping[str, int] = json.loads(row["sizes"] or "{}")
    parts = tuple(Part(name, sizes[name]) for name in sorted(sizes))
    return ClosedRound(
        RunId(UUID(row["run_id"])), RoundNumber(row["round_number"]), row["is_of_series"], parts
    )


def read_piece(connection: Connection, model: Model, closed: ClosedRound, part: Part, start: int) -> bytes:
    """Return the bytes of a part from a place on, `PIECE_BYTES` at most."""
    run, number = str(closed.run), closed.round
    rows = _SQL.query(
        connection, "read_checkpoint", model.model_id, run, number, part.name, start, PIECE_BYTES
    )
    return bytes(rows[0]["content"] or b"")


def insert_checkpoint(  # noqa: PLR0917
    connection: Connection, model: Model, closed: ClosedRound, path: str, size: int, sha256: bytes
) -> None:
    """Record a file."""
    _SQL.query(
        connection, "insert_checkpoint", model.model_id, str(closed.run), path, closed.round, size, sha256
    )


def find_latest_run(connection: Connection, model: Model) -> LatestRun | None:
    """Return the last run of a model that closed a round; None where none did."""
    rows = _SQL.query(connection, "latest_closed_run", model.model_id)
    if not rows:
        return None
    row = rows[0]
    return LatestRun(RunId(UUID(row["run_id"])), RoundNumber(row["round_number"]), row["obstacle"])


def resume_run(connection: Connection, run: RunId) -> None:
    """Queue a run again that has ended; a trigger refuses what cannot go on (55000)."""
    _SQL.query(connection, "resume_run", str(run))


def has_run(connection: Connection, model: Model, run: RunId) -> bool:
    """Tell whether a run is one of the model's."""
    return bool(_SQL.query(connection, "has_run", model.model_id, str(run))[0]["is_there"])


def is_erased(connection: Connection, run: RunId) -> bool:
    """Tell whether data subjects were erased whose rows a run had read."""
    return bool(_SQL.query(connection, "is_erased", str(run))[0]["is_erased"])


def is_lost_before_erasure(
    connection: Connection, run: RunId, workspace: WorkspaceName, created_at: datetime
) -> bool:
    """Tell whether nobody knows any more who took part in a run, of which a file is older than a request for
    erasure in its workspace."""
    found = _SQL.query(connection, "is_lost_before_erasure", str(run), workspace, created_at)
    return bool(found[0]["is_lost"])


def is_manifest(connection: Connection, run: RunId, number: int, sha256: bytes) -> bool:
    """Tell whether a digest is that of the manifest that is kept of a closed round."""
    return bool(_SQL.query(connection, "is_manifest", str(run), number, sha256)[0]["is_manifest"])


def insert_resumed_run(connection: Connection, model: Model, run: RunId, number: int) -> RunId:
    """Queue a run that goes on from a file of another one; its pieces are to follow."""
    rows = _SQL.query(connection, "insert_resumed_run", model.model_id, str(run), number)
    return RunId(UUID(rows[0]["run_id"]))


def insert_piece(connection: Connection, run: RunId, piece: Piece) -> None:
    """Hand a piece of a file to the coordinator."""
    _SQL.query(connection, "insert_piece", str(run), piece.part, piece.place, piece.content)


def find_beginning(connection: Connection, run: RunId) -> Beginning | None:
    """Return where a run stands; None where it is gone."""
    rows = _SQL.query(connection, "find_beginning", str(run))
    if not rows:
        return None
    row = rows[0]
    origin, closed = row["resumed_from"], row["closed"]
    return Beginning(
        workspace=WorkspaceName(row["workspace"]),
        model=ModelName(row["model"]),
        resumed_from=None if origin is None else RunId(UUID(origin)),
        resumed_round=RoundNumber(row["resumed_round"] or 0),
        is_unread=origin is not None and row["is_unread"],
        is_own=row["is_own"],
        closed=None if closed is None else RoundNumber(closed),
        has_failed=row["has_failed"],
    )


def list_parts(connection: Connection, run: RunId) -> set[str]:
    """Return the names of the parts that a file handed over."""
    return {row["part"] for row in _SQL.query(connection, "list_parts", str(run))}


def read_part(connection: Connection, run: RunId, part: str) -> bytes:
    """Return a part that a file handed over; b"" where there is none of that name."""
    return bytes(_SQL.query(connection, "read_part", str(run), part)[0]["content"] or b"")


def delete_resumptions(connection: Connection, run: RunId) -> None:
    """Forget what files handed over to this run, and to runs that have ended."""
    _SQL.query(connection, "delete_resumptions", str(run))


def describe_run(connection: Connection, run: RunId) -> str:
    """Return as JSON what a run goes on from beside its states: how it was started, what it found, its closed
    rounds' figures, and what nodes did in round 0."""
    return str(_SQL.query(connection, "describe_run", str(run))[0]["described"])


def hash_states(connection: Connection, run: RunId, numbers: Iterable[int]) -> list[StateDigests]:
    """Return the digests of the states that are kept of these rounds, in their order."""
    return [
        StateDigests(RoundNumber(row["round_number"]), row["state"], row["memory"], row["bytes"])
        for row in _SQL.query(connection, "hash_states", str(run), sorted(set(numbers)))
    ]


def put_manifest(connection: Connection, run: RunId, number: int, kept: int, sealed: bytes) -> None:
    """Keep the manifest of a closed round. kept: the round whose state may be published."""
    _SQL.query(connection, "put_manifest", str(run), number, kept, sealed)


def find_manifest(connection: Connection, run: RunId, number: int) -> bytes | None:
    """Return the sealed manifest of a closed round; None where none is kept."""
    rows = _SQL.query(connection, "find_manifest", str(run), number)
    return bytes(rows[0]["manifest"]) if rows else None


def insert_internal(connection: Connection, run: RunId, number: int, size: int, sha256: bytes) -> None:
    """Keep all that belongs to a closed round's checkpoint until it is dropped, or the run is."""
    _SQL.query(connection, "insert_internal", str(run), number, size, sha256)


def list_internal(connection: Connection, run: RunId) -> list[tuple[int, int]]:
    """Return the rounds whose checkpoints are kept, and their bytes, in order."""
    return [
        (row["round_number"], row["size_bytes"]) for row in _SQL.query(connection, "list_internal", str(run))
    ]


def delete_internal(connection: Connection, run: RunId, numbers: Iterable[int]) -> None:
    """Keep these rounds' checkpoints no longer; their states go with the next closed round."""
    _SQL.query(connection, "delete_internal", str(run), sorted(numbers))


def adopt_run(connection: Connection, run: RunId, described: str) -> None:
    """Give a run the options, the policy and the random choices of what `describe_run` described."""
    _SQL.query(connection, "adopt_run", str(run), described)


def adopt_rounds(connection: Connection, run: RunId, described: str, message: str) -> None:
    """Give a run the closed rounds of what `describe_run` described, but for one that it has. message: of
    each."""
    _SQL.query(connection, "adopt_rounds", str(run), described, message)


def adopt_answers(connection: Connection, run: RunId, described: str) -> None:
    """Give a run what nodes, as far as they are registered here, did in that one's round 0."""
    _SQL.query(connection, "adopt_answers", str(run), described)
