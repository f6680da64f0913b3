"""Statements about workspaces: checks, then one row."""

from __future__ import annotations

from federated_sql.compliance import is_covered
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.options import (
    OptionKind,
    check_workspace,
    defaults,
    drop_options,
    read_options,
    require_built,
)
from federated_sql.residency import residency_allows
from federated_sql.statements import (
    AlterWorkspace,
    ChangeWorkspaceOwner,
    CreateWorkspace,
    DropWorkspace,
    RenameWorkspace,
    ResetWorkspace,
)
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.compliance import list_modes_in_training
from heliosdb.domain.wording import counted
from heliosdb.extension.alerts import check_breach_target
from heliosdb.extension.overlap import check_overlap, check_recreated
from heliosdb.extension.session import Session, duplicate
from heliosdb.extension.start_warnings import warn_of_delta


def create_workspace(session: Session, command: CreateWorkspace) -> None:
    """CREATE FEDERATED WORKSPACE."""
    session.require("federated_admin", "create a federated workspace")
    given = read_options(OptionKind.WORKSPACE, command.options, session.built)
    check_workspace(given)
    require_built(OptionKind.WORKSPACE, command.options, given, session.built)
    check_breach_target(session, given)
    if catalog.insert_workspace(session.connection, command.name, given):
        check_recreated(session, command.name, given)
        if catalog.is_participant(session.connection):
            session.warning(
                "this database shares datasets and no coordinator has ever served it: it looks like a node's."
                " Runs of a workspace are driven by the coordinator of the database that holds it"
            )
        return
    if not command.if_not_exists:
        raise duplicate("workspace", command.name)
    session.notice(f'federated workspace "{command.name}" already exists, skipping')


def alter_workspace(session: Session, command: AlterWorkspace) -> None:
    """ALTER FEDERATED WORKSPACE … SET: a running run keeps the policy it was started under."""
    session.require("federated_admin", "alter a federated workspace")
    given = read_options(OptionKind.WORKSPACE, command.options, session.built)
    workspace = _lock(session, command.name, if_exists=command.if_exists)
    if workspace is None:
        return
    merged = {**workspace.options, **given}
    _check(session, workspace, merged)
    require_built(OptionKind.WORKSPACE, command.options, given, session.built)
    check_breach_target(session, given)
    newly_private = "privacy_budget" in merged and "privacy_budget" not in workspace.options
    if newly_private and catalog.workspace_has_plain_runs(session.connection, workspace):
        session.warning(
            "earlier runs of this workspace released vectors without noise; the budget covers later ones"
        )
    if _is_raised(workspace.options, merged) and catalog.consumed_epsilon(session.connection, workspace) > 0:
        session.warning(
            "nodes keep to the budget that they first answered under: each DBA has to accept a higher one"
        )
    catalog.update_workspace(session.connection, workspace, merged)
    warn_of_delta(session, workspace, merged)


def reset_workspace(session: Session, command: ResetWorkspace) -> None:
    """ALTER FEDERATED WORKSPACE … RESET: a trigger keeps a budget that was spent from."""
    session.require("federated_admin", "alter a federated workspace")
    drop_options(OptionKind.WORKSPACE, command.options, {})
    workspace = _lock(session, command.name, if_exists=command.if_exists)
    if workspace is None:
        return
    left = drop_options(OptionKind.WORKSPACE, command.options, workspace.options)
    _check_budget_stays(session, workspace, left)
    _check(session, workspace, left)
    catalog.update_workspace(session.connection, workspace, left)
    warn_of_delta(session, workspace, left)


def rename_workspace(session: Session, command: RenameWorkspace) -> None:
    """ALTER FEDERATED WORKSPACE … RENAME TO: only while neither a node nor a ledger knows it by its name.

    Datasets, agreements and ledgers know a workspace by name: one that took its name along, or left it to
    another, would share or lose what was charged. Triggers hold this for every way of renaming.
    """
    session.require("federated_admin", "rename a federated workspace")
    workspace = _lock(session, command.name, if_exists=command.if_exists)
    if workspace is None:
        return
    if catalog.find_workspace(session.connection, command.new_name) is not None:
        raise duplicate("workspace", command.new_name)
    catalog.rename_workspace(session.connection, workspace, command.new_name)


def change_workspace_owner(session: Session, command: ChangeWorkspaceOwner) -> None:
    """ALTER FEDERATED WORKSPACE … OWNER TO: a role that exists and that the caller is a member of."""
    session.require("federated_admin", "change the owner of a federated workspace")
    workspace = _lock(session, command.name, if_exists=command.if_exists)
    if workspace is not None:
        catalog.change_workspace_owner(session.connection, workspace, session.role_name(command.owner))


