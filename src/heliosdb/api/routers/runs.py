"""Runs: which there are, what each round came to, and which node took part."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.problems import missing
from heliosdb.api.routers.found import find_model, find_workspace
from heliosdb.api.schemas import Limit, ModelName, Offset, Run, WorkspaceName
from heliosdb.api.schemas_figures import ManyRows, Part, RoundFigures

router = APIRouter(route_class=GuardedRoute, tags=["runs"])


@router.get("/runs", response_model=list[Run])
@needs(Right.READ)
async def list_all_runs(
    caller: CallerHere,
    workspace: Annotated[
        str | None, Query(min_length=1, max_length=63, description="Only those of this workspace.")
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> Any:
    """List the runs of all models, the latest first: federated_runs."""
    if workspace is not None:
        await find_workspace(caller, workspace)
    return await caller.rows("all_runs", workspace, limit, offset)


@router.get("/workspaces/{workspace}/models/{model}/runs", response_model=list[Run])
@needs(Right.READ)
async def list_runs(
    caller: CallerHere, workspace: WorkspaceName, model: ModelName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List the runs of the model, the latest first."""
    await find_model(caller, workspace, model)
    return await caller.rows("runs", workspace, model, limit, offset)


@router.get("/runs/{run_id}", response_model=Run)
@needs(Right.READ)
async def show_run(caller: CallerHere, run_id: UUID) -> Any:
    """Show a run."""
    return await _find_run(caller, run_id)


@router.get("/runs/{run_id}/rounds", response_model=list[RoundFigures])
@needs(Right.READ)
async def list_rounds(caller: CallerHere, run_id: UUID, limit: ManyRows = 1_000, offset: Offset = 0) -> Any:
    """List the rounds of a run with their figures, the first first; 0 gathers feature statistics."""
    await _find_run(caller, run_id)
    return await caller.rows("rounds", run_id, limit, offset)


@router.get("/runs/{run_id}/participation", response_model=list[Part])
@needs(Right.READ)
async def list_participation(
    caller: CallerHere, run_id: UUID, limit: ManyRows = 1_000, offset: Offset = 0
) -> Any:
    """List what each node did in each round of a run, the first round first."""
    await _find_run(caller, run_id)
    return await caller.rows("participation", run_id, limit, offset)


async def _find_run(caller: Caller, run_id: UUID) -> dict[str, Any]:
    if (row := await caller.row("run", run_id)) is None:
        raise missing("run", str(run_id))
    return row
