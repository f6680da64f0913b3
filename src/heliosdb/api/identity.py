"""Who calls: what a request shows is turned into a claim, which the database then confirms or not.

What always holds: a request that shows two bearer tokens, or one that cannot be verified, is nobody's; the
answer to it is the same whatever was wrong.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fastapi import Request

from heliosdb.api.problems import unauthenticated
from heliosdb.api.tokens import digest_of, looks_like_token


@dataclass(frozen=True, slots=True)
class TokenClaim:
    """A bearer token of the database, by its SHA-256."""

    digest: bytes

    @property
    def key(self) -> str:
        """What its calls are counted under before the database has said whose it is."""
        return f"token:{self.digest.hex()}"

    def confirmed_key(self, role: str) -> str:
        """What they are counted under then: its role, because whoever has a role may make tokens for it."""
        return f"role:{role}"

    def holds(self) -> bool:
        """Whether it may still be shown to the database, which alone knows the rest."""
        return True


@dataclass(frozen=True, slots=True)
class VouchedClaim:
    """A role that an authority of the settings vouches for, and under which name it knows the caller.

    until: seconds since 1970 after which it no longer does; None where it set no end.
    """

    role: str
    subject: str
    until: float | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """What its calls are counted under."""
        return f"subject:{hashlib.sha256(self.subject.encode()).hexdigest()}"

    def confirmed_key(self, role: str) -> str:
        """The same once the role is confirmed: nobody gives himself another name."""
        del role
        return self.key

    def holds(self) -> bool:
        """Whether the authority still vouches for it."""
        return self.until is None or time.time() < self.until


@dataclass(frozen=True, slots=True)
class SessionClaim:
    """What was shown when a session began. lasts: whether the session is not over."""

    shown: TokenClaim | VouchedClaim
    lasts: Callable[[], bool] = field(compare=False)

    @property
    def key(self) -> str:
        """What its calls are counted under: the same as without a session."""
        return self.shown.key

    def confirmed_key(self, role: str) -> str:
        """The same once the role is confirmed."""
        return self.shown.confirmed_key(role)

    def holds(self) -> bool:
        """Whether neither the session is over nor what it began with."""
        return self.lasts() and self.shown.holds()


Claim = TokenClaim | VouchedClaim | SessionClaim


class Authenticator(Protocol):
    """One way to say who one is."""

    async def identify(self, request: Request) -> Claim | None:
        """The claim of a request; None where it uses another way; a Problem 401 where it uses this badly."""
        ...


class BearerWay(Authenticator, Protocol):
    """A way by a text that its bearer shows."""

    async def claim_of(self, text: str) -> TokenClaim | VouchedClaim | None:
        """The claim of a text; None where it is one of another way; a Problem 401 for a bad one."""
        ...


class BearerTokens:
    """Tokens that were made in the database by federated_create_token."""

    async def identify(self, request: Request) -> Claim | None:
        """The claim of a token, which the database is still to be asked about."""
        text = bearer_of(request)
        return None if text is None else await self.claim_of(text)

    async def claim_of(self, text: str) -> TokenClaim | None:
        """The claim of a text that is written as a token is."""
        if not looks_like_token(text):
            return None
        digest = digest_of(text)
        if digest is None:
            raise unauthenticated()
        return TokenClaim(digest)


def bearer_of(request: Request) -> str | None:
    """What stands behind `Authorization: Bearer`; a Problem 401 for another scheme and two such headers."""
    headers = request.headers.getlist("authorization")
    if not headers:
        return None
    scheme, _, text = headers[0].partition(" ")
    if len(headers) > 1 or scheme.lower() != "bearer" or not text.strip():
        raise unauthenticated()
    return text.strip()


async def identify(request: Request, ways: Sequence[Authenticator]) -> Claim:
    """Who calls, by the first of the ways that the request uses; a Problem 401 where it uses none."""
    for way in ways:
        if (claim := await way.identify(request)) is not None:
            return claim
    raise unauthenticated()
