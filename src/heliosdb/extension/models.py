"""Statements about models and their training."""

from __future__ import annotations

from collections.abc import Sequence

from federated_sql.clause_values import Option
from federated_sql.errors import ErrorCode, FederatedError, invalid_value, not_supported
from federated_sql.options import (
    OptionKind,
    check_model,
    defaults,
    drop_options,
    read_options,
    require_built,
)
from federated_sql.render import quote_name
from federated_sql.statements import (
    AlterModel,
    ChangeModelOwner,
    CreateModel,
    DropModel,
    RenameModel,
    ResetModel,
    StartTraining,
    StopTraining,
)
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.run_options import parse_options
from heliosdb.catalog.subscriptions import is_subscribed
from heliosdb.domain.run import TrainingOptions
from heliosdb.extension.aggregation_functions import check_aggregation
from heliosdb.extension.contract import (
    check_algorithm,
    check_contract,
    check_ranges,
    check_target_classes,
    check_transforms,
)
from heliosdb.extension.regressions import check_regression
from heliosdb.extension.series import check_series, describe_runs, plan_runs, trials_of
from heliosdb.extension.session import Session, duplicate, undefined, undefined_here
from heliosdb.extension.start_warnings import warn_of_budgets
from heliosdb.parts.algorithms import by_newton, check_private
from heliosdb.parts.checks import check_rule, describe_rule, unread_option
from heliosdb.parts.selections import count_chosen

# PostgreSQL's functions take 100 arguments; one is kept for the model's name.
MAX_FEATURES = 1_500

_ELSEWHERE = "It is only subscribed to in this database: this is typed where the model is trained."


def create_model(session: Session, command: CreateModel) -> None:
    """CREATE FEDERATED MODEL: may be incomplete; START says what is missing."""
    session.require("federated_operator", "create a federated model")
    given = read_options(OptionKind.MODEL, command.options, session.built)
    _check_columns(given)
    _check_name(command.name)
    workspace = _choose_workspace(session, command.workspace)
    require_built(OptionKind.MODEL, command.options, given, session.built)
    check_target_classes(given)
    check_aggregation(session, given)
    check_transforms(given)
    if catalog.insert_model(session.connection, workspace, command.name, given):
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
    _check_columns(merged)
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
    _check_columns(left)
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


def start_training(session: Session, command: StartTraining) -> None:
    """START FEDERATED TRAINING: queues a run with a snapshot of every option it will run under."""
    session.require("federated_operator", "start federated training")
    overrides = read_options(OptionKind.TRAINING, command.options, session.built)
    catalog.hold_workspace(session.connection, command.model)
    model = find_model(session, command.model)
    chosen = {**model.options, **overrides}
    _check_complete(model, chosen)
    check_series(overrides, chosen)
    _check_columns({name: value for name, value in chosen.items() if name != "folds"})
    policy = {**defaults(OptionKind.WORKSPACE, session.built), **model.workspace.options}
    if policy.get("privacy_budget") is not None:
        # Said first: that such a run cannot be is more than that an option of it has no effect.
        check_private(chosen["algorithm"])
    if chosen.get("feature_ranges") and policy.get("privacy_budget") is None:
        raise invalid_value(
            "feature_ranges has no effect without a privacy_budget",
            hint="Without a budget scaling is exact. Give the workspace a budget, or leave the ranges out.",
        )
    _check_budget(session, model, policy)
    require_built(OptionKind.TRAINING, command.options, overrides, session.built)
    nodes = catalog.list_nodes(session.connection, model.workspace)
    said: dict[str, None] = {}
    for tried in trials_of(chosen):
        # An option that is tried is given as if START had named it.
        given = [*command.options, *(Option(name, None) for name in tried)]
        said |= dict.fromkeys(_check_run(session, model, nodes, {**chosen, **tried}, given, policy))
    runs = plan_runs(chosen, overrides)
    if not catalog.insert_runs(session.connection, model, runs):
        raise in_training(model)
    catalog.notify_coordinator(session.connection)
    _warn_of_waiting(session, model, policy, len(nodes))
    for one in [*said, *([describe_runs(runs, policy)] if len(runs) > 1 else [])]:
        session.notice(one)
    warn_of_budgets(session, model, policy)


