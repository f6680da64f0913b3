"""The protocol by REST: paths under /v2.

What always holds: a body is read only of a call that was admitted, and none is admitted for what a browser
shows by itself to another site's page. The calls have no part in FastAPI's own
handling: nothing on their way is validated twice.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import psycopg
from fastapi import Request, Response
from pydantic_core import to_json
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from heliosdb.api.database import Right
from heliosdb.api.guard import check_declared, find_claim, read_body, services
from heliosdb.api.problems import INFERENCE_PREFIX, Problem, as_problem
from heliosdb.api.serving.admission import Admitted
from heliosdb.api.serving.rest_messages import answer_to_json, metadata_to_json, request_from_json

NAME = "heliosdb"
PLATFORM = "heliosdb"
VERSION = version("heliosdb-federated-learning")


class ProtocolRoute(Route):
    """A path of the protocol, which the log's line of a call names by its template."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As a route's; the route is in the scope besides."""
        match, child = super().matches(scope)
        return match, {**child, "route": self}


async def _live(_: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    ready = await services(request).inference.ready()
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _server(request: Request) -> Response:
    ours = services(request)
    identity = await ours.database.confirm(await find_claim(request), Right.PREDICT)
    request.state.role = identity.role
    ours.identities.take(identity.key)
    return JSONResponse({"name": NAME, "version": VERSION, "extensions": []})


async def _admit(request: Request) -> Admitted:
    """Let a call in by its path; a Problem 401, 403, 404, 409 or 429."""
    claim = await find_claim(request)
    path = request.path_params
    admitted = await services(request).inference.admit(claim, path["model"], path.get("version"))
    request.state.role = admitted.identity.role
    return admitted


async def _model(request: Request) -> Response:
    admitted = await _admit(request)
    served, versions = await services(request).inference.describe(admitted)
    told: dict[str, Any] = {
        "name": admitted.model,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [metadata_to_json(one) for one in served.signature.inputs],
        "outputs": [metadata_to_json(one) for one in served.signature.outputs],
    }
    return JSONResponse(told)


async def _model_ready(request: Request) -> Response:
    name = request.path_params["model"]
    try:
        admitted = await _admit(request)
    except (psycopg.Error, Problem) as error:
        problem = as_problem(error)
        if problem.status != 409:
            raise
        told = {"name": name, "ready": False, "error": problem.detail, **problem.document()}
        return JSONResponse(told, problem.status)
    return JSONResponse({"name": admitted.model, "ready": True})


async def _infer(request: Request) -> Response:
    ours = services(request)
    check_declared(request, ours.config)
    admitted = await _admit(request)
    with ours.inference.places.one_more(admitted.identity.key):
        asked = request_from_json(await read_body(request, ours.config))
        answer = await ours.inference.answer(admitted, asked)
    return Response(to_json(answer_to_json(answer, asked.id)), media_type="application/json")


def make_routes() -> list[BaseRoute]:
    """The paths, the most frequent first."""
    model = INFERENCE_PREFIX + "/models/{model}"
    paths = [
        ("/infer", _infer, "POST"),
        ("", _model, "GET"),
        ("/ready", _model_ready, "GET"),
    ]
    return [
        *(
            ProtocolRoute(base + path, endpoint, methods=[method])
            for path, endpoint, method in paths
            for base in (model, model + "/versions/{version}")
        ),
        ProtocolRoute(INFERENCE_PREFIX + "/health/live", _live, methods=["GET"]),
        ProtocolRoute(INFERENCE_PREFIX + "/health/ready", _ready, methods=["GET"]),
        ProtocolRoute(INFERENCE_PREFIX, _server, methods=["GET"]),
    ]
