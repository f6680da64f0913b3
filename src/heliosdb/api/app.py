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

from heliosdb.api import pages, problems
from heliosdb.api.access import Access
from heliosdb.api.box import Box
from heliosdb.api.certificates import ClientCertificates
from heliosdb.api.config import ApiConfig
from heliosdb.api.database import Database, Right
from heliosdb.api.guard import BEARER, CallerHere, GuardedRoute, Services, needs
from heliosdb.api.identity import Authenticator, BearerTokens, BearerWay
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
    sql,
    training,
    versions,
    workspaces,
)
from heliosdb.api.routers import sessions as session_paths
from heliosdb.api.schemas import ProblemDocument
from heliosdb.api.serving.inference import Inference
from heliosdb.api.serving.rest import make_routes
from heliosdb.api.sessions import Sessions

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
    session_paths,
    sql,
)
_PROBLEM: dict[str, Any] = {
    "description": "A problem document.",
    "content": {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}},
}


def create_app(config: ApiConfig, more_ways: Sequence[Authenticator] = ()) -> FastAPI:
    """Make the application. more_ways: further ways to say who one is, asked first."""
    database, identities = Database(config), Buckets(config.identity_rate)
    addresses = Buckets(config.address_rate)
    inference = Inference(config, database, identities)
    sessions, bearers = Sessions(config), _bearers(config)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await database.open()
        await inference.open()
        try:
            yield
        finally:
            await inference.close()
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
        (*more_ways, sessions, *bearers, *_certificates(config)),
        bearers,
        sessions,
        Box(database, config.sql_timeout) if config.sql_box else None,
        Buckets(config.identity_rate),
        identities,
        addresses,
        Places(config.event_streams, config.event_streams_each, "Too many event streams are open."),
        Places(config.sql_connections, max(1, config.sql_connections // 2), "Too many statements run.", 1),
        Places(config.bodies, max(1, config.bodies // 8), "Too many log in from this address.", 1),
        Places(config.bodies, max(1, config.bodies // 2), "Too many calls with a body are under way.", 1),
        inference,
    )
    problems.install(app)
    app.add_middleware(Access, addresses=addresses)
    app.router.routes.extend(make_routes())
    for router in (*(module.router for module in _ROUTERS), session_paths.open_router):
        app.include_router(
            router,
            prefix=PREFIX,
            dependencies=[Depends(BEARER)],
            responses={"default": _PROBLEM, 422: _PROBLEM},
        )
    app.include_router(_description(), prefix=PREFIX)
    app.include_router(pages.make_router(pages.read_pages()))
    return app


def _bearers(config: ApiConfig) -> tuple[BearerWay, ...]:
    oidc = () if config.oidc is None else (OidcTokens(config.oidc),)
    return (BearerTokens(), *oidc)


def _certificates(config: ApiConfig) -> Sequence[Authenticator]:
    settings = config.client_certificates
    return () if settings is None else (ClientCertificates(settings),)


def _description() -> APIRouter:
    """The OpenAPI document, for those who may read."""
    router = APIRouter(route_class=GuardedRoute)

    @router.get("/openapi.json", include_in_schema=False)
    @needs(Right.READ)
    async def describe(request: Request, caller: CallerHere) -> JSONResponse:
        del caller
        return JSONResponse(request.app.openapi())

    return router
