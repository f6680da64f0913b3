"""What a node hands over about a data subject, sealed to the requester: the coordinator cannot read it.

What always holds: who has not the private key learns the length alone; it opens only as the answer of that
node to that order; no key is used twice. A random key is sealed as something short is
(domain/sealed_box.py); under it the part is added to SHAKE-256's output (FIPS 202), and a tag of HMAC-SHA-256
is over what that gave and is checked first. None of it needs more than Python has, for it is opened inside
the database server.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from uuid import UUID

from heliosdb.domain import sealed_box
from heliosdb.domain.sealed_box import UnopenedBoxError
from heliosdb.domain.subject_export import MOST_BYTES

KEY_BYTES = 32
_TAG_BYTES = 32
_BOX_BYTES = sealed_box.OVERHEAD_BYTES + 64
"""Of a sealed key: with its length it takes one block."""
OVERHEAD_BYTES = _BOX_BYTES + _TAG_BYTES
MOST_SEALED_BYTES = MOST_BYTES + OVERHEAD_BYTES


def derive_private_key(secret: bytes, salt: bytes) -> bytes:
    """The X25519 private key of one export. secret: the database server's; salt: the export's own."""
    return hmac.digest(secret, b"heliosdb export key 1\0" + salt, hashlib.sha256)


def seal_part(public: bytes, plain: bytes, order: UUID, node: str) -> bytes:
    """Seal a node's part of an export to its requester's public key; IDENTITY for what is no public key."""
    key = secrets.token_bytes(KEY_BYTES)
    box = sealed_box.seal_box(public, key, about=_about(order, node))
    body = _keyed(key, plain)
    return box + body + _tag(key, body)


def open_part(private: bytes, sealed: bytes, order: UUID, node: str) -> bytes:
    """Open what `seal_part` made; raises UnopenedBoxError."""
    if not OVERHEAD_BYTES <= len(sealed) <= MOST_SEALED_BYTES:
        raise UnopenedBoxError
    box, body, tag = sealed[:_BOX_BYTES], sealed[_BOX_BYTES:-_TAG_BYTES], sealed[-_TAG_BYTES:]
    shared = sealed_box.multiply(private, sealed_box.ephemeral_key(box))
    key = sealed_box.open_box(shared, public_key(private), box, about=_about(order, node))
    if not hmac.compare_digest(_tag(key, body), tag):
        raise UnopenedBoxError
    return _keyed(key, body)


def public_key(private: bytes) -> bytes:
    """The public key of a private one."""
    return sealed_box.multiply(private, _BASE_POINT)


_BASE_POINT = b"\x09" + bytes(31)


def _about(order: UUID, node: str) -> bytes:
    return b"heliosdb export part 1\0" + order.bytes + node.encode()


def _keyed(key: bytes, data: bytes) -> bytes:
    """Add the key's stream to the data; once more takes it away."""
    stream = hashlib.shake_256(b"heliosdb export stream 1\0" + key).digest(len(data))
    # As numbers: a loop over bytes takes a hundred times as long.
    added = int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")
    return added.to_bytes(len(data), "little")


def _tag(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"heliosdb export tag 1\0" + body, hashlib.sha256)
