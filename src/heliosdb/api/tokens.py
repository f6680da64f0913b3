"""Bearer tokens as the database makes them, recognised before it is asked about one.

What always holds: nothing but a token's hash leaves this module.
"""

from __future__ import annotations

import hashlib
import hmac
import re

_TOKEN = re.compile(r"hfl_[0-9a-f]{64}[0-9a-f]{8}")
_CHECKSUM = 8


def looks_like_token(text: str) -> bool:
    """Whether it is written as a token is, wherever it may be from."""
    return _TOKEN.fullmatch(text) is not None


def digest_of(text: str) -> bytes | None:
    """SHA-256 of a token; None for what is no token or was mistyped."""
    if not looks_like_token(text):
        return None
    body, checksum = text[:-_CHECKSUM], text[-_CHECKSUM:]
    if not hmac.compare_digest(hashlib.sha256(body.encode()).hexdigest()[:_CHECKSUM], checksum):
        return None
    return hashlib.sha256(text.encode()).digest()
