"""Sealing of updates from node to coordinator and of parameters at rest: AES-256-GCM, X25519, HKDF.

What always holds: a sealed update opens only with the coordinator's sealing key and only as the answer to the
very task it answers; no key is used for two updates; a changed, truncated or misplaced payload does not open.
Primitives come from `cryptography`; key files are of mode 0600 and are never overwritten.
"""

from __future__ import annotations

import hashlib
import hmac
import os
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
from heliosdb.transport.limits import TAG_BYTES

_KEY_BYTES = 32
_NONCE_BYTES = 12
AT_REST_BYTES = _NONCE_BYTES + TAG_BYTES
"""How many more bytes there are once `AtRestKey` has sealed them."""


class UnopenedError(Exception):
    """The sealed bytes are not what they claim to be, or were sealed for another."""


@dataclass(frozen=True, slots=True)
class SealingKey:
    """An X25519 private key: the coordinator's, or one that it derives for what an aggregator opens."""

    private: bytes = field(repr=False)

    @classmethod
    def load_or_create(cls, path: Path) -> SealingKey:
        """Read the key file, or make one (mode 0600)."""
        return cls(_load_or_create(path))

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


@dataclass(frozen=True, slots=True)
class AtRestKey:
    """The key under which the coordinator keeps parameters in its database; it stays outside of that."""

    key: bytes = field(repr=False)

    @classmethod
    def load_or_create(cls, path: Path) -> AtRestKey:
        """Read the key file, or make one (mode 0600)."""
        return cls(_load_or_create(path))

    def derive_number(self, about: bytes) -> int:
        """A number in [0, 2**64) that nobody without the key can tell: the same for the same `about`."""
        return int.from_bytes(hmac.digest(self.key, about, hashlib.sha256)[:8], "little")

    def derive_key(self, about: bytes) -> bytes:
        """A key of 32 bytes that nobody without this one can tell: the same for the same `about`."""
        derivation = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=b"heliosdb derived key v1\0" + about)
        return derivation.derive(self.key)

    def seal(self, plain: bytes, *, about: bytes) -> bytes:
        """Seal with a random nonce in front; `about` (a run id, say) must be given again to open."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, plain, about)

    def open(self, sealed: bytes, *, about: bytes) -> bytes:
        """Open what `seal` made; raises UnopenedError."""
        try:
            return AESGCM(self.key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about)
        except (InvalidTag, ValueError) as error:
            raise UnopenedError from error


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


def load_or_create_secret(path: Path) -> bytes:
    """32 random bytes kept in a file of mode 0600, made on first use; FederatedError IDENTITY for anything
    else.
    """
    return _load_or_create(path)


def _load_or_create(path: Path) -> bytes:
    try:
        return _create(path)
    except FileExistsError:
        return _load(path)
    except OSError as error:
        raise FederatedError(
            ErrorCode.IDENTITY, f"cannot make the key file {path}: {error.strerror}"
        ) from error


def _create(path: Path) -> bytes:
    """Write a new key beside its place, then link it there: nobody sees half a key, two makers agree."""
    if path.exists():
        raise FileExistsError
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    key = secrets.token_bytes(_KEY_BYTES)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    finally:
        draft.unlink()
    return key


def _load(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode & 0o077
        key = path.read_bytes()
    except OSError as error:
        raise FederatedError(
            ErrorCode.IDENTITY, f"cannot read the key file {path}: {error.strerror}"
        ) from error
    if mode:
        raise FederatedError(
            ErrorCode.IDENTITY, f"the key file {path} may be read by others", hint="Set its mode to 0600."
        )
    if len(key) != _KEY_BYTES:
        raise FederatedError(
            ErrorCode.IDENTITY, f"the key file {path} does not hold a key of {_KEY_BYTES} bytes"
        )
    return key
