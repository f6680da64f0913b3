"""What surrounds every call: a limit by address, headers that browsers obey, one line in the log.

What always holds: the line has method, path template, status, role and milliseconds, and never a token, a
body or what stands in a path's parameters.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heliosdb.api.limits import Buckets, address_key
from heliosdb.api.problems import as_problem

log = logging.getLogger("heliosdb.api.access")

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_TLS_HEADER = (b"strict-transport-security", b"max-age=31536000")


class Access:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, addresses: Buckets) -> None:
        self._app = app
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _with_headers(message.get("headers", ()), scope)}
            await send(message)

        client = scope.get("client")
        try:
            self._addresses.take(address_key(client[0] if client else None))
            await self._app(scope, receive, send_on)
        except Exception as error:
            # Once the answer has begun there is no other one.
            if status:
                raise
            await as_problem(error).response()(scope, receive, send_on)
        finally:
            _say(scope, status, time.monotonic() - began)


def _with_headers(headers: Iterable[tuple[bytes, bytes]], scope: Scope) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name.lower() for name, _ in given}
    ours = (*HEADERS, _TLS_HEADER) if scope.get("scheme") == "https" else HEADERS
    return given + [(name, value) for name, value in ours if name not in names]


def _say(scope: Scope, status: int, seconds: float) -> None:
    route = scope.get("route")
    # A role's name may hold anything, line breaks too.
    role = json.dumps(scope.get("state", {}).get("role"))
    log.info(
        "%s %s %s role=%s %.1fms", scope["method"], getattr(route, "path", "-"), status, role, seconds * 1000
    )
