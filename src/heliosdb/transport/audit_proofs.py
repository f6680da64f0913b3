"""The proof that an entry is in the audit log of a signed head, as `federated._audit_inclusion` gives it.

What always holds: what is proved is that the entry, as it stands in the proof, is in the log whose head was
signed with the key of a certificate that the caller trusts; whatever the proof holds, nothing is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heliosdb.domain.audit_entry import entry_from_json, entry_hash
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.merkle import leaf_hash, verify_inclusion
from heliosdb.domain.tree_head import SignedStatement, parse_head, parse_witnessed
from heliosdb.transport.head_signatures import find_head_signer, verify_witnessed


def find_proof_fault(proof: Mapping[str, Any], trusted: Sequence[bytes] | None = None) -> str | None:
    """Say what is wrong with a proof; None where it holds.

    trusted: certificates (PEM) of coordinators, one of which must have signed the head; None: the one in the
    proof, which shows that the proof is whole, and not who made it.
    """
    try:
        return _entry_fault(proof) or _head_fault(proof, trusted) or _cosignature_fault(proof)
    except (FederatedError, KeyError, TypeError, ValueError, AttributeError) as error:
        return getattr(error, "message", None) or "the proof of inclusion cannot be read"


def _entry_fault(proof: Mapping[str, Any]) -> str | None:
    entry = entry_from_json(proof["entry"])
    if entry_hash(entry) != entry.hash:
        return "the entry is not what its hash is over"
    if proof["leaf_index"] != entry.chain_position - 1 or leaf_hash(entry.leaf).hex() != proof["leaf_sha256"]:
        return "the leaf is not that of the entry"
    head = parse_head(proof["head"]["statement"].encode())
    if (head.log, head.size, head.root.hex()) != (entry.log, proof["tree_size"], proof["root_sha256"]):
        return "the head is not that of the entry's log"
    path = [bytes.fromhex(one) for one in proof["path"]]
    if not verify_inclusion(leaf_hash(entry.leaf), proof["leaf_index"], head.size, path, head.root):
        return "the path does not lead from the entry to the head"
    return None


def _head_fault(proof: Mapping[str, Any], trusted: Sequence[bytes] | None) -> str | None:
    certificates = [proof["head"]["certificate"].encode()] if trusted is None else trusted
    if find_head_signer(certificates, _signed(proof["head"])) is None:
        return "the head is not signed with the coordinator's key"
    return None


def _cosignature_fault(proof: Mapping[str, Any]) -> str | None:
    head = _signed(proof["head"])
    for one in proof["cosignatures"]:
        signed = _signed(one)
        witnessed = parse_witnessed(signed.statement)
        if (witnessed.head_sha256, witnessed.node) != (head.sha256, one["node"]):
            return f'the cosignature of node "{one["node"]}" is not under this head'
        if not verify_witnessed([one["certificate"].encode()], signed):
            return f'the cosignature of node "{one["node"]}" is not made with its key'
    return None


def _signed(value: Mapping[str, Any]) -> SignedStatement:
    return SignedStatement(value["statement"].encode(), bytes.fromhex(value["signature"]))
