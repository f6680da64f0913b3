"""Keys that pairs of nodes agree on, the masks that they make, and the boxes in which shares travel.

What always holds: a key is made for one purpose of one sum between two nodes in one direction, which are all
in what it is derived from, and encrypts once; a seed leads to one key pair or one mask, the same everywhere.
Primitives come from `cryptography`: X25519, HKDF with SHA-256, AES-256 in counter mode and in GCM.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from heliosdb.privacy.ring import Words

PUBLIC_BYTES, TAG_BYTES = 32, 16
_KEY_BYTES = 32
_NONCE = bytes(12)
"""Fixed, since each key encrypts one message."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One side of a key agreement, made from a seed."""

    private: X25519PrivateKey = field(repr=False)
    public: bytes

    @classmethod
    def of(cls, seed: bytes, purpose: bytes) -> Agreement:
        """The key pair that a seed leads to."""
        private = X25519PrivateKey.from_private_bytes(_derived(seed, b"key pair\0" + purpose))
        raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return cls(private, private.public_key().public_bytes(*raw))

    def agree(self, public: bytes, about: bytes) -> bytes | None:
        """The key shared with the holder of `public`, for what `about` says; None for no key of the curve,
        and for one of small order, with which everybody would agree on the same key."""
        try:
            shared = self.private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            return None
        return _derived(shared, about)


def mask(seed: bytes, words: int) -> Words:
    """So many words of 64 bits which only the holder of the seed tells from chance."""
    key = _derived(seed, b"mask")
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * words)), dtype="<u8").astype(np.uint64, copy=False)


def seal(key: bytes, message: bytes) -> bytes:
    """A message under a key of `agree`; TAG_BYTES longer. A key may be used once."""
    return AESGCM(key).encrypt(_NONCE, message, None)


def unseal(key: bytes, sealed: bytes) -> bytes | None:
    """The message; None where it was sealed under another key, or changed."""
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, None)
    except InvalidTag:
        return None


def _derived(secret: bytes, info: bytes) -> bytes:
    info = b"heliosdb secure sum v1\0" + info
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=info).derive(secret)
