"""`heliosdb verify-certificate`: a certificate of erasure, verified without a database.

What always holds: it only reads, and asks nobody; a certificate is in order where every signature in it
is one of the certificate beside it, everything that is said twice is said alike, and nothing is in it that
nobody signed. Whose certificates these are, an authority says, or whoever compares their fingerprints.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from heliosdb.domain.audit_entry import entry_from_json, entry_hash
from heliosdb.domain.erasure import (
    certificate_bytes,
    certificate_sha256,
    erasure_from_certificate,
)
from heliosdb.domain.errors import ErrorCode, FederatedError, invalid_value
from heliosdb.domain.merkle import leaf_hash, verify_inclusion
from heliosdb.domain.orders import read_statement
from heliosdb.domain.tree_head import head_message, parse_head, parse_witnessed, witnessed_message
from heliosdb.transport.identity import fingerprint, verify
from heliosdb.transport.verification import find_statement_signer, verify_certificate

MAX_BYTES = 64 * 1024 * 1024

_PARTS = {"certificate", "signature", "signer", "inclusion", "inclusion_reason"}
_PROOF = {
    "leaf_index",
    "tree_size",
    "root_sha256",
    "path",
    "leaf_sha256",
    "entry",
    "head",
    "cosignatures",
}


def verify_file(path: Path, authority: Path | None, show: Callable[[str], None]) -> bool:
    """Show what a file certifies, who signed it, and a line for each fault; return whether there is none.

    authority: PEM certificates that the signers' are, or were issued with. FederatedError INVALID_VALUE for a
    file that is no certificate of erasure.
    """
    document = _read(path)
    trusted = _load_trusted(authority)
    signers: dict[str, bytes] = {}
    faults = [*_certificate_faults(document, signers), *_inclusion_faults(document, signers)]
    said = document["certificate"]
    show(f"request {said.get('request')} in workspace {said.get('workspace')}: {said.get('exactness')}")
    for name, pem in signers.items():
        show(f"signed by {name}: certificate {_fingerprint(pem)}")
        if trusted and not _is_trusted(pem, trusted):
            faults.append(f"the certificate of {name} is none of the authority's")
    if not trusted:
        show("no authority was given: compare the certificates with those that you know")
    if document["inclusion"] is None:
        show(f"no proof that the audit log has it: {document['inclusion_reason']}")
    for fault in faults:
        show(f"fault: {fault}")
    return not faults


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FederatedError(
            ErrorCode.INVALID_VALUE, f"cannot read {path}: {error.strerror or error}"
        ) from error
    try:
        found = json.loads(raw) if len(raw) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.keys() != _PARTS or not isinstance(found["certificate"], dict):
        raise invalid_value(
            f"{path} is no certificate of erasure",
            hint="SELECT federated_erasure_certificate(request) gives one, as JSON.",
        )
    return found


def _certificate_faults(document: Mapping[str, Any], signers: dict[str, bytes]) -> Iterator[str]:
    said, signer = document["certificate"], _bytes(document["signer"])
    if not _is_signed(signer, lambda: certificate_bytes(said), document["signature"]):
        yield "the certificate is not what the coordinator signed"
    signers["the coordinator"] = signer
    try:
        erasure = erasure_from_certificate(said)
    except FederatedError as error:
        yield error.message
        return
    for one in erasure.answers:
        if one.state == "answered":
            yield from _answer_faults(said, one.node, one, signers)


def _answer_faults(said: Mapping[str, Any], node: str, one: Any, signers: dict[str, bytes]) -> Iterator[str]:
    """What is wrong with a node's statement."""
    if one.certificate is None:
        yield f"the certificate of node {node} is missing, so that nobody can tell whether it signed"
        return
    pem = _bytes(one.certificate)
    signers[f"node {node}"] = pem
    if _fingerprint(pem) != one.certificate_sha256:
        yield f"the certificate of node {node} is another than the one it signed with"
    try:
        is_signed = find_statement_signer([pem], _bytes(one.statement), _hex(one.signature)) is not None
        statement = read_statement(_bytes(one.statement))
    except (FederatedError, ValueError):
        yield f"the statement of node {node} cannot be read"
        return
    if not is_signed:
        yield f"the statement of node {node} is not what it signed"
    expected = {"order": said["request"], "kind": "erase", "workspace": said["workspace"], "node": node}
    for name, value in expected.items():
        if statement.get(name) != value:
            yield f"the statement of node {node} is about another {name}"


