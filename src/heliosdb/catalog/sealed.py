"""What is sealed in a database, under which root key, and how it comes under another.

What always holds: a value is only changed where it still is the one that was read, so that whoever writes it
meanwhile is not overwritten; each function is one statement, to be run in its caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.domain.ids import RunId

_SQL = Statements("sealed.sql")


class Holder(StrEnum):
    """Whose root keys they are."""

    COORDINATOR = "coordinator"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class RootKeyRecord:
    """What the catalog knows of a root key. is_settled: whether it has been so for a minute."""

    name: str
    status: str
    source: str
    since: datetime
    is_settled: bool


@dataclass(frozen=True, slots=True)
class StoredRound:
    """What is sealed of a round. workspace: of its run. exchange: of an open round the one that goes on from
    it, else 0."""

    round: int
    sealed: bytes
    memory: bytes | None
    manifest: bytes | None
    kept: int | None
    workspace: str
    exchange: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row with one sealed value, or the header of one. place: its key. version: NULL: it has none."""

    place: tuple[Any, ...]
    sealed: bytes
    workspace: str = ""
    version: int = 0


def note_current(connection: Connection, holder: Holder, name: str, source: str) -> bool:
    """Record which root key a daemon seals with; False where that is recorded already."""
    found = _SQL.query(connection, "find_current", holder)
    if found and found[0]["name"] == name:
        return False
    _SQL.query(connection, "retire_former", holder, name)
    _SQL.query(connection, "note_current", holder, name, source)
    return True


def list_keys(connection: Connection, holder: Holder) -> list[RootKeyRecord]:
    """Return the root keys that daemons have sealed with, the first of them first."""
    return [RootKeyRecord(**row) for row in _SQL.query(connection, "list_keys", holder)]


def count_sealed(connection: Connection, holder: Holder, name: str) -> tuple[int, int]:
    """Return how many values need a root key, and how many checkpoint files may."""
    row = _SQL.query(connection, "count_sealed", holder, name)[0]
    return row["rows"], row["files"]


def list_state(connection: Connection, holder: Holder) -> list[tuple[str, str, int]]:
    """Return what is sealed: what it is, under which key, how many."""
    return [
        (row["what"], row["key_name"], row["rows"]) for row in _SQL.query(connection, "list_state", holder)
    ]


def drop_key(connection: Connection, holder: Holder, name: str) -> None:
    """Record that a former root key is no longer at hand."""
    _SQL.query(connection, "drop_key", holder, name)


def stale_states(connection: Connection, current: str, most: int) -> Sequence[dict[str, Any]]:
    """Return headers of rounds that another root key than this one sealed: run_id, round_number, sealed,
    memory, manifest."""
    return [dict(row) for row in _SQL.query(connection, "stale_states", current, most)]


def rewrap_state(
    connection: Connection, run: UUID, number: int, headers: Sequence[tuple[bytes | None, bytes | None]]
) -> None:
    """Put headers in the place of others: of the state, the memory and the manifest (None: there is none)."""
    flat = [one for pair in headers for one in pair]
    _SQL.query(connection, "rewrap_state", str(run), number, *flat)


def stale_versions(connection: Connection, current: str, most: int) -> list[Row]:
    """Return headers of versions that another root key than this one sealed."""
    found = _SQL.query(connection, "stale_versions", current, most)
    return [Row((row["version_id"],), row["sealed"]) for row in found]


def rewrap_version(connection: Connection, row: Row, header: bytes) -> None:
    """Put a header in the place of another."""
    _SQL.query(connection, "rewrap_version", *row.place, row.sealed, header)


def stale_memories(connection: Connection, current: str, most: int) -> list[Row]:
    """Return headers of a node's memories that another root key than this one sealed."""
    found = _SQL.query(connection, "stale_memories", current, most)
    return [_memory(row) for row in found]


def rewrap_memory(connection: Connection, row: Row, header: bytes) -> None:
    """Put a header in the place of another."""
    workspace, run, node = row.place
    _SQL.query(connection, "rewrap_memory", workspace, str(run), node, row.sealed, header)


def stale_parts(connection: Connection, current: str, most: int) -> list[Row]:
    """Return headers of a node's own parts of models that another root key than this one sealed."""
    return [_memory(row) for row in _SQL.query(connection, "stale_parts", current, most)]


def rewrap_part(connection: Connection, row: Row, header: bytes) -> None:
    """Put a header in the place of another."""
    workspace, run, node = row.place
    _SQL.query(connection, "rewrap_part", workspace, str(run), node, row.sealed, header)


def unnamed_runs(connection: Connection) -> list[RunId]:
    """Return the runs of which an earlier release has sealed something."""
    return [RunId(row["run_id"]) for row in _SQL.query(connection, "unnamed_runs")]


def read_rounds(connection: Connection, run: RunId) -> list[StoredRound]:
    """Return all that is sealed of a run."""
    return [
        StoredRound(
            row["round_number"],
            row["sealed"],
            row["memory"],
            row["manifest"],
            row["kept_round"],
            row["workspace"],
            row["exchange"],
        )
        for row in _SQL.query(connection, "run_states", str(run))
    ]


def put_round(connection: Connection, run: RunId, one: StoredRound, file_digest: bytes | None) -> None:
    """Keep what was sealed anew of a round; file_digest: of the manifest as files have it."""
    _SQL.query(
        connection, "put_resealed", str(run), one.round, one.sealed, one.memory, one.manifest, file_digest
    )


def unnamed_versions(connection: Connection) -> list[tuple[Row, RunId, int]]:
    """Return the versions that an earlier release sealed, each with its run and round."""
    return [
        (
            Row((row["version_id"],), row["sealed"], row["workspace"]),
            RunId(row["run_id"]),
            row["round_number"],
        )
        for row in _SQL.query(connection, "unnamed_versions")
    ]


def put_version(connection: Connection, row: Row, sealed: bytes) -> None:
    """Keep what was sealed anew of a version."""
    _SQL.query(connection, "put_version", *row.place, row.sealed, sealed)


def unnamed_memories(connection: Connection) -> list[Row]:
    """Return a node's memories that an earlier release sealed."""
    return [_memory(row, row["version"]) for row in _SQL.query(connection, "unnamed_memories")]


def put_memory_again(connection: Connection, row: Row, sealed: bytes) -> None:
    """Keep a memory that was sealed anew, where no task wrote another meanwhile."""
    workspace, run, node = row.place
    _SQL.query(connection, "put_memory_again", workspace, str(run), node, row.version, row.sealed, sealed)


def _memory(row: Any, version: int = 0) -> Row:
    return Row((row["workspace"], row["run_id"], row["node_name"]), row["sealed"], row["workspace"], version)
