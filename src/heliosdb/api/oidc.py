"""Callers that an OpenID Connect provider vouches for: a signed JWT leads to a role.

What always holds: the algorithm is one of two of the settings' side, never the token's choice alone; issuer,
audience, expiry and subject are there and right; a key set is fetched over verified TLS, bounded, and no more
often than the settings say, whatever keys tokens name.
Sources: RFC 7519, RFC 8725 (section 3), OpenID Connect Core 1.0 section 3.1.3.7.
"""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
from fastapi import Request

from heliosdb.api.config import OidcSettings
from heliosdb.api.identity import Claim, VouchedClaim, bearer_of
from heliosdb.api.problems import unauthenticated
from heliosdb.api.tokens import looks_like_token

log = logging.getLogger(__name__)

_ALGORITHMS = {"RS256": "RSA", "ES256": "EC"}
_LARGEST_KEY_SET = 1 << 20
_LARGEST_TOKEN = 16_384
_PATIENCE = 10.0
# A token that names an unknown key may have been signed with a new one.
_SOONEST = 10.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key set is where the settings say and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None is followed."""
        return


def read_key_set(source: str) -> bytes:
    """Fetch a key set from an https URL or read it from a file; OSError or ValueError."""
    if not source.startswith("https://"):
        text = Path(source).read_bytes()
    else:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(source, timeout=_PATIENCE) as answer:
            text = answer.read(_LARGEST_KEY_SET + 1)
    if len(text) > _LARGEST_KEY_SET:
        raise ValueError("the key set is too large")
    return text


class KeySet:
    """The provider's keys by their ids, read anew now and then. read: from a source to its bytes."""

    def __init__(
        self,
        source: str,
        refresh: float,
        read: Callable[[str], bytes] = read_key_set,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._refresh = refresh
        self._read = read
        self._clock = clock
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of that id; None where there is none such. While none can be read, the last ones stay."""
        async with self._lock:
            age = None if self._read_at is None else self._clock() - self._read_at
            if age is None or age > self._refresh or (key_id not in self._keys and age > _SOONEST):
                self._read_at = self._clock()
                try:
                    self._keys = _parse(await asyncio.to_thread(self._read, self._source))
                except (OSError, ValueError, jwt.PyJWTError) as error:
                    log.warning(
                        "the key set of the identity provider cannot be read: %s", type(error).__name__
                    )
            return self._keys.get(key_id)


def _parse(text: bytes) -> Mapping[str, jwt.PyJWK]:
    keys = jwt.PyJWKSet.from_json(text.decode()).keys
    return {
        key.key_id: key
        for key in keys
        if key.key_id and key.public_key_use in (None, "sig") and key.key_type in _ALGORITHMS.values()
    }


class OidcTokens:
    """JWTs of the provider of the settings. keys: its key set."""

    def __init__(self, settings: OidcSettings, keys: KeySet | None = None) -> None:
        self._settings = settings
        self._keys = keys or KeySet(settings.jwks, settings.refresh)

    async def identify(self, request: Request) -> Claim | None:
        """The role that a JWT's claim leads to; None where the request has no bearer token or one of ours."""
        text = bearer_of(request)
        return None if text is None else await self.claim_of(text)

    async def claim_of(self, text: str) -> VouchedClaim | None:
        """The same of a text; None for a token of ours."""
        if looks_like_token(text):
            return None
        if len(text) > _LARGEST_TOKEN:
            raise unauthenticated()
        try:
            return self._to_claim(await self._verify(text))
        except (jwt.PyJWTError, ValueError, TypeError):
            raise unauthenticated() from None

    async def _verify(self, text: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(text)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in _ALGORITHMS or not isinstance(key_id, str) or "crit" in header:
            raise unauthenticated()
        key = await self._keys.find(key_id)
        if key is None or key.key_type != _ALGORITHMS[algorithm]:
            raise unauthenticated()
        return jwt.decode(
            text,
            key.key,
            algorithms=[algorithm],
            issuer=self._settings.issuer,
            audience=self._settings.audience,
            leeway=self._settings.leeway,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )

    def _to_claim(self, claims: Mapping[str, Any]) -> VouchedClaim:
        told = claims.get(self._settings.claim)
        values = {value for value in (told if isinstance(told, list) else [told]) if isinstance(value, str)}
        for value, role in self._settings.roles.items():
            if value in values:
                until = float(claims["exp"]) + self._settings.leeway
                return VouchedClaim(role, f"{claims['iss']} {claims['sub']}", until)
        raise unauthenticated()
