"""How versions did, and what the data are like: the rows of the language's functions."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.notices import HEADERS, rows_with_notices
from heliosdb.api.routers.found import find_model, find_workspace, reference_to
from heliosdb.api.schemas import Limit, ModelName, Offset, VersionQuery, WorkspaceName
from heliosdb.api.schemas_figures import (
    CalibrationBin,
    Charge,
    Coefficient,
    ConfusionCell,
    DataQuality,
    Importance,
    RocPoint,
)

router = APIRouter(route_class=GuardedRoute, tags=["figures"])

_MODEL = "/workspaces/{workspace}/models/{model}"


async def _rows(
    caller: Caller, response: Response, name: str, workspace: str, model: str, *, version: str | None
) -> Any:
    """The rows of a function of one version of a model."""
    await find_model(caller, workspace, model)
    return await rows_with_notices(caller, response, name, reference_to(model, version))


@router.get(_MODEL + "/coefficients", response_model=list[Coefficient], responses=HEADERS)
@needs(Right.READ)
async def list_coefficients(
    caller: CallerHere,
    response: Response,
    workspace: WorkspaceName,
    model: ModelName,
    version: VersionQuery = None,
) -> Any:
    """List the coefficients with their errors and intervals: federated_coefficients."""
    return await _rows(caller, response, "coefficients", workspace, model, version=version)


@router.get(_MODEL + "/roc", response_model=list[RocPoint], responses=HEADERS)
@needs(Right.READ)
async def show_roc(
    caller: CallerHere,
    response: Response,
    workspace: WorkspaceName,
    model: ModelName,
    version: VersionQuery = None,
) -> Any:
    """Show the ROC curve over the held-out rows of all nodes: federated_roc_curve."""
    return await _rows(caller, response, "roc", workspace, model, version=version)


@router.get(_MODEL + "/calibration", response_model=list[CalibrationBin], responses=HEADERS)
@needs(Right.READ)
async def show_calibration(
    caller: CallerHere,
    response: Response,
    workspace: WorkspaceName,
    model: ModelName,
    version: VersionQuery = None,
) -> Any:
    """Show how predicted and observed shares agree: federated_calibration."""
    return await _rows(caller, response, "calibration", workspace, model, version=version)


@router.get(_MODEL + "/confusion", response_model=list[ConfusionCell], responses=HEADERS)
@needs(Right.READ)
async def show_confusion(
    caller: CallerHere,
    response: Response,
    workspace: WorkspaceName,
    model: ModelName,
    version: VersionQuery = None,
) -> Any:
    """Show what is predicted of which class: federated_confusion_matrix."""
    return await _rows(caller, response, "confusion", workspace, model, version=version)


@router.get(_MODEL + "/importance", response_model=list[Importance], responses=HEADERS)
@needs(Right.READ)
async def list_importance(
    caller: CallerHere,
    response: Response,
    workspace: WorkspaceName,
    model: ModelName,
    version: VersionQuery = None,
) -> Any:
    """List what each feature is worth, the most first: federated_feature_importance."""
    return await _rows(caller, response, "importance", workspace, model, version=version)


@router.get(_MODEL + "/data_quality", response_model=list[DataQuality], responses=HEADERS)
@needs(Right.READ)
async def show_data_quality(
    caller: CallerHere,
    response: Response,
    workspace: WorkspaceName,
    model: ModelName,
    run: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Its number; without it the latest that has them.")
    ] = None,
) -> Any:
    """Show what round 0 found of the data, of all nodes together first: federated_data_quality_check."""
    await find_model(caller, workspace, model)
    return await rows_with_notices(caller, response, "data_quality", model, run)


@router.get("/workspaces/{workspace}/data_quality", response_model=list[DataQuality], responses=HEADERS)
@needs(Right.READ)
async def list_data_quality(
    caller: CallerHere, response: Response, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List the same of the models of a workspace that have been trained; limit and offset count models."""
    await find_workspace(caller, workspace)
    return await rows_with_notices(caller, response, "workspace_data_quality", workspace, limit, offset)


@router.get("/workspaces/{workspace}/budget/history", response_model=list[Charge])
@needs(Right.READ)
async def list_charges(
    caller: CallerHere, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List what each round cost of the budget, the latest first: federated_privacy_history."""
    await find_workspace(caller, workspace)
    return await caller.rows("budget_history", workspace, limit, offset)
