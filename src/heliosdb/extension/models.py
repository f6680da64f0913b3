"""Statements about models and their training."""

from __future__ import annotations

from federated_sql.errors import ErrorCode, FederatedError, not_supported
from federated_sql.options import (
    OptionKind,
    check_model,
    drop_options,
    read_options,
    require_built,
)
from federated_sql.statements import (
    AlterModel,
    ChangeModelOwner,
    CreateModel,
    DropModel,
    RenameModel,
    ResetModel,
    StopTraining,
)
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.subscriptions import is_subscribed
from heliosdb.extension.aggregation_functions import check_aggregation
from heliosdb.extension.contract import (
    check_target_classes,
    check_transforms,
)
from heliosdb.extension.session import Session, duplicate, undefined, undefined_here
from heliosdb.extension.start_warnings import warn_of_delta

# PostgreSQL's functions take 100 arguments; one is kept for the model's name.
MAX_FEATURES = 1_500

_ELSEWHERE = "It is only subscribed to in this database: this is typed where the model is trained."


def create_model(session: Session, command: CreateModel) -> None:
    """CREATE FEDERATED MODEL: may be incomplete; START says what is missing."""
    session.require("federated_operator", "create a federated model")
    given = read_options(OptionKind.MODEL, command.options, session.built)
    check_columns(given)
    _check_name(command.name)
    workspace = _choose_workspace(session, command.workspace)
    require_built(OptionKind.MODEL, command.options, given, session.built)
    check_target_classes(given)
    check_aggregation(session, given)
    check_transforms(given)
    if catalog.insert_model(session.connection, workspace, command.name, given):
        warn_of_delta(session, workspace, workspace.options)
        return
    if not command.if_not_exists:
        raise duplicate("model", command.name)
    session.notice(f'federated model "{command.name}" already exists, skipping')


def alter_model(session: Session, command: AlterModel) -> None:
    """ALTER FEDERATED MODEL … SET: a run under way keeps the options it was started with."""
    session.require("federated_operator", "alter a federated model")
    given = read_options(OptionKind.MODEL, command.options, session.built)
    model = find_or_skip(session, command.name, if_exists=command.if_exists)
    if model is None:
        return
    merged = {**model.options, **given}
    check_columns(merged)
    require_built(OptionKind.MODEL, command.options, given, session.built)
    check_target_classes(merged)
    check_aggregation(session, given)
    check_transforms(merged)
    catalog.update_model(session.connection, model, merged)


def reset_model(session: Session, command: ResetModel) -> None:
    """ALTER FEDERATED MODEL … RESET: defaults hold again, or what has none is not set."""
    session.require("federated_operator", "alter a federated model")
    drop_options(OptionKind.MODEL, command.options, {})
    model = find_or_skip(session, command.name, if_exists=command.if_exists)
    if model is None:
        return
    left = drop_options(OptionKind.MODEL, command.options, model.options)
    check_columns(left)
    check_target_classes(left)
    check_transforms(left)
    catalog.update_model(session.connection, model, left)


def rename_model(session: Session, command: RenameModel) -> None:
    """ALTER FEDERATED MODEL … RENAME TO: functions and what depends on them follow; not in training."""
    session.require("federated_operator", "rename a federated model")
    model = find_or_skip(session, command.name, if_exists=command.if_exists)
    if model is None:
        return
    _check_name(command.new_name)
    if catalog.is_in_training(session.connection, model):
        raise in_training(model)
    if command.new_name == model.name:
        raise duplicate("model", command.new_name)
    catalog.rename_model(session.connection, model, command.new_name)


def change_model_owner(session: Session, command: ChangeModelOwner) -> None:
    """ALTER FEDERATED MODEL … OWNER TO: a role that exists and that the caller is a member of."""
    session.require("federated_operator", "change the owner of a federated model")
    model = find_or_skip(session, command.name, if_exists=command.if_exists)
    if model is not None:
        catalog.change_model_owner(session.connection, model, session.role_name(command.owner))


def drop_model(session: Session, command: DropModel) -> None:
    """DROP FEDERATED MODEL: during training never; with dependents of its function only by CASCADE."""
    session.require("federated_operator", "drop a federated model")
    model = find_or_skip(session, command.name, if_exists=command.if_exists)
    if model is None:
        return
    if catalog.is_in_training(session.connection, model):
        raise in_training(model)
    catalog.delete_model(session.connection, model, cascade=command.cascade)


def stop_training(session: Session, command: StopTraining) -> None:
    """STOP FEDERATED TRAINING: the open round is given up; the last closed one becomes the version.

    A run that is still queued ends at once.
    """
    session.require("federated_operator", "stop federated training")
    model = find_model(session, command.model)
    if not catalog.request_stop(session.connection, model):
        raise FederatedError(ErrorCode.WRONG_STATE, f'federated model "{model.name}" is not in training')
    catalog.notify_coordinator(session.connection)


def find_model(session: Session, name: str) -> catalog.Model:
    """Return the caller's own model, locked; raise 42704 where there is none, 42501 where it is another's."""
    model = catalog.lock_model(session.connection, name)
    if model is None:
        subscribed = is_subscribed(session.connection, name)
        raise undefined("model", name, hint=_ELSEWHERE) if subscribed else undefined_here("model", name)
    session.own_model(model)
    return model


def find_or_skip(session: Session, name: str, *, if_exists: bool) -> catalog.Model | None:
    """Return the caller's own model, locked; None where it may be missing and is."""
    model = catalog.lock_model(session.connection, name)
    if model is None:
        session.skips("model", name, if_exists=if_exists)
        return None
    session.own_model(model)
    return model


def _check_name(name: str) -> None:
    if "@" in name:
        raise FederatedError(
            ErrorCode.INVALID_NAME,
            "a model's name must not contain @",
            hint="model@tag names a version of a model.",
        )


def in_training(model: catalog.Model) -> FederatedError:
    """Make the error for what cannot be done while a run is queued or running (55006)."""
    return FederatedError(
        ErrorCode.IN_USE,
        f'federated model "{model.name}" is in training',
        hint=f"Wait with wait_for_convergence('{model.name}'), or STOP FEDERATED TRAINING {model.name}.",
    )


def _choose_workspace(session: Session, named: str | None) -> catalog.Workspace:
    name = named or catalog.session_workspace(session.connection)
    if name is None:
        names = catalog.list_workspace_names(session.connection)
        if len(names) != 1:
            raise FederatedError(
                ErrorCode.UNDEFINED_OBJECT,
                "no federated workspace is chosen for the model"
                if names
                else "there is no federated workspace",
                hint="Say IN WORKSPACE name, or SET heliosdb.workspace = 'name'."
                if names
                else "CREATE FEDERATED WORKSPACE makes one.",
            )
        name = names[0]
    workspace = catalog.find_workspace(session.connection, name)
    if workspace is None:
        raise undefined("workspace", name)
    return workspace


def check_columns(given: catalog.Options) -> None:
    """Raise 22023 for columns that do not go together, 0A000 for more features than a model may have."""
    check_model(given)
    features = given.get("features") or ()
    if len(features) > MAX_FEATURES:
        raise not_supported(
            f"models with more than {MAX_FEATURES} features are not supported yet",
            hint=f"The model names {len(features)} features.",
        )
