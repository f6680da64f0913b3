"""Sessions of browsers: what somebody logged in with, sealed into a cookie that only this process can open.

What always holds: a session opens nothing that the database does not confirm at each call, so it ends with
its token; it ends by itself, and for good where somebody logs out; neither the cookie nor the process holds
a token, only its hash; a cookie alone changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from fastapi import Request, Response

from heliosdb.api.config import ApiConfig
from heliosdb.api.identity import Claim, SessionClaim, TokenClaim, VouchedClaim
from heliosdb.api.origins import foreign, is_safe
from heliosdb.api.problems import Problem, unauthenticated

CSRF_HEADER = "x-csrf-token"
_CONTEXT = b"heliosdb session 1"
_NONCE = 12
# Browsers keep no cookie of more than 4,096 bytes, its name and attributes among them.
_LARGEST = 3_800
_RENEW_AFTER = 60.0
_MOST_ENDED = 100_000


@dataclass(frozen=True, slots=True)
class Session:
    """A session. Times are seconds since 1970; seen: when its cookie was made."""

    key: str
    shown: TokenClaim | VouchedClaim
    expires: float
    seen: float


class Sessions:
    """Begins sessions, recognises and ends them. clock: seconds since 1970."""

    def __init__(self, config: ApiConfig, clock: Callable[[], float] = time.time) -> None:
        self._length = config.session_length
        self._idle = config.session_idle
        self._is_secure = config.is_secure
        self._clock = clock
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._csrf_key = secrets.token_bytes(32)
        self._ended: OrderedDict[str, float] = OrderedDict()
        # With the prefix a browser takes the cookie from this host alone, over TLS, and no page of another
        # host can put one in its place.
        self.cookie = "__Host-heliosdb" if self._is_secure else "heliosdb"

    async def identify(self, request: Request) -> Claim | None:
        """The claim of a request's cookie; None without one and beside a bearer token.

        Problem 401 for a cookie that opens nothing, 403 for a change without the session's CSRF token.
        """
        if "authorization" in request.headers or not _cookies(request, self.cookie):
            return None
        session = self.look(request)
        if session is None:
            raise unauthenticated()
        if not is_safe(request):
            self.require_csrf(request, session)
        request.state.session = session
        return SessionClaim(session.shown, lambda: self._lasts(session))

    def begin(self, shown: TokenClaim | VouchedClaim) -> Session:
        """A new session of who has shown this; it never goes on with a key that a browser brought."""
        now = self._clock()
        until = getattr(shown, "until", None)
        expires = now + self._length if until is None else min(now + self._length, until)
        return Session(secrets.token_urlsafe(16), shown, expires, now)

    def look(self, request: Request) -> Session | None:
        """The session of a request's one cookie; None where there is none, or it is over."""
        values = _cookies(request, self.cookie)
        session = self._open(values[0]) if len(values) == 1 else None
        return session if session is not None and self._lasts(session) else None

    def end(self, session: Session) -> None:
        """End it for good; Problem 429 where too many have been ended of late."""
        now = self._clock()
        # Older cookies are idle for too long by now, and younger ones cannot come to be.
        while self._ended and next(iter(self._ended.values())) < now - self._idle:
            self._ended.popitem(last=False)
        if len(self._ended) >= _MOST_ENDED:
            raise Problem(429, "Too many sessions were ended.", retry_after=60)
        self._ended[session.key] = now

    def csrf(self, session: Session) -> str:
        """What a change has to bring along beside the cookie: a page of another site cannot read it."""
        return hmac.new(self._csrf_key, session.key.encode(), hashlib.sha256).hexdigest()

    def require_csrf(self, request: Request, session: Session) -> None:
        """Problem 403 for a request that does not bring it."""
        brought = request.headers.getlist(CSRF_HEADER)
        if len(brought) != 1 or not hmac.compare_digest(brought[0].encode(), self.csrf(session).encode()):
            raise foreign()

    def give(self, response: Response, session: Session) -> None:
        """Set the cookie; Problem 422 where what was shown does not fit into one."""
        sealed = self._seal(session)
        if len(sealed) > _LARGEST:
            raise Problem(422, "The name of this identity is too long for a session.", sqlstate="22023")
        age = max(0, int(session.expires - self._clock()))
        self._set(response, sealed, age)

    def renew(self, request: Request, response: Response) -> None:
        """Set the cookie anew where the request's session has been in use for a while."""
        session: Session | None = getattr(request.state, "session", None)
        if session is not None and self._clock() - session.seen > _RENEW_AFTER:
            self.give(response, replace(session, seen=self._clock()))

    def take_back(self, response: Response) -> None:
        """Have the browser forget the cookie."""
        self._set(response, "", 0)

    def _set(self, response: Response, value: str, age: int) -> None:
        response.set_cookie(
            self.cookie,
            value,
            max_age=age,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="strict",
        )

    def _lasts(self, session: Session) -> bool:
        now = self._clock()
        return now < session.expires and now < session.seen + self._idle and session.key not in self._ended

    def _seal(self, session: Session) -> str:
        text = json.dumps(_to_document(session)).encode()
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, text, _CONTEXT)
        # A padded value would be put into quotes.
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def _open(self, value: str) -> Session | None:
        try:
            sealed = base64.b64decode(
                value.encode() + b"=" * (-len(value) % 4), altchars=b"-_", validate=True
            )
            text = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _CONTEXT)
        except (ValueError, binascii.Error, InvalidTag):
            return None
        return _from_document(json.loads(text))


def _to_document(session: Session) -> dict[str, Any]:
    shown = session.shown
    claim: dict[str, Any] = (
        {"digest": shown.digest.hex()}
        if isinstance(shown, TokenClaim)
        else {"role": shown.role, "subject": shown.subject, "until": shown.until}
    )
    return {"key": session.key, "expires": session.expires, "seen": session.seen, **claim}


def _from_document(document: dict[str, Any]) -> Session:
    shown: TokenClaim | VouchedClaim
    if "digest" in document:
        shown = TokenClaim(bytes.fromhex(document["digest"]))
    else:
        shown = VouchedClaim(document["role"], document["subject"], document["until"])
    return Session(document["key"], shown, document["expires"], document["seen"])


def _cookies(request: Request, name: str) -> list[str]:
    """Every value that a request gives a cookie: two are a sign that somebody put one there."""
    pairs = (
        pair.strip().partition("=")
        for header in request.headers.getlist("cookie")
        for pair in header.split(";")
    )
    return [value for key, _, value in pairs if key == name]
