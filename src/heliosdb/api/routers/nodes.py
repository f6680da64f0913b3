"""Nodes of a workspace."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from federated_sql.statements import RegisterNode
from heliosdb.api.database import Right
from heliosdb.api.guard import CallerHere, GuardedRoute, needs
from heliosdb.api.routers.found import find_node, find_workspace
from heliosdb.api.schemas import Limit, NewNode, Node, NodeName, Offset, WorkspaceName, to_options

router = APIRouter(route_class=GuardedRoute, tags=["nodes"])


@router.get("/workspaces/{workspace}/nodes", response_model=list[Node])
@needs(Right.READ)
async def list_nodes(
    caller: CallerHere, workspace: WorkspaceName, limit: Limit = 100, offset: Offset = 0
) -> Any:
    """List the nodes of the workspace by name."""
    await find_workspace(caller, workspace)
    return await caller.rows("nodes", workspace, limit, offset)


@router.post("/workspaces/{workspace}/nodes", response_model=Node, status_code=201)
@needs(Right.ADMINISTER)
async def register_node(caller: CallerHere, workspace: WorkspaceName, body: NewNode) -> Any:
    """Register a node: REGISTER FEDERATED NODE. It is pending until the coordinator has met it."""
    await caller.execute(RegisterNode(body.name, workspace, to_options(body.options)))
    return await find_node(caller, workspace, body.name)


@router.get("/workspaces/{workspace}/nodes/{node}", response_model=Node)
@needs(Right.READ)
async def show_node(caller: CallerHere, workspace: WorkspaceName, node: NodeName) -> Any:
    """Show a node."""
    return await find_node(caller, workspace, node)
