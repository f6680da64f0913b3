"""Keys that pairs of nodes agree on, the masks that they make, and the boxes in which shares travel.

What always holds: a key is made for one purpose of one sum between two nodes in one direction, which are all
in what it is derived from, and encrypts once; a seed leads to one key pair or one mask, the same everywhere.
Primitives come from `cryptography`: X25519, HKDF with SHA-256, AES-256 in counter mode and in GCM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from heliosdb.domain.vector import Dtype
from heliosdb.privacy.ring import Words

PUBLIC_BYTES, TAG_BYTES = 32, 16
KEY_BYTES = 32
_NONCE = bytes(12)
"""Fixed, since each key encrypts one message."""

_BLOCK = 8_192
"""Words of a mask that are made at once."""

_ZEROS = bytes(8 * _BLOCK)

_MOST_UNCARRIED = 254
"""Carries of so many masks, and one of the word below, are counted in a byte."""


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
        found = self.agree_on(public, (about,))
        return None if found is None else found[0]

    def agree_on(self, public: bytes, purposes: Sequence[bytes]) -> tuple[bytes, ...] | None:
        """The keys for several purposes, as `agree` has them one by one."""
        try:
            shared = self.private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            return None
        return tuple(_derived(shared, about) for about in purposes)


class Masks:
    """Masks that are added up. words: of all numbers, in the layout of `privacy/ring.py`; limbs: of each;
    dtype: of a word.

    Each is made a block at a time, which stays in the processor's cache; what is carried from a word to the
    one above it is counted, and added for many masks at once.
    """

    def __init__(self, words: int, limbs: int, dtype: Dtype = Dtype.UINT64) -> None:
        self._rows = np.zeros((limbs, words // limbs), dtype=dtype.value)
        self._carried = np.zeros((limbs - 1, words // limbs), dtype=np.uint8)
        self._uncarried = 0

    def add(self, seed: bytes) -> None:
        """Add the mask of a seed: words which only its holder tells from chance."""
        stream = Cipher(algorithms.AES(_derived(seed, b"mask")), modes.CTR(bytes(16))).encryptor()
        # A library may ask for the rest of a cipher's block behind what it writes.
        raw = bytearray(8 * _BLOCK + 16)
        block = np.frombuffer(raw, dtype=self._rows.dtype.newbyteorder("<"))
        for place, row in enumerate(self._rows):
            for start in range(0, row.size, _BLOCK):
                part = row[start : start + _BLOCK]
                stream.update_into(memoryview(_ZEROS)[: part.nbytes], raw)
                np.add(part, block[: part.size], out=part)
                if place < len(self._carried):
                    carried = self._carried[place, start : start + _BLOCK]
                    carried += (part < block[: part.size]).view(np.uint8)
        self._uncarried += 1
        if self._uncarried == _MOST_UNCARRIED:
            self._carry()

    def total(self) -> Words:
        """Their sum so far."""
        self._carry()
        return self._rows.reshape(-1)

    def _carry(self) -> None:
        for place, carried in enumerate(self._carried):
            above = self._rows[place + 1]
            np.add(above, carried, out=above)
            if place + 1 < len(self._carried):
                self._carried[place + 1] += (above < carried).view(np.uint8)
        self._carried[:] = 0
        self._uncarried = 0


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
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=info).derive(secret)
