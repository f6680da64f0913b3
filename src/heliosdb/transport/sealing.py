"""Sealing of updates from node to coordinator: AES-256-GCM, X25519, HKDF (at rest: transport/at_rest.py).

What always holds: a sealed update opens only with the coordinator's sealing key and only as the answer to the
very task it answers; no key is used for two updates; a changed, truncated or misplaced payload does not open.
Primitives come from `cryptography`; key files are of mode 0600 and are never overwritten.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from heliosdb.domain import sealed_box
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.task import TaskKey
from heliosdb.transport.at_rest import AT_REST_BYTES, AtRestKey, UnopenedError
from heliosdb.transport.key_files import load_or_create_secret

__all__ = ["AT_REST_BYTES", "AtRestKey", "SealingKey", "UnopenedError", "load_or_create_secret", "seal_to"]

_KEY_BYTES = 32
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class SealingKey:
    """An X25519 private key: the coordinator's, or one that it derives for what an aggregator opens."""

    private: bytes = field(repr=False)

    @classmethod
    def load_or_create(cls, path: Path) -> SealingKey:
        """Read the key file, or make one (mode 0600)."""
        return cls(load_or_create_secret(path))

    @classmethod
    def generate(cls) -> SealingKey:
        """Make a key that is kept nowhere."""
        return cls(secrets.token_bytes(_KEY_BYTES))

    @property
    def public(self) -> bytes:
        """The raw public key (32 bytes), as it goes into a task."""
        return _key_pair(self.private)[1]

    def open(self, sealed: bytes, ephemeral_key: bytes, key: TaskKey, task_sha256: bytes) -> bytes:
        """Open an update; raises UnopenedError."""
        try:
            private, public = _key_pair(self.private)
            shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral_key))
            cipher, nonce = _derive(shared, ephemeral_key, public, key)
            return cipher.decrypt(nonce, sealed, _binding(key) + task_sha256)
        except (InvalidTag, ValueError) as error:
            raise UnopenedError from error

    def derive(self, about: bytes) -> SealingKey:
        """A key of its own for one purpose: the same for the same `about`, and no way back to this one."""
        derivation = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=b"heliosdb sealing key v1\0" + about)
        return SealingKey(derivation.derive(self.private))

    def open_box(self, sealed: bytes, *, about: bytes) -> bytes:
        """Open what was sealed to this key (domain/sealed_box.py); raises UnopenedBoxError."""
        return sealed_box.open_box(self.private, sealed, about=about)


@lru_cache(maxsize=256)
def _key_pair(private: bytes) -> tuple[X25519PrivateKey, bytes]:
    """The key, ready to use, and the raw public key: computing that one costs as much as an exchange."""
    key = X25519PrivateKey.from_private_bytes(private)
    return key, key.public_key().public_bytes_raw()


def seal_to(sealing_key: bytes, payload: bytes, key: TaskKey, task_sha256: bytes) -> tuple[bytes, bytes]:
    """Seal `payload` to the coordinator: the ephemeral public key and the sealed bytes."""
    ephemeral = X25519PrivateKey.generate()
    ephemeral_key = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(sealing_key))
    except ValueError as error:
        raise FederatedError(
            ErrorCode.IDENTITY, "the coordinator's sealing key is not a valid key"
        ) from error
    cipher, nonce = _derive(shared, ephemeral_key, sealing_key, key)
    return ephemeral_key, cipher.encrypt(nonce, payload, _binding(key) + task_sha256)


def _derive(shared: bytes, ephemeral_key: bytes, sealing_key: bytes, key: TaskKey) -> tuple[AESGCM, bytes]:
    info = b"heliosdb update v2\0" + _binding(key) + ephemeral_key + sealing_key
    derived = HKDF(hashes.SHA256(), _KEY_BYTES + _NONCE_BYTES, salt=None, info=info).derive(shared)
    return AESGCM(derived[:_KEY_BYTES]), derived[_KEY_BYTES:]


def _binding(key: TaskKey) -> bytes:
    """The identifiers of a task, each with its length in front so that no two keys give the same bytes."""
    parts = (
        key.workspace.encode(),
        key.run.bytes,
        struct.pack("<Q", key.round),
        struct.pack("<Q", key.exchange),
        key.step.encode(),
        key.node.encode(),
    )
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)
