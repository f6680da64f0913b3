"""Something short, sealed to an X25519 public key where no library of cryptography is: inside the server.

What always holds: who has not the private key learns at most how many blocks of `_BLOCK` bytes it takes; it
opens only with the same `about`; no key is used twice, for each sealing has an ephemeral key of its own. The
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


def seal_box(public: bytes, plain: bytes, *, about: bytes) -> bytes:
    """Seal `plain`, of at most 8 KiB, to a public key (32 bytes): ephemeral key, cipher text, tag.

    FederatedError IDENTITY for what is no public key.
    """
    private = secrets.token_bytes(_KEY_BYTES)
    shared = multiply(private, public)
    if not any(shared):
        raise FederatedError(ErrorCode.IDENTITY, "the coordinator's sealing key is not a valid key")
    ephemeral = multiply(private, _BASE_POINT)
    cipher_key, tag_key = _derive(shared, ephemeral + public, about)
    padded = _pad(plain)
    sealed = ephemeral + _stream(cipher_key, padded)
    return sealed + hmac.digest(tag_key, sealed, hashlib.sha256)


def ephemeral_key(sealed: bytes) -> bytes:
    """The public key with which the secret of sealed bytes is agreed; UnopenedBoxError for too few bytes."""
    if not OVERHEAD_BYTES < len(sealed) <= OVERHEAD_BYTES + _MOST_BYTES + _BLOCK:
        raise UnopenedBoxError
    return sealed[:_KEY_BYTES]


def open_box(shared: bytes, public: bytes, sealed: bytes, *, about: bytes) -> bytes:
    """Open what `seal_box` made. shared: the secret agreed with `ephemeral_key`; public: one's own key."""
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
