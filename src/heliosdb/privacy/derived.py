"""Noise that follows from a key, for who may have to draw it twice for the same sum.

What always holds: without the key nobody tells the bytes from chance; the same key and the same `about` give
the same bytes, another `about` gives others that have nothing to do with them.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from heliosdb.privacy.mechanisms import Entropy


def derived_entropy(key: bytes, about: bytes) -> Entropy:
    """Return a source of unpredictable bytes: AES-256 in counter mode under HMAC-SHA256 of `about`.

    key: 32 bytes, secret.
    """
    seed = hmac.digest(key, b"heliosdb noise v1\0" + about, hashlib.sha256)
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    return lambda count: stream.update(bytes(count))
