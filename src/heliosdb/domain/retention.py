"""What is left of what was deleted for its age: a stub, as the daemon that deleted signs it.

What always holds: equal stubs have equal statements, byte for byte, whoever writes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.tree_head import Log

AUDIT = "audit"
"""What a stub of the audit log says was deleted."""


@dataclass(frozen=True, slots=True)
class EmptiedEntries:
    """Which entries of a chain of the audit log were emptied. sha256: of their hashes, one after another."""

    origin: UUID
    first: int
    last: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Stub:
    """How much of what was deleted. what: a name of federated.retention_stub. emptied: of the audit log."""

    id: int
    what: str
    workspace: WorkspaceName
    entries: int
    older_than: datetime
    deleted_at: datetime
    emptied: EmptiedEntries | None = None

    def statement(self) -> bytes:
        """What is signed: JSON with sorted keys and without spaces, times in UTC."""
        said: dict[str, object] = {
            "deleted": self.what,
            "workspace": self.workspace,
            "entries": self.entries,
            "older_than": _utc(self.older_than),
            "deleted_at": _utc(self.deleted_at),
        }
        if self.emptied is not None:
            said |= {
                "origin": str(self.emptied.origin),
                "first_position": self.emptied.first,
                "last_position": self.emptied.last,
                "content_sha256": self.emptied.sha256.hex(),
            }
        return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_emptied(statement: bytes) -> tuple[Log, EmptiedEntries]:
    """Read which entries of which chain a signed stub of the audit log is about; FederatedError INVALID_VALUE
    for anything else."""
    try:
        said = json.loads(statement)
        origin, first, last = UUID(said["origin"]), said["first_position"], said["last_position"]
        if said["deleted"] != AUDIT or (type(first), type(last)) != (int, int) or not 1 <= first <= last:
            raise ValueError
        emptied = EmptiedEntries(origin, first, last, bytes.fromhex(said["content_sha256"]))
        return (WorkspaceName(str(said["workspace"])), origin), emptied
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise invalid_value("a stub is not one of the audit log") from error


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")
