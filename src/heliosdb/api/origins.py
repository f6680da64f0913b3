"""Whether it was our page that had a browser send a call with what it has by itself: a cookie, a certificate.

What always holds: a call of another site's page, as browsers tell of it, changes nothing.
Sources: RFC 6454; Fetch Metadata Request Headers (W3C), section 2.3.
"""

from __future__ import annotations

from fastapi import Request

from heliosdb.api.config import ApiConfig
from heliosdb.api.problems import Problem

_SAFE = frozenset({"GET", "HEAD"})


def is_safe(request: Request) -> bool:
    """Whether a call changes nothing."""
    return request.method in _SAFE


def require_own_page(request: Request, config: ApiConfig) -> None:
    """Refuse what another site's page has sent: Problem 403. Who sends no such header is no browser."""
    site = request.headers.get("sec-fetch-site")
    # "none" is a person who typed the address.
    if site is not None and site != "same-origin" and not (site == "none" and is_safe(request)):
        raise foreign()
    origins = request.headers.getlist("origin")
    if origins and origins != [_own_origin(request, config)]:
        raise foreign()


def foreign() -> Problem:
    """The answer to what did not come from our page."""
    return Problem(403, "The call does not come from this server's own page.", sqlstate="42501")


def _own_origin(request: Request, config: ApiConfig) -> str:
    return config.origin or f"{request.url.scheme}://{request.headers.get('host', '').lower()}"
