"""Heads of an audit log's tree, and what a node says that it has witnessed: JSON text, signed as it is.

What always holds: the text is canonical (sorted keys, no spaces, UTF-8), so that the same words have the same
bytes everywhere; what is read back is equal to what was written, or an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import NodeName, WorkspaceName

MAX_STATEMENT_BYTES = 4096
MAX_PATH = 64
"""Hashes of a proof: a log of 2**63 entries takes no more."""

_MOST_ENTRIES = 2**63 - 1
_HEAD_KIND = "tree head"
_WITNESSED_KIND = "witnessed head"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_HASH = re.compile(r"[0-9a-f]{64}")

_HEAD_SIGNATURE = b"heliosdb tree head signature v1\0"
_WITNESSED_SIGNATURE = b"heliosdb witnessed head signature v1\0"

Log = tuple[WorkspaceName, UUID]
"""A chain of entries: of a workspace, and of the database that linked it."""


@dataclass(frozen=True, slots=True)
class TreeHead:
    """The first `size` entries of a log, by the root of the tree over their hashes.

    A leaf's data are the 32 bytes of an entry's own hash. signed_at: in UTC, by the coordinator's database.
    """

    workspace: WorkspaceName
    origin: UUID
    size: int
    root: bytes
    signed_at: datetime

    @property
    def log(self) -> Log:
        """Which log it is about."""
        return self.workspace, self.origin

    def statement(self) -> bytes:
        """The text that is signed."""
        return _canonical(
            {
                "kind": _HEAD_KIND,
                "origin": str(self.origin),
                "root_sha256": self.root.hex(),
                "signed_at": _time_text(self.signed_at),
                "tree_size": self.size,
                "workspace": self.workspace,
            }
        )


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A node's word that it has seen a head, consistent with all that it had seen of the log before."""

    head_sha256: bytes
    node: NodeName
    witnessed_at: datetime

    def statement(self) -> bytes:
        """The text that is signed."""
        return _canonical(
            {
                "head_sha256": self.head_sha256.hex(),
                "kind": _WITNESSED_KIND,
                "node": self.node,
                "witnessed_at": _time_text(self.witnessed_at),
            }
        )


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A text and the signature over it."""

    statement: bytes
    signature: bytes

    @property
    def sha256(self) -> bytes:
        """The hash that names the text."""
        return hashlib.sha256(self.statement).digest()


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """A head for a node to witness, and the path that leads to it from the one of held_size entries.

    held_size: how many entries the node's newest head of the log has, as the coordinator knows; 0: it has
    none, and the path is empty.
    """

    workspace: WorkspaceName
    node: NodeName
    head: SignedStatement
    held_size: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What a node says to a head: its cosignature, or why it refuses; neither where the path does not begin
    at the head that it holds.

    held: its newest head of each log of the workspace, as the coordinator signed them.
    """

    cosignature: SignedStatement | None
    refusal: str | None
    held: tuple[SignedStatement, ...]


_T = TypeVar("_T", TreeHead, Witnessed)


def head_message(statement: bytes) -> bytes:
    """What the coordinator's signature over a head is over."""
    return _HEAD_SIGNATURE + statement


def witnessed_message(statement: bytes) -> bytes:
    """What a node's signature over what it has witnessed is over."""
    return _WITNESSED_SIGNATURE + statement


def parse_head(statement: bytes) -> TreeHead:
    """Read the text of a head; FederatedError INVALID_VALUE for anything else."""
    value = _read(statement, _HEAD_KIND)
    try:
        head = TreeHead(
            WorkspaceName(_text(value["workspace"])),
            UUID(_text(value["origin"])),
            _size(value["tree_size"]),
            _hash(value["root_sha256"]),
            _time(value["signed_at"]),
        )
    except (KeyError, ValueError) as error:
        raise invalid_value("the text is not that of a tree head") from error
    return _same(head, statement)


def parse_witnessed(statement: bytes) -> Witnessed:
    """Read the text of a cosignature; FederatedError INVALID_VALUE for anything else."""
    value = _read(statement, _WITNESSED_KIND)
    try:
        witnessed = Witnessed(
            _hash(value["head_sha256"]), NodeName(_text(value["node"])), _time(value["witnessed_at"])
        )
    except (KeyError, ValueError) as error:
        raise invalid_value("the text is not that of a witnessed head") from error
    return _same(witnessed, statement)


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _read(statement: bytes, kind: str) -> Mapping[str, Any]:
    failure = invalid_value(f"the text is not that of a {kind}")
    if len(statement) > MAX_STATEMENT_BYTES:
        raise failure
    try:
        value = json.loads(statement)
    except (ValueError, RecursionError) as error:
        raise failure from error
    if not isinstance(value, dict) or value.get("kind") != kind:
        raise failure
    return value


def _same(found: _T, statement: bytes) -> _T:
    if found.statement() != statement:
        raise invalid_value("the text is not in its canonical form")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    # What cannot be UTF-8 raises UnicodeEncodeError, which is a ValueError.
    value.encode()
    return value


def _size(value: object) -> int:
    if type(value) is not int or not 0 < value <= _MOST_ENTRIES:
        raise ValueError
    return value


def _hash(value: object) -> bytes:
    if not isinstance(value, str) or _HASH.fullmatch(value) is None:
        raise ValueError
    return bytes.fromhex(value)


def _time(value: object) -> datetime:
    return datetime.strptime(_text(value), _TIME).replace(tzinfo=UTC)


def _time_text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_TIME)
