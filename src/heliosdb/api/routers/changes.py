"""Changing and dropping workspaces, nodes and models: ALTER, DROP and UNREGISTER of the language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from federated_sql.clause_values import Option, OptionName
from federated_sql.statements import (
    AlterModel,
    AlterNode,
    AlterWorkspace,
    ChangeModelOwner,
    ChangeWorkspaceOwner,
    Command,
    DropModel,
    DropWorkspace,
    RenameModel,
    RenameWorkspace,
    ResetModel,
    ResetNode,
    ResetWorkspace,
    UnregisterNode,
)
from heliosdb.api.database import Caller, Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.routers.found import find_model, find_node, find_workspace
from heliosdb.api.schemas import Model, ModelName, Node, NodeName, Workspace, WorkspaceName, to_options
from heliosdb.api.schemas_changes import Cascade, Change, NodeChange

router = APIRouter(route_class=GuardedRoute)

_WORKSPACE = "/workspaces/{workspace}"
_NODE = "/workspaces/{workspace}/nodes/{node}"
_MODEL = "/workspaces/{workspace}/models/{model}"


async def _change_options(
    caller: Caller,
    options: dict[str, Any],
    alter: Callable[[tuple[Option, ...]], Command],
    reset: Callable[[tuple[OptionName, ...]], Command],
) -> None:
    """SET what has a value, then RESET what is null; both or, where one fails, neither."""
    given = {name: value for name, value in options.items() if value is not None}
    if given:
        await caller.execute(alter(to_options(given)))
    if len(given) < len(options):
        await caller.execute(reset(tuple(OptionName(name) for name in options if name not in given)))


@router.patch(_WORKSPACE, response_model=Workspace, tags=["workspaces"])
@needs(Right.ADMINISTER)
async def change_workspace(caller: CallerHere, workspace: WorkspaceName, body: Change) -> Any:
    """Change options, name or owner of a workspace: ALTER FEDERATED WORKSPACE."""
    await find_workspace(caller, workspace)
    await _change_options(
        caller,
        body.options,
        lambda given: AlterWorkspace(workspace, given),
        lambda names: ResetWorkspace(workspace, names),
    )
    name = body.name or workspace
    if name != workspace:
        await caller.execute(RenameWorkspace(workspace, name))
    if body.owner is not None:
        await caller.execute(ChangeWorkspaceOwner(name, body.owner))
    return await find_workspace(caller, name)


@router.delete(_WORKSPACE, status_code=204, tags=["workspaces"])
@needs(Right.ADMINISTER)
async def drop_workspace(caller: CallerHere, workspace: WorkspaceName, cascade: Cascade = False) -> None:
    """Drop a workspace: DROP FEDERATED WORKSPACE."""
    await caller.execute(DropWorkspace(workspace, cascade=cascade))


@router.patch(_NODE, response_model=Node, tags=["nodes"])
@needs(Right.ADMINISTER)
async def change_node(caller: CallerHere, workspace: WorkspaceName, node: NodeName, body: NodeChange) -> Any:
    """Change options of a node: ALTER FEDERATED NODE."""
    await find_node(caller, workspace, node)
    await _change_options(
        caller,
        body.options,
        lambda given: AlterNode(node, workspace, given),
        lambda names: ResetNode(node, workspace, names),
    )
    return await find_node(caller, workspace, node)


@router.delete(_NODE, status_code=204, tags=["nodes"])
@needs(Right.ADMINISTER)
async def unregister_node(caller: CallerHere, workspace: WorkspaceName, node: NodeName) -> None:
    """Unregister a node: UNREGISTER FEDERATED NODE."""
    await caller.execute(UnregisterNode(node, workspace))


@router.patch(_MODEL, response_model=Model, tags=["models"])
@needs(Right.OPERATE)
async def change_model(caller: CallerHere, workspace: WorkspaceName, model: ModelName, body: Change) -> Any:
    """Change options, name or owner of a model: ALTER FEDERATED MODEL."""
    await find_model(caller, workspace, model)
    await _change_options(
        caller,
        body.options,
        lambda given: AlterModel(model, given),
        lambda names: ResetModel(model, names),
    )
    name = body.name or model
    if name != model:
        await caller.execute(RenameModel(model, name))
    if body.owner is not None:
        await caller.execute(ChangeModelOwner(name, body.owner))
    return await find_model(caller, workspace, name)


@router.delete(_MODEL, status_code=204, tags=["models"])
@needs(Right.OPERATE)
async def drop_model(
    caller: CallerHere, workspace: WorkspaceName, model: ModelName, cascade: Cascade = False
) -> None:
    """Drop a model with its versions: DROP FEDERATED MODEL."""
    await find_model(caller, workspace, model)
    await caller.execute(DropModel(model, cascade=cascade))
