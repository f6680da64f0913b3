"""Workspaces, and what belongs to them as a whole: budget, erasures, alerts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from federated_sql.clause_values import SealedSubject, Subject
from federated_sql.statements import AlertCondition, CreateAlert, CreateWorkspace, DropAlert, EraseSubjects
from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.problems import Problem
from heliosdb.api.routers.found import find_model, find_workspace
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
from heliosdb.api.schemas_changes import AlertName, NewAlert, NewErasure
from heliosdb.domain.sealed_subject import seal_subject

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


@router.post("/workspaces/{workspace}/erasures", response_model=list[Erasure], status_code=202)
@needs(Right.ADMINISTER)
async def ask_for_erasure(caller: CallerHere, workspace: WorkspaceName, body: NewErasure) -> Any:
    """Ask all nodes to forget data subjects: DELETE FROM FEDERATED TRAINING. One item a subject."""
    await find_model(caller, workspace, body.model)
    subjects = await _seal(caller, body.subjects)
    await caller.execute(EraseSubjects(body.model, subjects, to_options(body.options)))
    return await caller.rows("asked_erasures", workspace)


async def _seal(caller: Caller, subjects: list[str]) -> tuple[Subject, ...]:
    """Name subjects by what the coordinator alone can read, as the proxy does: no log has their names."""
    key = await caller.row("sealing_key")
    if key is None:
        raise Problem(
            409,
            "No coordinator has served this database yet: there is nobody who could ask the nodes.",
            sqlstate="55000",
            hint="Start the coordinator (heliosdb coordinator), and name the data subjects then.",
        )
    public = bytes(key["sealing_key"])
    return tuple(SealedSubject(seal_subject(public, "erase", one)) for one in dict.fromkeys(subjects))


@router.get("/workspaces/{workspace}/alerts", response_model=list[Alert])
@needs(Right.READ)
async def list_alerts(
    caller: CallerHere, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List alerts and breaches, one item a firing, the latest first."""
    await find_workspace(caller, workspace)
    return await caller.rows("alerts", workspace, limit, offset)


@router.post("/workspaces/{workspace}/alerts", response_model=Alert, status_code=201)
@needs(Right.ADMINISTER)
async def create_alert(caller: CallerHere, workspace: WorkspaceName, body: NewAlert) -> Any:
    """Create an alert: CREATE FEDERATED ALERT."""
    conditions = tuple(AlertCondition(one.metric, one.operator, one.value) for one in body.conditions)
    await caller.execute(CreateAlert(body.name, workspace, conditions, body.target))
    return await caller.row("alert", workspace, body.name)


@router.delete("/workspaces/{workspace}/alerts/{alert}", status_code=204)
@needs(Right.ADMINISTER)
async def drop_alert(caller: CallerHere, workspace: WorkspaceName, alert: AlertName) -> None:
    """Drop an alert: DROP FEDERATED ALERT."""
    await caller.execute(DropAlert(alert, workspace))
