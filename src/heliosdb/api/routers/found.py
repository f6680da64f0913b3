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
