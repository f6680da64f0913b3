"""Something short, sealed to an X25519 public key: a data subject's identifier on its way to a daemon.

What always holds: who has not the private key learns at most how many blocks of `_BLOCK` bytes it takes; it
opens only with the same `about`; no key is used twice: they come of an ephemeral key and of `about` (HKDF
with SHA-256; the cipher is AES-256-GCM). The library of the primitives is imported where something is sealed
or opened: most sessions of a server never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliosdb.domain.errors import ErrorCode, FederatedError, not_supported

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_TAG_BYTES = 16
_BLOCK = 64
_MOST_BYTES = 8 * 1024
OVERHEAD_BYTES = KEY_BYTES + _TAG_BYTES
_NONCE = bytes(12)
"""Each key seals once."""


class UnopenedBoxError(Exception):
    """The sealed bytes are not what they claim to be, or were sealed for another key or purpose."""


def seal_box(public: bytes, plain: bytes, *, about: bytes) -> bytes:
    """Seal at most 8 KiB to a public key (32 bytes): ephemeral key, cipher text with its tag.

    FederatedError IDENTITY for what is no public key, PROGRAM_LIMIT for more, NOT_SUPPORTED where the
    process has no library of cryptography.
    """
    require_library()
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    ephemeral = X25519PrivateKey.generate()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise FederatedError(ErrorCode.IDENTITY, "the sealing key is not a valid key") from None
    own = ephemeral.public_key().public_bytes_raw()
    return own + _cipher(shared, own + public, about).encrypt(_NONCE, _pad(plain), about)


def open_box(private: bytes, sealed: bytes, *, about: bytes) -> bytes:
    """Open what `seal_box` made with the private key (32 bytes); raises UnopenedBoxError."""
    require_library()
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    if not OVERHEAD_BYTES < len(sealed) <= OVERHEAD_BYTES + _MOST_BYTES + _BLOCK:
        raise UnopenedBoxError
    own, ephemeral = X25519PrivateKey.from_private_bytes(private), sealed[:KEY_BYTES]
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        keys = ephemeral + own.public_key().public_bytes_raw()
        padded = _cipher(shared, keys, about).decrypt(_NONCE, sealed[KEY_BYTES:], about)
    except (InvalidTag, ValueError) as error:
        raise UnopenedBoxError from error
    length = int.from_bytes(padded[:4], "little")
    if length > len(padded) - 4:
        raise UnopenedBoxError
    return padded[4 : 4 + length]


def public_key(private: bytes) -> bytes:
    """The public key of a private one (32 bytes each)."""
    require_library()
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def require_library() -> None:
    """FederatedError NOT_SUPPORTED where the process has no library of cryptography."""
    try:
        import cryptography.hazmat.primitives  # noqa: F401 -- whether it is there
    except ImportError:
        raise not_supported(
            "this server's Python has no library of cryptography",
            hint="Install cryptography (Debian: python3-cryptography) for the Python that PL/Python uses.",
        ) from None


def _cipher(shared: bytes, keys: bytes, about: bytes) -> AESGCM:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = b"heliosdb sealed box v1\0" + keys + about
    return AESGCM(HKDF(hashes.SHA256(), 32, None, info).derive(shared))


def _pad(plain: bytes) -> bytes:
    """The length in front, zeros behind: of texts of like length nobody sees which one it is."""
    if len(plain) > _MOST_BYTES:
        raise FederatedError(ErrorCode.PROGRAM_LIMIT, f"more than {_MOST_BYTES} bytes are not sealed")
    framed = len(plain).to_bytes(4, "little") + plain
    return framed + bytes(-len(framed) % _BLOCK)