def _lock(session: Session, name: str, *, if_exists: bool) -> catalog.Workspace | None:
    """Return the caller's own workspace, locked; None where it may be missing and is."""
    workspace = catalog.lock_workspace(session.connection, name)
    if workspace is None:
        session.skips("workspace", name, if_exists=if_exists)
        return None
    session.own_workspace(workspace)
    return workspace


def _check_budget_stays(session: Session, workspace: catalog.Workspace, left: catalog.Options) -> None:
    """Raise 55000 where a budget would go that was spent from, as the trigger does: before what would be said
    of options that need it, for whoever took these out as well would hear this after all."""
    if "privacy_budget" not in workspace.options or "privacy_budget" in left:
        return
    consumed = catalog.consumed_epsilon(session.connection, workspace)
    if consumed > 0:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'the privacy_budget of federated workspace "{workspace.name}" cannot be reset',
            detail=f"Epsilon {consumed:.6f} of it is consumed.",
            hint="SET (privacy_budget = ...) changes it; for training without a budget make another"
            " workspace.",
        )


def _is_raised(before: catalog.Options, after: catalog.Options) -> bool:
    former, new = before.get("privacy_budget"), after.get("privacy_budget")
    return former is not None and new is not None and new > former


def _check(session: Session, workspace: catalog.Workspace, options: catalog.Options) -> None:
    check_workspace(options)
    _check_members(session, workspace, options)
    check_overlap(session, workspace, options)
    _check_training(session, workspace, str(options.get("compliance_mode") or "none"))


def _check_training(session: Session, workspace: catalog.Workspace, mode: str) -> None:
    """Raise 55000 where a run goes on under a mode that asks for less: nodes hold what their task names."""
    if is_covered(mode, by=str(workspace.options.get("compliance_mode") or "none")):
        return
    running = list_modes_in_training(session.connection, workspace)
    laxer = [f'"{model}"' for model, started in running if not is_covered(mode, by=started)]
    if laxer:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"compliance_mode cannot be {mode}: models are in training under a mode that asks for less",
            detail=f"In training: {', '.join(laxer)}.",
            hint="STOP FEDERATED TRAINING ends a run after its current round.",
        )


def _protocol(options: catalog.Options) -> object:
    return options.get("communication_protocol", "grpc")


def _check_members(session: Session, workspace: catalog.Workspace, merged: catalog.Options) -> None:
    nodes = catalog.list_nodes(session.connection, workspace)
    most = {**defaults(OptionKind.WORKSPACE, session.built), **merged}["max_nodes"]
    if len(nodes) > most:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"max_nodes cannot be {most}: the workspace has {counted(len(nodes), 'node')}",
            hint="Unregister nodes first.",
        )
    if nodes and _protocol(merged) != _protocol(workspace.options):
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"communication_protocol cannot be changed: the workspace has {counted(len(nodes), 'node')}",
            detail="Nodes that are dialled are registered with an endpoint, and all others without one.",
            hint="Unregister the nodes first, and register them again as they are to be.",
        )
    residency = merged.get("data_residency")
    outside = [
        f'"{node.name}"'
        for node in nodes
        if residency and not residency_allows(residency, node.options.get("data_residency", ""))
    ]
    if outside:
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f"data_residency cannot be {residency}: nodes of the workspace lie outside",
            detail=f"Outside: {', '.join(outside)}.",
            hint="Unregister these nodes first.",
        )


def drop_workspace(session: Session, command: DropWorkspace) -> None:
    """DROP FEDERATED WORKSPACE: with nodes or models in it only by CASCADE, during training never.

    The ledger stays: a workspace of the same name goes on from it.
    """
    session.require("federated_admin", "drop a federated workspace")
    workspace = _lock(session, command.name, if_exists=command.if_exists)
    if workspace is None:
        return
    models = [
        model
        for name in catalog.list_workspace_models(session.connection, workspace)
        if (model := catalog.lock_model(session.connection, name)) is not None
    ]
    nodes = catalog.list_nodes(session.connection, workspace)
    dependents = [f'federated model "{m.name}"' for m in models] + [
        f'federated node "{n.name}"' for n in nodes
    ]
    if dependents and not command.cascade:
        raise FederatedError(
            ErrorCode.DEPENDENTS,
            f'cannot drop federated workspace "{command.name}" because other objects depend on it',
            detail="\n".join(dependents),
            hint="Use DROP FEDERATED WORKSPACE ... CASCADE to drop them too.",
        )
    for model in models:
        if catalog.is_in_training(session.connection, model):
            raise FederatedError(
                ErrorCode.IN_USE,
                f'federated model "{model.name}" is in training',
                hint=f"STOP FEDERATED TRAINING {model.name} first.",
            )
        catalog.delete_model(session.connection, model, cascade=True)
    catalog.delete_workspace(session.connection, workspace)
    if dependents:
        session.notice(f"drop cascades to {', '.join(dependents)}")
