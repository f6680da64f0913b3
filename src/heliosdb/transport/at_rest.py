"""What is kept in a database is sealed here: a root key outside of it, and keys by workspace and row.

What always holds: a root key never touches data: it gives a wrapping key for each purpose and workspace
(HKDF-SHA256), which wraps (AES-256-GCM) the random key of one row, which seals that row once (AES-256-GCM).
Cipher text opens only as what it was sealed as: its table and row (`about`) and its version are associated
data, so that one that was moved to another row, or is of an earlier version, does not open as this one.
Another root key changes the first `HEADER_BYTES` alone; `sealed_digest` is of what stays.

    magic 4 | root key's name 8 | scope 16 | version 8 | wrapped key 60 | nonce 12, cipher text, tag 16

What earlier releases sealed (nonce, cipher text) opens with any of the root keys, and has no version.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from heliosdb.domain.sealed_format import HEADER_BYTES, MAGIC, is_wrapped
from heliosdb.transport.key_files import load_or_create_secret
from heliosdb.transport.limits import TAG_BYTES

NAME_BYTES = 8
_KEY_BYTES = 32
_NONCE_BYTES = 12
_SCOPE_BYTES = 16
_HEAD = struct.Struct(f"<4s{NAME_BYTES}s{_SCOPE_BYTES}sQ")
assert _HEAD.size + _NONCE_BYTES + _KEY_BYTES + TAG_BYTES == HEADER_BYTES
AT_REST_BYTES = HEADER_BYTES + _NONCE_BYTES + TAG_BYTES
"""How many more bytes there are once `AtRestKey` has sealed them."""


class UnopenedError(Exception):
    """The sealed bytes are not what they claim to be, or were sealed for another."""


class AtRestKey:
    """The root keys of one daemon: one that seals, and former ones that still open.

    base: from which names and seeds follow that no rotation may change; the root key where none is given.
    """

    def __init__(self, key: bytes, *, former: Sequence[bytes] = (), base: bytes | None = None) -> None:
        self._base = key if base is None else base
        self._roots: dict[bytes, bytes] = {}
        self._current = b""
        self.use(key, former)

    def __repr__(self) -> str:
        return "AtRestKey()"

    @classmethod
    def load_or_create(cls, path: Path) -> AtRestKey:
        """Read the key file, or make one (mode 0600)."""
        return cls(load_or_create_secret(path))

    @property
    def current(self) -> str:
        """The name of the root key that seals: hexadecimal, and nothing of the key can be told from it."""
        return self._current.hex()

    @property
    def names(self) -> frozenset[str]:
        """The names of all root keys that are at hand."""
        return frozenset(name.hex() for name in self._roots)

    def use(self, key: bytes, former: Sequence[bytes] = ()) -> None:
        """Seal with this root key from here on; what former ones have sealed opens as well."""
        self._roots = {root_name(one): one for one in (*former, key)}
        self._current = root_name(key)

    def derive_number(self, about: bytes) -> int:
        """A number in [0, 2**64) that nobody without the key can tell: the same for the same `about`."""
        return int.from_bytes(hmac.digest(self._base, about, hashlib.sha256)[:8], "little")

    def derive_key(self, about: bytes) -> bytes:
        """A key of 32 bytes that nobody without this one can tell: the same for the same `about`."""
        derivation = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=b"heliosdb derived key v1\0" + about)
        return derivation.derive(self._base)

    def seal(self, plain: bytes, *, about: bytes, scope: str = "", version: int = 0) -> bytes:
        """Seal; about: table and row; scope: purpose and workspace, by which the wrapping key is chosen."""
        head = _HEAD.pack(MAGIC, self._current, _scope(scope), version)
        key = secrets.token_bytes(_KEY_BYTES)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return b"".join(
            (self._wrap(head, key), nonce, AESGCM(key).encrypt(nonce, plain, _bound(head, about)))
        )

    def open(self, sealed: bytes, *, about: bytes, version: int | None = None) -> bytes:
        """Open what `seal` made; version: the one that it has to be, None: any. Raises UnopenedError."""
        if not is_wrapped(sealed):
            return self._open_former(sealed, about)
        head = sealed[: _HEAD.size]
        if version is not None and version_of(sealed) != version:
            raise UnopenedError
        return _decrypt(self._unwrap(sealed), sealed[HEADER_BYTES:], _bound(head, about))

    def rewrap(self, header: bytes) -> bytes:
        """Return the header under the current root key; raises UnopenedError where its own is not at hand."""
        key = self._unwrap(header)
        _, _, scope, version = _HEAD.unpack(header[: _HEAD.size])
        return self._wrap(_HEAD.pack(MAGIC, self._current, scope, version), key)

    def is_current(self, sealed: bytes) -> bool:
        """Whether the current root key opens it."""
        return is_wrapped(sealed) and sealed[4 : 4 + NAME_BYTES] == self._current

    def _wrap(self, head: bytes, key: bytes) -> bytes:
        return head + _encrypt(self._wrapping_key(head), key, head)

    def _unwrap(self, sealed: bytes) -> bytes:
        head = sealed[: _HEAD.size]
        return _decrypt(self._wrapping_key(head), sealed[_HEAD.size : HEADER_BYTES], head)

    def _wrapping_key(self, head: bytes) -> bytes:
        _, name, scope, _ = _HEAD.unpack(head)
        root = self._roots.get(name)
        if root is None:
            raise UnopenedError
        return HKDF(
            hashes.SHA256(), _KEY_BYTES, salt=None, info=b"heliosdb wrapping key v1\0" + scope
        ).derive(root)

    def _open_former(self, sealed: bytes, about: bytes) -> bytes:
        for root in self._roots.values():
            try:
                return _decrypt(root, sealed, about)
            except UnopenedError:
                continue
        raise UnopenedError


def root_name(key: bytes) -> bytes:
    """By which a root key is known: 8 bytes of a keyed hash."""
    return hmac.digest(key, b"heliosdb root key name 1", hashlib.sha256)[:NAME_BYTES]


def version_of(sealed: bytes) -> int | None:
    """The version that it was sealed as; None for what an earlier release sealed."""
    return int(_HEAD.unpack(sealed[: _HEAD.size])[3]) if is_wrapped(sealed) else None


def _scope(scope: str) -> bytes:
    return hashlib.sha256(b"heliosdb scope 1\0" + scope.encode()).digest()[:_SCOPE_BYTES]


def _bound(head: bytes, about: bytes) -> bytes:
    """What a row's cipher text is bound to: all of its head but the root key's name, and what it is."""
    return b"heliosdb at rest 2\0" + head[4 + NAME_BYTES :] + about


def _encrypt(key: bytes, plain: bytes, about: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, about)


def _decrypt(key: bytes, sealed: bytes, about: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about)
    except (InvalidTag, ValueError) as error:
        raise UnopenedError from error