def _check_run(  # noqa: PLR0917
    session: Session,
    model: catalog.Model,
    nodes: Sequence[catalog.Node],
    chosen: catalog.Options,
    given: Sequence[Option],
    policy: catalog.Options,
) -> list[str]:
    """Raise where a run of these options could not be carried out; returns what START says of it."""
    check_target_classes(chosen)
    check_aggregation(session, chosen)
    check_transforms(chosen)
    _check_read(session, model, given, chosen)
    options = _parse(session, chosen)
    check_ranges(options)
    # A run with fewer nodes than min_nodes waits for the others.
    able = max(len(nodes), policy["min_nodes"])
    private = policy.get("privacy_budget") is not None
    # What the model has of descent may be for a run that chooses it, unless the model itself chooses newton.
    own = model.options if by_newton(options.algorithm, model.options) else ()
    check_regression(options, [*given, *(Option(name, None) for name in own)], private=private)
    most_nodes = count_chosen(policy["node_selection"], able)
    check_rule(options, private=private, most_nodes=most_nodes)
    check_algorithm(options, private=private)
    left_out = check_contract(model.name, nodes, options, private=private, min_nodes=policy["min_nodes"])
    return [*left_out, *describe_rule(options, most_nodes)]


def _warn_of_waiting(
    session: Session, model: catalog.Model, policy: catalog.Options, registered: int
) -> None:
    if not catalog.is_served(session.connection):
        session.warning("no coordinator serves this database yet; the run waits for one")
    if registered < policy["min_nodes"]:
        session.warning(
            f'federated workspace "{model.workspace.name}" has {registered} nodes where a'
            f" run needs {policy['min_nodes']}; it waits {policy['round_timeout']} seconds for the others"
        )


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


def _check_columns(given: catalog.Options) -> None:
    check_model(given)
    features = given.get("features") or ()
    if len(features) > MAX_FEATURES:
        raise not_supported(
            f"models with more than {MAX_FEATURES} features are not supported yet",
            hint=f"The model names {len(features)} features.",
        )


def _check_complete(model: catalog.Model, chosen: catalog.Options) -> None:
    missing = [name for name in ("algorithm", "features", "target") if not chosen.get(name)]
    if missing:
        values = ", ".join(f"{name} = ..." for name in missing)
        raise FederatedError(
            ErrorCode.WRONG_STATE,
            f'federated model "{model.name}" is incomplete: {", ".join(missing)} not set',
            hint=f"ALTER FEDERATED MODEL {quote_name(model.name)} SET ({values}).",
        )


def _check_read(
    session: Session, model: catalog.Model, given: Sequence[Option], chosen: catalog.Options
) -> None:
    """Raise 22023 for an option that no part of the run reads: estimates that were meant to be weighted, say,
    would not be. What the model has may be for an aggregation of its own, where a run chooses another."""
    run, own = _parse(session, chosen), _parse(session, {**chosen, **model.options})
    named = {option.name: option.position for option in given}
    unread = unread_option(named, run)
    left = unread_option([name for name in model.options if name not in named], run, own)
    if unread is None and left is None:
        return
    reset = f"ALTER FEDERATED MODEL {quote_name(model.name)} RESET ({left})"
    raise FederatedError(
        ErrorCode.INVALID_VALUE,
        f'option "{unread or left}" has no effect on this run',
        detail=f"Neither {run.algorithm} nor {run.aggregation} reads it.",
        hint=f"{'Leave it out' if unread else reset}, or choose another algorithm or aggregation.",
        position=named.get(unread or "") or None,
    )


def _parse(session: Session, chosen: catalog.Options) -> TrainingOptions:
    return parse_options({**defaults(OptionKind.MODEL, session.built), **chosen})


def _check_budget(session: Session, model: catalog.Model, policy: catalog.Options) -> None:
    total = policy.get("privacy_budget")
    if total is None:
        return
    consumed = catalog.consumed_epsilon(session.connection, model.workspace)
    if consumed >= total:
        raise FederatedError(
            ErrorCode.BUDGET_EXHAUSTED,
            f'the privacy budget of federated workspace "{model.workspace.name}" is spent',
            detail=f"Epsilon {consumed:.6g} of {total:.6g} is consumed.",
            hint="ALTER FEDERATED WORKSPACE ... SET (privacy_budget = ...) raises it, if all members agree.",
        )
