"""Models: what they are, and how they do."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from federated_sql.statements import CreateModel
from heliosdb.api.database import Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.notices import HEADERS, rows_with_notices
from heliosdb.api.routers.found import find_model, find_workspace, reference_to
from heliosdb.api.schemas import (
    Evaluation,
    Limit,
    Model,
    ModelName,
    NewModel,
    Offset,
    VersionQuery,
    WorkspaceName,
    to_options,
)

router = APIRouter(route_class=GuardedRoute, tags=["models"])

_MODEL = "/workspaces/{workspace}/models/{model}"


@router.get("/workspaces/{workspace}/models", response_model=list[Model])
@needs(Right.READ)
async def list_models(
    caller: CallerHere, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List the models of the workspace by name."""
    await find_workspace(caller, workspace)
    return await caller.rows("models", workspace, limit, offset)


@router.post("/workspaces/{workspace}/models", response_model=Model, status_code=201)
@needs(Right.OPERATE)
async def create_model(caller: CallerHere, workspace: WorkspaceName, body: NewModel) -> Any:
    """Create a model: CREATE FEDERATED MODEL."""
    await caller.execute(CreateModel(body.name, workspace, to_options(body.options)))
    return await find_model(caller, workspace, body.name)


@router.get(_MODEL, response_model=Model)
@needs(Right.READ)
async def show_model(caller: CallerHere, workspace: WorkspaceName, model: ModelName) -> Any:
    """Show a model."""
    return await find_model(caller, workspace, model)


@router.get(_MODEL + "/evaluate", response_model=Evaluation, responses=HEADERS)
@needs(Right.READ)
async def evaluate(
    caller: CallerHere,
    response: Response,
    workspace: WorkspaceName,
    model: ModelName,
    version: VersionQuery = None,
) -> Any:
    """Show how a version did over the held-out rows of all nodes: federated_evaluate."""
    await find_model(caller, workspace, model)
    reference = reference_to(model, version)
    rows = await rows_with_notices(caller, response, "evaluation", reference)
    return {"model": reference, "metrics": {row["metric"]: row["value"] for row in rows}}
