"""Signatures over heads of audit logs, and over what nodes witness, with the keys of certificates.

What always holds: a head's signature is never one of a cosignature, a task, an update or a delivery. Nothing
here needs gRPC or protobuf, so that the server's Python can verify too where it has `cryptography`.
"""

from __future__ import annotations

from collections.abc import Iterable

from heliosdb.domain.tree_head import SignedStatement
from heliosdb.transport.identity import Identity, verify

_HEAD_SIGNATURE = b"heliosdb tree head signature v1\0"
_WITNESSED_SIGNATURE = b"heliosdb witnessed head signature v1\0"


def sign_head(identity: Identity, statement: bytes) -> SignedStatement:
    """The coordinator's signature over a head."""
    return SignedStatement(statement, identity.sign(_HEAD_SIGNATURE + statement))


def find_head_signer(certificates: Iterable[bytes], head: SignedStatement) -> bytes | None:
    """The certificate (PEM) among these whose key signed a head; None where none did."""
    message = _HEAD_SIGNATURE + head.statement
    return next((one for one in certificates if verify(one, message, head.signature)), None)


def sign_witnessed(identity: Identity, statement: bytes) -> SignedStatement:
    """A node's signature over what it has witnessed."""
    return SignedStatement(statement, identity.sign(_WITNESSED_SIGNATURE + statement))


def verify_witnessed(certificates: Iterable[bytes], cosignature: SignedStatement) -> bool:
    """Whether a cosignature was made with the key of one of a node's certificates (PEM)."""
    message = _WITNESSED_SIGNATURE + cosignature.statement
    return any(verify(one, message, cosignature.signature) for one in certificates)
