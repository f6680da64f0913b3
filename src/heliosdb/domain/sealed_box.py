"""Something short, sealed to an X25519 public key where no library of cryptography is: inside the server.

What always holds: who has not the private key learns at most how many blocks of `_BLOCK` bytes it takes; it
opens only with the same `about`; no key is used twice: they come of an ephemeral key and of `about`. The
agreed secret is that of RFC 7748, the keys are HKDF's (RFC 5869) with SHA-256; the cipher is HMAC-SHA-256 in
counter mode, and a tag of HMAC-SHA-256 is over what it gave. Only the side that seals computes the curve
here, with secrets that are used once; opening is transport/sealing.py's, by its library.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from heliosdb.domain.errors import ErrorCode, FederatedError

_P = 2**255 - 19
_A24 = 121665
_BASE_POINT = b"\x09" + bytes(31)
_KEY_BYTES = 32
_TAG_BYTES = 32
_BLOCK = 64
_MOST_BYTES = 8 * 1024
OVERHEAD_BYTES = _KEY_BYTES + _TAG_BYTES


class UnopenedBoxError(Exception):
    """The sealed bytes are not what they claim to be, or were sealed for another key or purpose."""


class Sealer:
    """Seals to one public key (32 bytes), each thing for a purpose of its own: the curve is computed once.

    FederatedError IDENTITY for what is no public key.
    """

    def __init__(self, public: bytes) -> None:
        private = secrets.token_bytes(_KEY_BYTES)
        self._shared = multiply(private, public)
        if not any(self._shared):
            raise FederatedError(ErrorCode.IDENTITY, "the coordinator's sealing key is not a valid key")
        self._ephemeral = multiply(private, _BASE_POINT)
        self._public = public
        self._sealed_about: set[bytes] = set()

    def seal(self, plain: bytes, *, about: bytes) -> bytes:
        """Seal at most 8 KiB: ephemeral key, cipher text, tag; ValueError where something was sealed about
        the same before."""
        if about in self._sealed_about:
            raise ValueError("a purpose has one key, for one thing")
        self._sealed_about.add(about)
        cipher_key, tag_key = _derive(self._shared, self._ephemeral + self._public, about)
        sealed = self._ephemeral + _stream(cipher_key, _pad(plain))
        return sealed + hmac.digest(tag_key, sealed, hashlib.sha256)


def ephemeral_key(sealed: bytes) -> bytes:
    """The public key with which the secret of sealed bytes is agreed; UnopenedBoxError for too few bytes."""
    if not OVERHEAD_BYTES < len(sealed) <= OVERHEAD_BYTES + _MOST_BYTES + _BLOCK:
        raise UnopenedBoxError
    return sealed[:_KEY_BYTES]


def open_box(shared: bytes, public: bytes, sealed: bytes, *, about: bytes) -> bytes:
    """Open what `Sealer` made. shared: the secret agreed with `ephemeral_key`; public: one's own key."""
    cipher_key, tag_key = _derive(shared, ephemeral_key(sealed) + public, about)
    body, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
    if not hmac.compare_digest(hmac.digest(tag_key, body, hashlib.sha256), tag):
        raise UnopenedBoxError
    padded = _stream(cipher_key, body[_KEY_BYTES:])
    length = int.from_bytes(padded[:4], "little")
    if length > len(padded) - 4:
        raise UnopenedBoxError
    return padded[4 : 4 + length]


def multiply(scalar: bytes, point: bytes) -> bytes:
    """X25519 (RFC 7748, section 5): the u-coordinate of scalar times point."""
    k = int.from_bytes(scalar, "little") & ~7 & ~(128 << 8 * 31) | 64 << 8 * 31
    x1 = (int.from_bytes(point, "little") & ((1 << 255) - 1)) % _P
    x2, z2, x3, z3, swapped = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swapped ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % _P, b * b % _P, d * a % _P, c * b % _P
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % _P, x1 * (da - cb) ** 2 % _P
        x2, z2 = aa * bb % _P, e * (aa + _A24 * e) % _P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(_KEY_BYTES, "little")


def _pad(plain: bytes) -> bytes:
    """The length in front, zeros behind: of texts of like length nobody sees which one it is."""
    if len(plain) > _MOST_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, f"more than {_MOST_BYTES} bytes are not sealed")
    framed = len(plain).to_bytes(4, "little") + plain
    return framed + bytes(-len(framed) % _BLOCK)


def _derive(shared: bytes, keys: bytes, about: bytes) -> tuple[bytes, bytes]:
    prk = hmac.digest(bytes(_KEY_BYTES), shared, hashlib.sha256)
    info = b"heliosdb sealed box v1\0" + keys + about
    first = hmac.digest(prk, info + b"\x01", hashlib.sha256)
    return first, hmac.digest(prk, first + info + b"\x02", hashlib.sha256)


def _stream(key: bytes, data: bytes) -> bytes:
    blocks = range(-(-len(data) // 32))
    stream = b"".join(hmac.digest(key, block.to_bytes(8, "little"), hashlib.sha256) for block in blocks)
    return bytes(x ^ y for x, y in zip(data, stream, strict=False))
