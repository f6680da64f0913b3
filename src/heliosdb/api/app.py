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
from heliosdb.api.routers import events, models, nodes, prediction, training, workspaces
from heliosdb.api.schemas import ProblemDocument
from heliosdb.api.serving.inference import Inference
from heliosdb.api.serving.rest import make_routes

PREFIX = "/api/v1/federated"

_PROBLEM: dict[str, Any] = {
    "description": "A problem document.",
    "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
}


def create_app(config: ApiConfig, more_ways: Sequence[Authenticator] = ()) -> FastAPI:
    """Make the application. more_ways: further ways to say who one is, asked first."""
    services = _services(config, more_ways)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await services.database.open()
        await services.inference.open()
        try:
            yield
        finally:
            await services.inference.close()
            await services.database.close()

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
    app.state.services = services
    problems.install(app)
    app.add_middleware(Access, addresses=services.addresses)
    app.router.routes.extend(make_routes())
    for module in (workspaces, nodes, models, training, events, prediction):
        app.include_router(
            module.router,
            prefix=PREFIX,
            dependencies=[Depends(BEARER)],
            responses={"default": _PROBLEM, 422: _PROBLEM},
        )
    app.include_router(_description(), prefix=PREFIX)
    return app


def _services(config: ApiConfig, more_ways: Sequence[Authenticator]) -> Services:
    database, identities = Database(config), Buckets(config.identity_rate)
    return Services(
        config,
        database,
        (*more_ways, *_ways(config)),
        Buckets(config.identity_rate),
        identities,
        Buckets(config.address_rate),
        Places(config.event_streams, config.event_streams_each, "Too many event streams are open."),
        Places(config.bodies, max(1, config.bodies // 2), "Too many calls with a body are under way.", 1),
        Inference(config, database, identities),
    )


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
