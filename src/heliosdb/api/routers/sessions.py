"""A browser's session: begun with a token, shown to the page, ended.

What always holds: what begins one is confirmed by the database first; who is refused is answered alike,
whatever was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, OpenRoute, needs, services
from heliosdb.api.identity import BearerWay, TokenClaim, VouchedClaim
from heliosdb.api.problems import unauthenticated
from heliosdb.api.sessions import Session, Sessions

_LARGEST_TOKEN = 16_384


class Login(BaseModel):
    """What a session begins with."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=1, max_length=_LARGEST_TOKEN)]


class SessionDocument(BaseModel):
    """Whom a page is shown to. csrf: what changes bring along; null for who needs no cookie to be known."""

    role: str
    expires_at: datetime | None
    csrf: str | None
    rights: list[str]


open_router = APIRouter(route_class=OpenRoute, tags=["session"])
router = APIRouter(route_class=GuardedRoute, tags=["session"])


@open_router.post("/session", response_model=SessionDocument)
async def log_in(request: Request, response: Response, body: Login) -> Any:
    """Begin a session with a token of federated_create_token, or a JWT of the configured issuer."""
    ours = services(request)
    shown = await _claim_of(body.token, ours.bearers)
    ours.claims.take(shown.key)
    identity = await ours.database.confirm(shown, Right.KNOWN)
    request.state.role = identity.role
    ours.identities.take(identity.key)
    session = ours.sessions.begin(shown)
    async with ours.database.call(identity, Right.KNOWN) as caller:
        document = await _describe(caller, ours.sessions, session, ours.config.sql_box)
    ours.sessions.give(response, session)
    return document


@router.get("/session", response_model=SessionDocument)
@needs(Right.KNOWN)
async def show_session(request: Request, caller: CallerHere) -> Any:
    """Show whom this page is shown to, and what that role may."""
    ours = services(request)
    session: Session | None = getattr(request.state, "session", None)
    return await _describe(caller, ours.sessions, session, ours.config.sql_box)


@open_router.delete("/session", status_code=204)
async def log_out(request: Request) -> Response:
    """End the session: its cookie opens nothing from now on, whoever may have kept it."""
    sessions = services(request).sessions
    session = sessions.look(request)
    if session is not None:
        sessions.require_csrf(request, session)
        sessions.end(session)
    response = Response(status_code=204)
    sessions.take_back(response)
    return response


async def _claim_of(text: str, ways: Sequence[BearerWay]) -> TokenClaim | VouchedClaim:
    for way in ways:
        if (claim := await way.claim_of(text)) is not None:
            return claim
    raise unauthenticated()


async def _describe(caller: Caller, sessions: Sessions, session: Session | None, box: bool) -> dict[str, Any]:
    rights = await caller.rights()
    return {
        "role": caller.role,
        "expires_at": None if session is None else datetime.fromtimestamp(session.expires, UTC),
        "csrf": None if session is None else sessions.csrf(session),
        "rights": [*rights, "sql"] if box else rights,
    }
