"""A node's proof, at its greeting, that it has the key of the certificate that it is pinned to.

What always holds: the coordinator draws a fresh challenge for each greeting; what is signed names the
workspace, the node's name in it and the certificate, so that no proof is good at another time, under another
name or for another certificate; its beginning is that of nothing else that a node signs.
"""

from __future__ import annotations

import secrets

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.handshake import Greeting, Introduction
from heliosdb.transport.identity import fingerprint, verify

CHALLENGE_BYTES = 32


def new_challenge() -> bytes:
    """Draw a challenge."""
    return secrets.token_bytes(CHALLENGE_BYTES)


def statement(greeting: Greeting, certificate_sha256: bytes) -> bytes:
    """What a node signs: each part with its length in front, so that no two greetings give the same bytes."""
    parts = (
        greeting.challenge,
        greeting.workspace.encode(),
        greeting.node.encode(),
        certificate_sha256,
    )
    return b"heliosdb possession 1\0" + b"".join(len(one).to_bytes(4, "little") + one for one in parts)


def check_possession(
    greeting: Greeting, said: Introduction, certificate_pem: bytes, *, required: bool
) -> None:
    """FederatedError IDENTITY for a proof that is none, and for none where one is required: at the first
    contact with a node, before its certificate is pinned.

    Of a node of an earlier release whose certificate is pinned the handshake of TLS alone shows it.
    """
    signed = statement(greeting, bytes.fromhex(fingerprint(certificate_pem)))
    if said.proof and verify(certificate_pem, signed, said.proof):
        return
    if said.proof or required:
        raise FederatedError(
            ErrorCode.IDENTITY,
            "it has not proven that it has the key of its certificate",
            hint="The signature is of this greeting's challenge, workspace, node name and certificate.",
        )
