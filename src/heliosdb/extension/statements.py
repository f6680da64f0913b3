"""Which function carries out which statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from federated_sql.statements import (
    AlterDataset,
    AlterModel,
    AlterNode,
    AlterWorkspace,
    ChangeModelOwner,
    ChangeWorkspaceOwner,
    CheckpointTraining,
    Command,
    CreateAggregationFunction,
    CreateAlert,
    CreateDataset,
    CreateModel,
    CreateWorkspace,
    DropAggregationFunction,
    DropAlert,
    DropDataset,
    DropModel,
    DropTag,
    DropVersion,
    DropWorkspace,
    EraseSubjects,
    ExportSubject,
    GrantConsent,
    PromoteModel,
    RegisterNode,
    RenameModel,
    RenameWorkspace,
    ResetDataset,
    ResetModel,
    ResetNode,
    ResetWorkspace,
    ResumeTraining,
    RevokeConsent,
    RollbackModel,
    StartTraining,
    StopTraining,
    TagModel,
    UnregisterNode,
)
from heliosdb.extension import (
    aggregation_functions,
    checkpoints,
    dataset_options,
    datasets,
    models,
    nodes,
    unbuilt,
    versions,
    workspaces,
)
from heliosdb.extension.session import Session

# Each function takes the command type of its key, which a dict's value type cannot say.
_HANDLERS: dict[type[Command], Callable[[Session, Any], None]] = {
    CreateWorkspace: workspaces.create_workspace,
    AlterWorkspace: workspaces.alter_workspace,
    ResetWorkspace: workspaces.reset_workspace,
    DropWorkspace: workspaces.drop_workspace,
    RegisterNode: nodes.register_node,
    AlterNode: nodes.alter_node,
    ResetNode: nodes.reset_node,
    UnregisterNode: nodes.unregister_node,
    CreateDataset: datasets.create_dataset,
    AlterDataset: dataset_options.alter_dataset,
    ResetDataset: dataset_options.reset_dataset,
    DropDataset: datasets.drop_dataset,
    CreateModel: models.create_model,
    AlterModel: models.alter_model,
    ResetModel: models.reset_model,
    DropModel: models.drop_model,
    StartTraining: models.start_training,
    StopTraining: models.stop_training,
    RenameWorkspace: workspaces.rename_workspace,
    ChangeWorkspaceOwner: workspaces.change_workspace_owner,
    RenameModel: models.rename_model,
    ChangeModelOwner: models.change_model_owner,
    TagModel: versions.tag_model,
    RollbackModel: versions.rollback_model,
    PromoteModel: versions.promote_model,
    DropTag: versions.drop_tag,
    DropVersion: versions.drop_version,
    CheckpointTraining: checkpoints.checkpoint_training,
    ResumeTraining: checkpoints.resume_training,
    CreateAggregationFunction: aggregation_functions.create_aggregation_function,
    DropAggregationFunction: aggregation_functions.drop_aggregation_function,
    EraseSubjects: unbuilt.erase_subjects,
    ExportSubject: unbuilt.export_subject,
    GrantConsent: unbuilt.grant_consent,
    RevokeConsent: unbuilt.revoke_consent,
    CreateAlert: unbuilt.create_alert,
    DropAlert: unbuilt.drop_alert,
}


def apply(session: Session, command: Command) -> None:
    """Carry out `command`: all of it, or an error and none of it."""
    _HANDLERS[type(command)](session, command)
