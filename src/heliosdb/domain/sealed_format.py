"""Where in sealed bytes the part lies that another root key changes (transport/at_rest.py writes it).

What always holds: the digest of sealed bytes is the same whichever root key wraps them; who has it knows
that the cipher text is the one that was meant. `federated._sealed_digest` computes the same.
"""

from __future__ import annotations

import hashlib

MAGIC = b"HFS2"
HEADER_BYTES = 96
"""Magic, root key's name, scope, version, and the row's wrapped key."""


class SealedDigest:
    """SHA-256 of sealed bytes that come in pieces, but for their header."""

    def __init__(self) -> None:
        self._front = b""
        self._hash = hashlib.sha256()
        self._is_open = True

    def update(self, piece: bytes) -> None:
        """Take the next bytes in."""
        if not self._is_open:
            self._hash.update(piece)
            return
        self._front += piece
        if len(self._front) >= HEADER_BYTES:
            self._begin()

    def digest(self) -> bytes:
        """The digest of all that was taken in."""
        if self._is_open:
            self._begin()
        return self._hash.digest()

    def _begin(self) -> None:
        self._is_open = False
        self._hash.update(self._front[HEADER_BYTES:] if is_wrapped(self._front) else self._front)
        self._front = b""


def is_wrapped(sealed: bytes) -> bool:
    """Whether it has a header; what an earlier release sealed begins with a random nonce."""
    return sealed.startswith(MAGIC) and len(sealed) >= HEADER_BYTES


def sealed_digest(sealed: bytes) -> bytes:
    """SHA-256 of sealed bytes but for their header."""
    found = SealedDigest()
    found.update(sealed)
    return found.digest()
