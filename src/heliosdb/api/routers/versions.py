"""Versions of a model and their tags."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from federated_sql.statements import DropTag, DropVersion, PromoteModel, TagModel
from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.problems import missing
from heliosdb.api.routers.found import find_model
from heliosdb.api.schemas import ModelName, VersionAnswer, WorkspaceName
from heliosdb.api.schemas_changes import Cascade, TagChange, TagName, VersionName

router = APIRouter(route_class=GuardedRoute, tags=["versions"])

_MODEL = "/workspaces/{workspace}/models/{model}"


@router.get(_MODEL + "/versions", response_model=list[VersionAnswer])
@needs(Right.READ)
async def list_versions(caller: CallerHere, workspace: WorkspaceName, model: ModelName) -> Any:
    """List the versions of the model: federated_model_versions."""
    await find_model(caller, workspace, model)
    return await caller.rows("versions", model)


@router.get(_MODEL + "/versions/{version}", response_model=VersionAnswer)
@needs(Right.READ)
async def show_version(
    caller: CallerHere, workspace: WorkspaceName, model: ModelName, version: VersionName
) -> Any:
    """Show a version."""
    await find_model(caller, workspace, model)
    return await _find_version(caller, model, version)


@router.delete(_MODEL + "/versions/{version}", status_code=204)
@needs(Right.OPERATE)
async def drop_version(
    *,
    caller: CallerHere,
    workspace: WorkspaceName,
    model: ModelName,
    version: VersionName,
    cascade: Cascade = False,
) -> None:
    """Take a version away, never the current one: DROP FEDERATED MODEL … VERSION."""
    await find_model(caller, workspace, model)
    await caller.execute(DropVersion(model, version, cascade=cascade))


@router.post(_MODEL + "/versions/{version}/promote", response_model=VersionAnswer)
@needs(Right.OPERATE)
async def promote(
    caller: CallerHere, workspace: WorkspaceName, model: ModelName, version: VersionName
) -> Any:
    """Make a version the current one, an earlier one too: PROMOTE FEDERATED MODEL."""
    await find_model(caller, workspace, model)
    await caller.execute(PromoteModel(model, version))
    return await _find_version(caller, model, version)


@router.put(_MODEL + "/tags/{tag}", response_model=VersionAnswer)
@needs(Right.OPERATE)
async def tag_version(
    caller: CallerHere, workspace: WorkspaceName, model: ModelName, tag: TagName, body: TagChange
) -> Any:
    """Name a version: TAG FEDERATED MODEL. A tag of another version moves with `replace` alone."""
    await find_model(caller, workspace, model)
    await caller.execute(TagModel(model, tag, body.version, replace=body.replace))
    return await _find_version(caller, model, tag)


@router.delete(_MODEL + "/tags/{tag}", status_code=204)
@needs(Right.OPERATE)
async def drop_tag(
    *,
    caller: CallerHere,
    workspace: WorkspaceName,
    model: ModelName,
    tag: TagName,
    cascade: Cascade = False,
) -> None:
    """Take a tag away; the version stays: DROP FEDERATED MODEL … TAG."""
    await find_model(caller, workspace, model)
    await caller.execute(DropTag(model, tag, cascade=cascade))


async def _find_version(caller: Caller, model: str, version: str) -> dict[str, Any]:
    if (row := await caller.row("version", model, version)) is None:
        raise missing("version", f"{model}@{version}")
    return row
