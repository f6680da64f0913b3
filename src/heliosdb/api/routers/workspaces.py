"""Workspaces, and what belongs to them as a whole: budget, erasures, alerts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from federated_sql.statements import CreateWorkspace
from heliosdb.api.database import Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.routers.found import find_workspace
from heliosdb.api.schemas import (
    Alert,
    Budget,
    Erasure,
    Limit,
    NewWorkspace,
    Offset,
    Workspace,
    WorkspaceName,
    to_options,
)

router = APIRouter(route_class=GuardedRoute, tags=["workspaces"])


@router.get("/workspaces", response_model=list[Workspace])
@needs(Right.READ)
async def list_workspaces(caller: CallerHere, limit: Limit = 100, offset: Offset = 0) -> Any:
    """List the workspaces by name."""
    return await caller.rows("workspaces", limit, offset)


@router.post("/workspaces", response_model=Workspace, status_code=201)
@needs(Right.ADMINISTER)
async def create_workspace(caller: CallerHere, body: NewWorkspace) -> Any:
    """Create a workspace: CREATE FEDERATED WORKSPACE."""
    await caller.execute(CreateWorkspace(body.name, to_options(body.options)))
    return await find_workspace(caller, body.name)


@router.get("/workspaces/{workspace}", response_model=Workspace)
@needs(Right.READ)
async def show_workspace(caller: CallerHere, workspace: WorkspaceName) -> Any:
    """Show a workspace."""
    return await find_workspace(caller, workspace)


@router.get("/workspaces/{workspace}/budget", response_model=Budget)
@needs(Right.READ)
async def show_budget(caller: CallerHere, workspace: WorkspaceName) -> Any:
    """Show what the workspace may spend and has spent: federated_privacy_budget."""
    return await caller.row("budget", workspace)


@router.get("/workspaces/{workspace}/erasures", response_model=list[Erasure])
@needs(Right.READ)
async def list_erasures(
    caller: CallerHere, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List requests for erasure, one item a request and node, the latest first."""
    await find_workspace(caller, workspace)
    return await caller.rows("erasures", workspace, limit, offset)


@router.get("/workspaces/{workspace}/alerts", response_model=list[Alert])
@needs(Right.READ)
async def list_alerts(
    caller: CallerHere, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List alerts and breaches, one item a firing, the latest first."""
    await find_workspace(caller, workspace)
    return await caller.rows("alerts", workspace, limit, offset)
