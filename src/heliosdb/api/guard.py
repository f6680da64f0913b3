"""The way of every call: who calls, how often, the body in its bounds, one transaction as the caller's role.

What always holds: a path without a stated right cannot be built; a body is read, and what is wrong with it is
said, only for whoever may send it; no parameter is ignored; the answer is sent after COMMIT.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.types import Receive

from heliosdb.api.box import Box
from heliosdb.api.config import ApiConfig
from heliosdb.api.database import Caller, Database, Identity, Right
from heliosdb.api.identity import Authenticator, BearerWay, Claim, identify
from heliosdb.api.limits import Buckets, Places, address_key
from heliosdb.api.origins import require_own_page
from heliosdb.api.problems import Problem
from heliosdb.api.serving.inference import Inference
from heliosdb.api.sessions import Sessions

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_RIGHT = "heliosdb_right"
_DEEPEST = 32
# Of who is not known yet: a JWT and little else.
_SMALL = 20_000


@dataclass(frozen=True)
class Services:
    """What the application has, as `app.state.services`.

    claims: calls by what they show, before anybody has said whether it holds. identities: by whose they are.
    addresses: by where they come from.
    bearers: the ways among `ways` that a session may begin with. logins: bodies of who is not known yet,
    which take no place of other bodies.
    """

    config: ApiConfig
    database: Database
    ways: tuple[Authenticator, ...]
    bearers: tuple[BearerWay, ...]
    sessions: Sessions = field(repr=False)
    box: Box | None = field(repr=False)
    claims: Buckets
    identities: Buckets
    addresses: Buckets = field(repr=False)
    streams: Places = field(repr=False)
    statements: Places = field(repr=False)
    logins: Places = field(repr=False)
    bodies: Places = field(repr=False)
    inference: Inference = field(repr=False)


def services(request: Request) -> Services:
    """The services of the application that a request is for."""
    found: Services = request.app.state.services
    return found


def needs(right: Right) -> Callable[[Endpoint], Endpoint]:
    """Say what right the decorated endpoint needs."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _RIGHT, right)
        return endpoint

    return mark


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _identity(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


CallerHere = Annotated[Caller, Depends(_caller)]
IdentityHere = Annotated[Identity, Depends(_identity)]
# Says in the OpenAPI document how callers authenticate; who they are is found before it is asked.
BEARER = HTTPBearer(
    auto_error=False, description="A token of federated_create_token, or a JWT of the configured issuer."
)


class StrictRequest(Request):
    """A request whose JSON is what RFC 8259 says, and text that can be stored."""

    async def json(self) -> Any:
        """The body; a Problem 400 where it is no JSON."""
        return parse_json(await self.body())


def parse_json(text: bytes) -> Any:
    """Read JSON without NaN, infinities, keys given twice, deep nesting and text that is not Unicode."""
    try:
        value = json.loads(
            text.decode("utf-8"), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique
        )
        _check_depth(value)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        fault = str(error) if isinstance(error, _FaultError) else "The body is not JSON."
        raise Problem(400, fault, sqlstate="22032") from None
    return value


class _FaultError(ValueError):
    """What is wrong with JSON beyond its grammar."""


def _refuse(name: str) -> Any:
    raise _FaultError(f"{name} is not a number of JSON.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _FaultError("A number of the body is out of range.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _FaultError("A key of the body is given twice.")
    return found


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise _FaultError("The body is nested too deeply.")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        _check_depth(one, depth + 1)


class GuardedRoute(APIRoute):
    """A path whose endpoint runs inside the transaction of its caller."""

    def get_route_handler(self) -> Handler:
        """The handler behind the guard; TypeError for an endpoint that says no right."""
        inner = super().get_route_handler()
        right = _right_of(self)
        known = _query_of(self)

        async def handle(request: Request) -> Response:
            ours = services(request)
            check_declared(request, ours.config)
            identity = await _admit(request, right)
            _check_query(request, known)
            async with AsyncExitStack() as held:
                if _has_body(request):
                    held.enter_context(ours.bodies.one_more(identity.key))
                    await _keep_body(request, ours.config)
                request.state.caller = await held.enter_async_context(ours.database.call(identity, right))
                response = await inner(StrictRequest(request.scope, request.receive))
                ours.sessions.renew(request, response)
                return response

        return handle


class StreamRoute(APIRoute):
    """A path that answers for longer than a transaction: its endpoint opens one at a time, with the claim."""

    def get_route_handler(self) -> Handler:
        """The handler behind the guard; TypeError for an endpoint that says no right."""
        inner = super().get_route_handler()
        right = _right_of(self)
        known = _query_of(self)

        async def handle(request: Request) -> Response:
            request.state.identity = await _admit(request, right)
            _check_query(request, known)
            response = await inner(request)
            services(request).sessions.renew(request, response)
            return response

        return handle


class BodyRoute(APIRoute):
    """A path whose endpoint gets who calls and a body, and opens no transaction of the pool's.

    `request.state.gone` is to be awaited: it returns when the client has gone.
    """

    def get_route_handler(self) -> Handler:
        """The handler behind the guard; TypeError for an endpoint that says no right."""
        inner = super().get_route_handler()
        right = _right_of(self)
        known = _query_of(self)

        async def handle(request: Request) -> Response:
            ours = services(request)
            check_declared(request, ours.config)
            identity = request.state.identity = await _admit(request, right)
            _check_query(request, known)
            request.state.gone = partial(_until_gone, request.receive)
            with ours.bodies.one_more(identity.key):
                await _keep_body(request, ours.config)
                response = await inner(StrictRequest(request.scope, request.receive))
            ours.sessions.renew(request, response)
            return response

        return handle


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class OpenRoute(APIRoute):
    """A path that says itself who calls, from a small body; what another site's page sends is refused."""

    def get_route_handler(self) -> Handler:
        """The handler behind what holds for everybody."""
        inner = super().get_route_handler()
        known = _query_of(self)

        async def handle(request: Request) -> Response:
            ours = services(request)
            _check_query(request, known)
            require_own_page(request, ours.config)
            small = ours.config.model_copy(update={"largest_body": min(_SMALL, ours.config.largest_body)})
            check_declared(request, small)
            with ExitStack() as held:
                if _has_body(request):
                    address = address_key(request.client.host if request.client else None)
                    held.enter_context(ours.logins.one_more(address))
                    await _keep_body(request, small)
                return await inner(StrictRequest(request.scope, request.receive))

        return handle


def _right_of(route: APIRoute) -> Right:
    right = getattr(route.endpoint, _RIGHT, None)
    if not isinstance(right, Right):
        raise TypeError(f"{route.path} does not say what right it needs")
    return right


def _query_of(route: APIRoute) -> frozenset[str]:
    """The query parameters that a path takes: those of its endpoint, for no dependency has any."""
    return frozenset(field.alias for field in route.dependant.query_params)


def _check_query(request: Request, known: frozenset[str]) -> None:
    """Refuse what would be ignored: a parameter that the path has not, or one that is given twice."""
    given = [name for name, _ in request.query_params.multi_items()]
    faults = {name: "is not taken by this path" for name in given if name not in known}
    faults |= {name: "is given twice" for name in known if given.count(name) > 1}
    if faults:
        raise Problem(
            422,
            "The request is not what this path takes.",
            sqlstate="22023",
            faults=[{"where": f"query.{name[:63]}", "fault": fault} for name, fault in faults.items()][:20],
        )


async def _admit(request: Request, right: Right) -> Identity:
    """Who calls, confirmed and counted, before anything of the request is kept; a Problem 401, 403 or 429."""
    ours = services(request)
    identity = await ours.database.confirm(await find_claim(request), right)
    request.state.role = identity.role
    ours.identities.take(identity.key)
    return identity


async def find_claim(request: Request) -> Claim:
    """Who says to call, counted; a Problem 401, 429, or 403 where another site's page had it sent."""
    ours = services(request)
    claim = await identify(request, ours.ways)
    if "authorization" not in request.headers:
        require_own_page(request, ours.config)
    ours.claims.take(claim.key)
    return claim


def check_declared(request: Request, config: ApiConfig) -> None:
    """A Problem 413 for a body that says of itself that it is too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > config.largest_body:
        raise _too_large(config)


def _has_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def read_body(request: Request, config: ApiConfig) -> bytes:
    """The whole body; a Problem 413 for one too large, 408 for one too slow."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(config.body_timeout):
            async for part in request.stream():
                size += len(part)
                if size > config.largest_body:
                    raise _too_large(config)
                parts.append(part)
    except TimeoutError:
        raise Problem(408, "The body did not arrive in time.") from None
    return b"".join(parts)


async def _keep_body(request: Request, config: ApiConfig) -> None:
    """Read the body before a connection is taken."""
    body = await read_body(request, config)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    request._receive = receive


def _too_large(config: ApiConfig) -> Problem:
    return Problem(413, f"A body may have {config.largest_body} bytes.", sqlstate="54000")
