"""What a node remembers of a run between its tasks: sealed, bounded, never sent.

What always holds: who has the database alone reads nothing of it: the key is of the node's secret; what is
sealed opens only as the memory of the same workspace, run and node; it has three owners, and none gets what
is another's: `step`, what a computation keeps, which may come from rows; `protocol`, what a sum protocol
keeps, which does not; and `unsent`, what the door keeps of updates that it let out in part, which under a
budget comes of noised vectors alone.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np

from heliosdb.catalog.participant import StoredMemory
from heliosdb.catalog.personal import StoredPersonal
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.personal import PersonalPart
from heliosdb.domain.state import (
    NO_STATE,
    State,
    freeze,
    join_parts,
    part_of,
    state_from_bytes,
    state_to_bytes,
)
from heliosdb.domain.task import TaskKey
from heliosdb.transport import limits
from heliosdb.transport.at_rest import AT_REST_BYTES, AtRestKey, UnopenedError, version_of


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one run.

    turn: which message of which sum comes next, of the sum that `protocol` belongs to; empty where none is
    under way. withdrawn: says who was left out as withdrawn when `step` was computed
    (`Admission.withdrawn_digest`). version: of what is stored, which a later one replaces; 0: nothing is.
    """

    step: State = field(default_factory=lambda: NO_STATE)
    protocol: State = field(default_factory=lambda: NO_STATE)
    unsent: State = field(default_factory=lambda: NO_STATE)
    turn: bytes = b""
    withdrawn: bytes = b""
    version: int = 0

    def to_bytes(self) -> bytes:
        """All but the version; FederatedError INVALID_VALUE for what cannot be a state."""
        turn = {"next": np.frombuffer(self.turn, dtype=np.uint8)}
        if self.withdrawn:
            turn["withdrawn"] = np.frombuffer(self.withdrawn, dtype=np.uint8)
        parts = join_parts(step=self.step, protocol=self.protocol, unsent=self.unsent, turn=turn)
        return state_to_bytes(freeze(parts))

    @classmethod
    def from_bytes(cls, raw: bytes, version: int) -> Memory:
        """Read what `to_bytes` wrote; FederatedError INVALID_VALUE for anything else."""
        parts = state_from_bytes(raw)
        beside = part_of(parts, "turn")
        turn, withdrawn = beside.get("next"), beside.get("withdrawn")
        if turn is None:
            raise invalid_value("these bytes are no memory of a run")
        step, protocol, unsent = (part_of(parts, owner) for owner in ("step", "protocol", "unsent"))
        left_out = b"" if withdrawn is None else withdrawn.tobytes()
        return cls(step, protocol, unsent, turn.tobytes(), left_out, version)


NO_MEMORY = Memory()


def equal(one: State, other: State) -> bool:
    """Whether two states hold the same arrays, bit for bit."""
    return state_to_bytes(one) == state_to_bytes(other)


class MemoryKey:
    """Seals and opens memories. secret: the node's; key: its root keys, None: the one of the secret."""

    def __init__(self, secret: bytes, key: AtRestKey | None = None) -> None:
        self._key = key or AtRestKey(memory_root(secret))

    def open(self, stored: StoredMemory | None, key: TaskKey) -> Memory:
        """Return the memory of a task's run; FederatedError INTERNAL for what was not sealed as that."""
        if stored is None:
            return NO_MEMORY
        try:
            # What an earlier release sealed has no version.
            version = stored.version if version_of(stored.sealed) is not None else None
            opened = self._key.open(stored.sealed, about=about_memory(*_row(key)), version=version)
            return Memory.from_bytes(opened, stored.version)
        except (UnopenedError, FederatedError) as error:
            raise FederatedError(
                ErrorCode.INTERNAL,
                "the node cannot open what it remembers of the run",
                hint="Its key file was changed, or its database belongs to another node. Start a new run.",
            ) from error

    def seal(self, memory: Memory, key: TaskKey) -> bytes:
        """Seal a memory; FederatedError PROGRAM_LIMIT for one that is too large, INVALID_VALUE for no
        state."""
        plain = memory.to_bytes()
        if len(plain) + AT_REST_BYTES > limits.MAX_VECTOR_BYTES:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT, "the node would have to remember too much of the run"
            )
        about, scope = about_memory(*_row(key)), memory_scope(key.workspace)
        return self._key.seal(plain, about=about, scope=scope, version=memory.version + 1)

    def seal_personal(self, part: PersonalPart, key: TaskKey) -> bytes:
        """Seal the node's own part of what a run publishes; FederatedError PROGRAM_LIMIT where it is too
        large."""
        plain = part.to_bytes()
        if len(plain) + AT_REST_BYTES > limits.MAX_VECTOR_BYTES:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT, "the node's own part of the model is larger than it keeps"
            )
        about, scope = about_personal(*_row(key)), memory_scope(key.workspace)
        return self._key.seal(plain, about=about, scope=scope, version=key.round)

    def open_personal(self, stored: StoredPersonal, node: str, workspace: str) -> PersonalPart:
        """Return a node's own part; FederatedError INTERNAL for what was not sealed as that."""
        try:
            about = about_personal(stored.run, node, workspace)
            return PersonalPart.from_bytes(
                self._key.open(stored.sealed, about=about, version=stored.round_number)
            )
        except (UnopenedError, FederatedError) as error:
            raise FederatedError(
                ErrorCode.INTERNAL,
                "the node cannot open its own part of the model",
                hint="Its key file was changed, or its database belongs to another node. Start a new run.",
            ) from error


def memory_root(secret: bytes) -> bytes:
    """The root key that follows from a node's secret: the one that seals where no other is given."""
    return hmac.digest(secret, b"node memory", hashlib.sha256)


def memory_scope(workspace: str) -> str:
    """By which the wrapping key of memories of a workspace's runs is chosen."""
    return f"node memory\0{workspace}"


def _row(key: TaskKey) -> tuple[UUID, str, str]:
    return key.run, key.node, key.workspace


def about_personal(run: UUID, node: str, workspace: str) -> bytes:
    """Whose own part of a model it is: never what a memory is bound to."""
    return b"personal part\0" + about_memory(run, node, workspace)


def about_memory(run: UUID, node: str, workspace: str) -> bytes:
    """Whose memory it is: each name with its length in front, so that no two give the same bytes."""
    parts = (run.bytes, node.encode(), workspace.encode())
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)