def _inclusion_faults(document: Mapping[str, Any], signers: dict[str, bytes]) -> Iterator[str]:
    proof = document["inclusion"]
    if proof is None:
        if not isinstance(document["inclusion_reason"], str):
            yield "there is no proof of inclusion, and no reason why"
        return
    if not isinstance(proof, dict) or proof.keys() != _PROOF or document["inclusion_reason"] is not None:
        yield "the proof of inclusion is none"
        return
    try:
        yield from _proof_faults(document["certificate"], proof, signers)
    except (FederatedError, ValueError, TypeError, KeyError, AttributeError):
        yield "the proof of inclusion cannot be read"


def _proof_faults(
    said: Mapping[str, Any], proof: Mapping[str, Any], signers: dict[str, bytes]
) -> Iterator[str]:
    entry = entry_from_json(proof["entry"])
    details = json.loads(entry.details)
    if (entry.object_kind, entry.object_name) != ("erasure", said["request"]):
        yield "the entry of the audit log is of something else"
    if details.get("certificate_sha256") != certificate_sha256(dict(said)).hex():
        yield "the entry of the audit log is of another certificate"
    leaf = leaf_hash(entry.leaf)
    if entry_hash(entry) != entry.hash or leaf.hex() != proof["leaf_sha256"]:
        yield "the entry of the audit log was changed"
    statement = _bytes(proof["head"]["statement"])
    head = parse_head(statement)
    path = [bytes.fromhex(one) for one in proof["path"]]
    if not verify_inclusion(leaf, proof["leaf_index"], head.size, path, head.root):
        yield "the entry is not in the audit log of the head"
    if (head.size, head.root.hex()) != (proof["tree_size"], proof["root_sha256"]) or head.log != entry.log:
        yield "the head is of another audit log"
    if proof["leaf_index"] != entry.chain_position - 1 or entry.workspace != said["workspace"]:
        yield "the entry is of another place"
    signed = [("the audit log's head", proof["head"], head_message(statement))]
    for one in proof["cosignatures"]:
        witnessed = _bytes(one["statement"])
        signed.append((f"witness {one['node']}", one, witnessed_message(witnessed)))
        yield from _witness_faults(one, statement)
    for name, one, message in signed:
        pem = _bytes(one["certificate"])
        signers[name] = pem
        if not verify(pem, message, bytes.fromhex(one["signature"])):
            yield f"{name} is not what was signed"


def _witness_faults(one: Mapping[str, Any], head: bytes) -> Iterator[str]:
    said = parse_witnessed(_bytes(one["statement"]))
    if said.head_sha256 != hashlib.sha256(head).digest() or said.node != one["node"]:
        yield f"witness {one['node']} is of another head"


def _is_signed(signer: bytes, message: Callable[[], bytes], signature: object) -> bool:
    try:
        return verify_certificate(signer, message(), _hex(signature))
    except (FederatedError, ValueError, TypeError):
        return False


def _load_trusted(authority: Path | None) -> Sequence[x509.Certificate]:
    if authority is None:
        return ()
    try:
        return x509.load_pem_x509_certificates(authority.read_bytes())
    except OSError as error:
        raise FederatedError(
            ErrorCode.INVALID_VALUE, f"cannot read {authority}: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise FederatedError(ErrorCode.IDENTITY, f"{authority} holds no certificates (PEM)") from error


def _is_trusted(pem: bytes, trusted: Sequence[x509.Certificate]) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return False
    for one in trusted:
        if certificate == one:
            return True
        with suppress(ValueError, TypeError, InvalidSignature):
            certificate.verify_directly_issued_by(one)
            return True
    return False


def _fingerprint(pem: bytes) -> str:
    try:
        return fingerprint(pem)
    except FederatedError:
        return "unreadable"


def _bytes(value: object) -> bytes:
    return value.encode() if isinstance(value, str) else b""


def _hex(value: object) -> bytes:
    return bytes.fromhex(value) if isinstance(value, str) else b""
