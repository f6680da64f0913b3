"""The audit log: who changed what."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from heliosdb.api.database import Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.routers.found import find_workspace
from heliosdb.api.schemas import Limit, Offset, WorkspaceName
from heliosdb.api.schemas_figures import AuditEntry

router = APIRouter(route_class=GuardedRoute, tags=["audit"])


@router.get("/audit", response_model=list[AuditEntry])
@needs(Right.AUDIT)
async def list_audit(caller: CallerHere, limit: Limit = 100, offset: Offset = 0) -> Any:
    """List the audit log of all workspaces and of what belongs to none, the latest first."""
    return await caller.rows("audit", None, limit, offset)


@router.get("/workspaces/{workspace}/audit", response_model=list[AuditEntry])
@needs(Right.AUDIT)
async def list_workspace_audit(
    caller: CallerHere, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List the audit log of a workspace, the latest first; it outlives the workspace."""
    entries = await caller.rows("audit", workspace, limit, offset)
    if not entries:
        await find_workspace(caller, workspace)
    return entries
