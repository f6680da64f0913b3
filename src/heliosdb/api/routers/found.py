"""What paths name: it is looked up as the caller before anything is done with it."""

from __future__ import annotations

from typing import Any

from heliosdb.api.database import Caller
from heliosdb.api.problems import missing


async def find_workspace(caller: Caller, workspace: str) -> dict[str, Any]:
    """The row of a workspace; a Problem 404."""
    if (row := await caller.row("workspace", workspace)) is None:
        raise missing("workspace", workspace)
    return row


async def find_model(caller: Caller, workspace: str, model: str) -> dict[str, Any]:
    """The row of a model of that workspace; a Problem 404."""
    if (row := await caller.row("model", workspace, model)) is None:
        await find_workspace(caller, workspace)
        raise missing("model", model)
    return row


async def find_node(caller: Caller, workspace: str, node: str) -> dict[str, Any]:
    """The row of a node of that workspace; a Problem 404."""
    if (row := await caller.row("node", workspace, node)) is None:
        await find_workspace(caller, workspace)
        raise missing("node", node)
    return row


def reference_to(model: str, version: str | None) -> str:
    """The model, or one version of it by number or tag, as the functions of the language take it."""
    return model if version is None else f"{model}@{version}"
