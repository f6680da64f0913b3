"""The audit log's tree inside the server: whether the chains are those of their heads, and proofs of entries.

What always holds: it only reads, also on a standby, with the rights of whoever asks; signatures are verified
where the server's Python has `cryptography`, which is imported only here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from heliosdb.catalog import audit_tree as catalog
from heliosdb.catalog.audit_tree import StoredCosignature, StoredHead
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.plpy_connection import PlpyConnection
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.log_check import LogFault, compare
from heliosdb.domain.merkle import inclusion_path, leaf_hash
from heliosdb.domain.tree_head import (
    TreeHead,
    head_message,
    parse_head,
    parse_witnessed,
    witnessed_message,
)
from heliosdb.domain.wording import counted

_Found = tuple[str, int | None, str]


def find_faults(plpy: Any, workspace: str) -> list[_Found]:
    """Return origin, first position and reason of each fault of a workspace's chains against their heads."""
    connection, name = PlpyConnection(plpy), WorkspaceName(workspace)
    found: list[_Found] = []
    for origin, entries in catalog.list_chains(connection, name).items():
        faults = _chain_faults(connection, name, origin, entries)
        found.extend((str(origin), fault.broken_at, fault.reason) for fault in faults)
    found.extend(_stub_faults(connection, name))
    return found + [(str(one.origin), *_break_words(one)) for one in catalog.list_breaks(connection, name)]


def _chain_faults(
    connection: Connection, workspace: WorkspaceName, origin: UUID, entries: int
) -> Iterator[LogFault]:
    log = workspace, origin
    heads = catalog.list_heads(connection, workspace, origin)
    good: list[tuple[TreeHead, str]] = []
    for stored in heads:
        head = _signed_head(stored, workspace)
        if head is None:
            yield LogFault(
                stored.size,
                f"the head over {_entries(stored.size)} is not one that was signed",
            )
        else:
            good.append((head, f"the head that was signed at {head.signed_at:%Y-%m-%d %H:%M:%S} UTC"))
    if heads:
        leaves = catalog.iterate_leaves(connection, log, 0, max(entries, heads[-1].size))
        fault = compare(leaves, good)
        if fault is not None:
            yield fault
    by_size = {one.size: one for one in heads}
    for cosigned in catalog.list_cosignatures(connection, workspace, origin):
        if not _is_cosigned(cosigned, by_size.get(cosigned.size)):
            reason = (
                f'the head over {_entries(cosigned.size)} is not the one that node "{cosigned.node}" cosigned'
            )
            yield LogFault(cosigned.size, reason)


def _stub_faults(connection: Connection, workspace: WorkspaceName) -> Iterator[_Found]:
    for one in catalog.list_stubs(connection, workspace):
        emptied, signed = one.stub.emptied, one.signed
        is_signed = _may_be_signed(one.certificate, signed.statement, signed.signature)
        if emptied is not None and not (is_signed and signed.statement == one.stub.statement()):
            reason = (
                f"nobody signed that entries {emptied.first} to {emptied.last} were emptied for their age"
            )
            yield str(emptied.origin), emptied.first, reason


def _signed_head(stored: StoredHead, workspace: WorkspaceName) -> TreeHead | None:
    """What was signed, where the row says the same and, as far as can be told, the signature holds."""
    try:
        head = parse_head(stored.signed.statement)
    except FederatedError:
        return None
    if (head.log, head.size, head.root) != ((workspace, stored.origin), stored.size, stored.root):
        return None
    signed = head_message(stored.signed.statement)
    return head if _may_be_signed(stored.certificate, signed, stored.signed.signature) else None


def _is_cosigned(cosigned: StoredCosignature, head: StoredHead | None) -> bool:
    try:
        witnessed = parse_witnessed(cosigned.signed.statement)
    except FederatedError:
        return False
    if head is None or (witnessed.head_sha256, witnessed.node) != (head.signed.sha256, cosigned.node):
        return False
    signed = witnessed_message(cosigned.signed.statement)
    return _may_be_signed(cosigned.certificate, signed, cosigned.signed.signature)


def _may_be_signed(certificate: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature was made with the key of a certificate (PEM); True where nobody here can tell."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509 import load_pem_x509_certificate
    except ImportError:
        return True
    try:
        key = load_pem_x509_certificate(certificate).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True


def _entries(number: int) -> str:
    return counted(number, "entry", "entries")


def _break_words(found: catalog.Break) -> tuple[int | None, str]:
    held = f'node "{found.node}" holds a signed head over {_entries(found.held_size)}'
    match found.kind:
        case "rolled back":
            return found.own_size + 1, f"{held}, and the log had {found.own_size}: it was cut off or restored"
        case "missing":
            return 1, f"{held} of a log of this workspace that is not here"
        case _:
            return None, f"{held}, the first of which are others than here"


def prove_inclusion(plpy: Any, workspace: str, audit_id: str) -> str | None:
    """Return as JSON the proof that an entry is in the log of a signed head; None while no head has it."""
    connection = PlpyConnection(plpy)
    entry = catalog.find_entry(connection, WorkspaceName(workspace), UUID(audit_id))
    if entry is None:
        return None
    head = catalog.find_covering_head(connection, entry.log, entry.chain_position)
    if head is None:
        return None
    index = entry.chain_position - 1
    edge = catalog.find_edge(connection, entry.log, index)
    leaves = catalog.read_leaves(connection, entry.log, edge.size, head.size)
    if edge.size + len(leaves) != head.size:
        # Entries are missing: federated_audit_verify says which.
        return None
    proof = {
        "leaf_index": index,
        "tree_size": head.size,
        "root_sha256": head.root.hex(),
        "path": [one.hex() for one in inclusion_path(leaves, index, edge)],
        "leaf_sha256": leaf_hash(entry.leaf).hex(),
        "entry": entry.to_json(),
        "head": _signed_json(head),
        "cosignatures": _cosignatures_json(catalog.list_head_cosignatures(connection, entry.log, head.size)),
    }
    return json.dumps(proof, ensure_ascii=False)


def _signed_json(stored: StoredHead | StoredCosignature) -> dict[str, str]:
    return {
        "statement": stored.signed.statement.decode(),
        "signature": stored.signed.signature.hex(),
        "certificate": stored.certificate.decode(),
    }


def _cosignatures_json(cosignatures: Sequence[StoredCosignature]) -> list[dict[str, str]]:
    return [{"node": one.node, **_signed_json(one)} for one in cosignatures]
