"""What a node hands over about a data subject, sealed to the requester: the coordinator cannot read it.

What always holds: who has not the private key learns the length alone; it opens only as the answer of that
node to that order; no key is used twice. A random key is sealed as something short is
(domain/sealed_box.py), and the part under it (AES-256-GCM).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

from heliosdb.domain import sealed_box
from heliosdb.domain.sealed_box import UnopenedBoxError, public_key
from heliosdb.domain.subject_export import MOST_BYTES

__all__ = ["KEY_BYTES", "MOST_SEALED_BYTES", "derive_private_key", "open_part", "public_key", "seal_part"]

KEY_BYTES = sealed_box.KEY_BYTES
_TAG_BYTES = 16
_BOX_BYTES = sealed_box.OVERHEAD_BYTES + 64
"""Of a sealed key: with its length it takes one block."""
OVERHEAD_BYTES = _BOX_BYTES + _TAG_BYTES
MOST_SEALED_BYTES = MOST_BYTES + OVERHEAD_BYTES
_NONCE = bytes(12)
"""Each key seals once."""


def derive_private_key(secret: bytes, salt: bytes) -> bytes:
    """The X25519 private key of one export. secret: the database server's; salt: the export's own."""
    return hmac.digest(secret, b"heliosdb export key 1\0" + salt, hashlib.sha256)


def seal_part(public: bytes, plain: bytes, order: UUID, node: str) -> bytes:
    """Seal a node's part of an export to its requester's public key; IDENTITY for what is no public key."""
    key, about = secrets.token_bytes(KEY_BYTES), _about(order, node)
    box = sealed_box.seal_box(public, key, about=about)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return box + AESGCM(key).encrypt(_NONCE, plain, about)


def open_part(private: bytes, sealed: bytes, order: UUID, node: str) -> bytes:
    """Open what `seal_part` made; raises UnopenedBoxError."""
    if not OVERHEAD_BYTES <= len(sealed) <= MOST_SEALED_BYTES:
        raise UnopenedBoxError
    about = _about(order, node)
    key = sealed_box.open_box(private, sealed[:_BOX_BYTES], about=about)
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(_NONCE, sealed[_BOX_BYTES:], about)
    except (InvalidTag, ValueError) as error:
        raise UnopenedBoxError from error


def _about(order: UUID, node: str) -> bytes:
    return b"heliosdb export part 1\0" + order.bytes + node.encode()
