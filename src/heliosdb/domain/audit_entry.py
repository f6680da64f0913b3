"""An entry of the audit log as anybody can check it: its fields as text, and the hash over them.

What always holds: `entry_hash` is what `federated._audit_hash` computes in the database, byte for byte; the
hash of an entry is its leaf's data in the tree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any
from uuid import UUID

from heliosdb.domain.errors import invalid_value
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.tree_head import Log


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry, each field as it is hashed.

    previous_hash, hash: hexadecimal, the first empty for the first entry. recorded_at: in UTC, as
    2026-01-31T23:59:59.123456Z. details: as jsonb prints it.
    """

    origin: str
    workspace: str
    chain_position: int
    previous_hash: str
    audit_id: str
    recorded_at: str
    transaction_id: str
    session_role: str
    acting_role: str
    action: str
    object_kind: str
    object_name: str
    details: str
    hash: str

    @property
    def log(self) -> Log:
        """The chain that it belongs to; FederatedError INVALID_VALUE where its origin is none."""
        try:
            return WorkspaceName(self.workspace), UUID(self.origin)
        except ValueError as error:
            raise invalid_value(f"entry {self.chain_position} has no origin") from error

    @property
    def leaf(self) -> bytes:
        """The data of its leaf; FederatedError INVALID_VALUE where its hash is none."""
        try:
            return bytes.fromhex(self.hash)
        except ValueError as error:
            raise invalid_value(f"entry {self.chain_position} has no hash") from error

    @property
    def is_emptied(self) -> bool:
        """Whether nothing is left of what it said, as of one that was emptied for its age."""
        return (self.session_role, self.acting_role, self.object_name, self.details) == ("", "", "", "{}")

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


_TYPES = {one.name: int if one.name == "chain_position" else str for one in fields(AuditEntry)}


def entry_from_json(value: Mapping[str, Any]) -> AuditEntry:
    """Read what `to_json` wrote; FederatedError INVALID_VALUE for anything else."""
    if value.keys() != _TYPES.keys() or any(type(value[name]) is not kind for name, kind in _TYPES.items()):
        raise invalid_value("an entry does not have the fields of one")
    return AuditEntry(**value)


def entry_hash(entry: AuditEntry) -> str:
    """SHA-256 over all fields but the hash, each as its length in bytes, a colon, its UTF-8 text and a comma;
    hexadecimal."""
    digest = hashlib.sha256()
    for name in _TYPES:
        if name != "hash":
            text = str(getattr(entry, name)).encode(errors="surrogatepass")
            digest.update(b"%d:%b," % (len(text), text))
    return digest.hexdigest()
