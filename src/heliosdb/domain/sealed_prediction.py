"""What a version predicts by, sealed to its database server: the catalog holds cipher text.

What always holds: of a sealed version the catalog shows what its function must be called with (features,
their levels, classes, link) and no weight; what it holds of any version stays readable beside that: means and
scales of features and target (`federated.version.scaling`), figures of reports. It opens only with the
server's key, and only as the numbers of that very version. A random key is sealed as something short is
(domain/sealed_box.py), the numbers under it (AES-256-GCM).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from heliosdb.domain import sealed_box
from heliosdb.domain.sealed_box import UnopenedBoxError, public_key

__all__ = ["SEALED", "is_sealed", "open_numbers", "public_key", "seal_numbers", "split_content"]

SEALED = "sealed"
"""The key of a stored prediction that says so."""

_SHOWN = frozenset({"kind", "booleans", "classes", "encoding", "link", "boosts", "votes", "margin"})
"""Of a prediction what its functions are made of."""

_MAGIC = b"heliosdb sealed numbers 1\0"
_BOX_BYTES = sealed_box.OVERHEAD_BYTES + 64
"""Of a sealed key: with its length it takes one block."""
_NONCE = bytes(12)
"""Each key seals once."""


def split_content(prediction: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what of a stored prediction may be shown, and what is sealed."""
    shown = {name: value for name, value in prediction.items() if name in _SHOWN}
    return shown | {SEALED: True}, {n: v for n, v in prediction.items() if n not in _SHOWN}


def seal_numbers(public: bytes, content: Mapping[str, Any], arrays: bytes | None, version: UUID) -> bytes:
    """Seal a version's numbers to its server's public key. version: its key (`federated._version_key`)."""
    key, about = secrets.token_bytes(sealed_box.KEY_BYTES), _about(version)
    box = sealed_box.seal_box(public, key, about=about)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    told = json.dumps(content, allow_nan=False).encode()
    plain = len(told).to_bytes(8, "little") + told + (arrays or b"")
    return _MAGIC + box + AESGCM(key).encrypt(_NONCE, plain, about)


def is_sealed(raw: bytes | None) -> bool:
    """Whether these are sealed numbers, and not arrays in plain."""
    return raw is not None and raw.startswith(_MAGIC)


def open_numbers(private: bytes, sealed: bytes, version: UUID) -> tuple[dict[str, Any], bytes | None]:
    """Return content and arrays of what `seal_numbers` made for this version; raises UnopenedBoxError."""
    raw, about = sealed[len(_MAGIC) :], _about(version)
    if not is_sealed(sealed) or len(raw) <= _BOX_BYTES:
        raise UnopenedBoxError
    key = sealed_box.open_box(private, raw[:_BOX_BYTES], about=about)
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        plain = AESGCM(key).decrypt(_NONCE, raw[_BOX_BYTES:], about)
    except (InvalidTag, ValueError) as error:
        raise UnopenedBoxError from error
    end = 8 + int.from_bytes(plain[:8], "little")
    return json.loads(plain[8:end]), plain[end:] or None


def _about(version: UUID) -> bytes:
    """Table, column and row; a version's numbers never change, so that there is no older state of the row."""
    return b"federated.version\0prediction_arrays\0" + version.bytes
