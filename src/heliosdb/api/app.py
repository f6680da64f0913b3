"""The application: routers under one prefix, behind one guard.

What always holds: nothing is served but what a router here names; a further door (a page, another protocol)
is a router or a mount of its own, with the same services and the same ways to say who one is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from heliosdb.api import problems
from heliosdb.api.access import Access
from heliosdb.api.certificates import ClientCertificates
from heliosdb.api.config import ApiConfig
from heliosdb.api.database import Database, Right
from heliosdb.api.guard import BEARER, CallerHere, GuardedRoute, Services, needs
from heliosdb.api.identity import Authenticator, BearerTokens
from heliosdb.api.limits import Buckets, Places
from heliosdb.api.oidc import OidcTokens
from heliosdb.api.routers import (
    audit,
    changes,
    events,
    experiments,
    figures,
    models,
    nodes,
    prediction,
    runs,
    training,
    versions,
    workspaces,
)
from heliosdb.api.schemas import ProblemDocument

PREFIX = "/api/v1/federated"

_ROUTERS = (
    workspaces,
    nodes,
    models,
    versions,
    figures,
    training,
    runs,
    events,
    prediction,
    experiments,
    changes,
    audit,
)
_PROBLEM: dict[str, Any] = {
    "description": "A problem document.",
    "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
}


def create_app(config: ApiConfig, more_ways: Sequence[Authenticator] = ()) -> FastAPI:
    """Make the application. more_ways: further ways to say who one is, asked first."""
    database = Database(config)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await database.open()
        try:
            yield
        finally:
            await database.close()

    app = FastAPI(
        title="HeliosDB federated learning",
        version="1",
        # Their pages load scripts from another host.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=life,
        redirect_slashes=False,
    )
    app.state.services = Services(
        config,
        database,
        (*more_ways, *_ways(config)),
        Buckets(config.identity_rate),
        Buckets(config.identity_rate),
        Places(config.event_streams, config.event_streams_each, "Too many event streams are open."),
        Places(config.bodies, max(1, config.bodies // 2), "Too many calls with a body are under way.", 1),
    )
    problems.install(app)
    app.add_middleware(Access, addresses=Buckets(config.address_rate))
    for module in _ROUTERS:
        app.include_router(
            module.router,
            prefix=PREFIX,
            dependencies=[Depends(BEARER)],
            responses={"default": _PROBLEM, 422: _PROBLEM},
        )
    app.include_router(_description(), prefix=PREFIX)
    return app


def _ways(config: ApiConfig) -> list[Authenticator]:
    ways: list[Authenticator] = [BearerTokens()]
    if config.oidc is not None:
        ways.append(OidcTokens(config.oidc))
    if config.client_certificates is not None:
        ways.append(ClientCertificates(config.client_certificates))
    return ways


def _description() -> APIRouter:
    """The OpenAPI document, for those who may read."""
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/openapi.json", include_in_schema=False)
    @needs(Right.READ)
    async def describe(request: Request, caller: CallerHere) -> JSONResponse:
        del caller
        return JSONResponse(request.app.openapi())

    return router
