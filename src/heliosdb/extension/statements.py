"""Which function carries out which statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from federated_sql.errors import not_supported
from federated_sql.statements import (
    MISSING_ENGINES,
    AlterModel,
    AlterNode,
    AlterWorkspace,
    Command,
    CreateDataset,
    CreateModel,
    CreateWorkspace,
    DropDataset,
    DropModel,
    DropWorkspace,
    RegisterNode,
    StartTraining,
    StopTraining,
    UnregisterNode,
    command_tag,
)
from heliosdb.extension import datasets, models, nodes, workspaces
from heliosdb.extension.session import Session


def _refuse_unbuilt(session: Session, command: Command) -> None:
    tag = command_tag(command)
    session.require("federated_operator", f"execute {tag}")
    missing = MISSING_ENGINES.get(type(command))
    raise not_supported(f"{tag} is not supported yet", hint=missing and f"Missing: {missing}.")


# Each function takes the command type of its key, which a dict's value type cannot say.
_HANDLERS: dict[type[Command], Callable[[Session, Any], None]] = {
    CreateWorkspace: workspaces.create_workspace,
    AlterWorkspace: workspaces.alter_workspace,
    DropWorkspace: workspaces.drop_workspace,
    RegisterNode: nodes.register_node,
    AlterNode: nodes.alter_node,
    UnregisterNode: nodes.unregister_node,
    CreateDataset: datasets.create_dataset,
    DropDataset: datasets.drop_dataset,
    CreateModel: models.create_model,
    AlterModel: models.alter_model,
    DropModel: models.drop_model,
    StartTraining: models.start_training,
    StopTraining: models.stop_training,
}


def apply(session: Session, command: Command) -> None:
    """Carry out `command`: all of it, or an error and none of it."""
    _HANDLERS.get(type(command), _refuse_unbuilt)(session, command)
