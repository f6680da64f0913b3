"""Signatures over heads of audit logs, and over what nodes witness, with the keys of certificates.

What always holds: a head's signature is never one of a cosignature, a task, an update or a delivery.
"""

from __future__ import annotations

from collections.abc import Iterable

from heliosdb.domain.tree_head import SignedStatement, head_message, witnessed_message
from heliosdb.transport.identity import Identity, verify


def sign_head(identity: Identity, statement: bytes) -> SignedStatement:
    """The coordinator's signature over a head."""
    return SignedStatement(statement, identity.sign(head_message(statement)))


def find_head_signer(certificates: Iterable[bytes], head: SignedStatement) -> bytes | None:
    """The certificate (PEM) among these whose key signed a head; None where none did."""
    message = head_message(head.statement)
    return next((one for one in certificates if verify(one, message, head.signature)), None)


def sign_witnessed(identity: Identity, statement: bytes) -> SignedStatement:
    """A node's signature over what it has witnessed."""
    return SignedStatement(statement, identity.sign(witnessed_message(statement)))


def verify_witnessed(certificates: Iterable[bytes], cosignature: SignedStatement) -> bool:
    """Whether a cosignature was made with the key of one of a node's certificates (PEM)."""
    message = witnessed_message(cosignature.statement)
    return any(verify(one, message, cosignature.signature) for one in certificates)
