"""START FEDERATED TRAINING: what is checked before a run is queued, for START itself and for EXPLAIN.

What always holds: `check_start` raises what START raises, in the same order, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from federated_sql.clause_values import Option
from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from federated_sql.options import OptionKind, defaults, require_built
from federated_sql.render import quote_name
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.commands import NewRun
from heliosdb.catalog.run_options import parse_options
from heliosdb.domain.run import TrainingOptions, seals_prediction
from heliosdb.domain.wording import counted
from heliosdb.extension.aggregation_functions import check_aggregation
from heliosdb.extension.contract import (
    check_algorithm,
    check_contract,
    check_ranges,
    check_target_classes,
    check_transforms,
)
from heliosdb.extension.hierarchy import check_runs_by_aggregators, describe_aggregators
from heliosdb.extension.models import check_columns
from heliosdb.extension.regressions import check_regression, describe_rounds
from heliosdb.extension.series import check_series, describe_runs, plan_runs, trials_of
from heliosdb.extension.server_key import check_server
from heliosdb.extension.session import Session
from heliosdb.extension.start_budgets import describe_noise
from heliosdb.extension.transferring import check_transferring
from heliosdb.extension.voting import check_voting, deal_nodes, describe_voting, measures_vote, smallest_group
from heliosdb.parts.algorithms import by_newton, check_noise, check_private
from heliosdb.parts.asynchronous import Batching, check_batching
from heliosdb.parts.checks import (
    check_rule,
    check_selection,
    describe_coding,
    describe_rule,
    explain_unread,
    unread_option,
)
from heliosdb.parts.clipping import check_adaptive_clipping
from heliosdb.parts.groups import groups_of_run, least_nodes
from heliosdb.parts.personal import PersonalTerms, check_personal
from heliosdb.parts.private_classes import check_private_classes
from heliosdb.parts.selections import count_chosen
from heliosdb.parts.trust import TrustTerms, check_trust


@dataclass(frozen=True, slots=True)
class Start:
    """What a START is about. given: the options that it names, as typed; overrides: the same, read.

    chosen: the model's options and these; policy: the workspace's options, defaults filled in; nodes: those
    that are registered.
    """

    model: catalog.Model
    given: tuple[Option, ...]
    overrides: catalog.Options
    chosen: catalog.Options
    policy: catalog.Options
    nodes: Sequence[catalog.Node]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a START that is not refused would queue, and what it says of that. series: what the runs would be
    called together, where they are several."""

    runs: list[NewRun]
    said: tuple[str, ...]
    series: UUID


def read_start(
    session: Session, model: catalog.Model, given: tuple[Option, ...], overrides: catalog.Options
) -> Start:
    """Return what a START of these options is about; nothing of it is checked yet."""
    policy = {**defaults(OptionKind.WORKSPACE, session.built), **model.workspace.options}
    nodes = catalog.list_nodes(session.connection, model.workspace)
    return Start(model, given, overrides, {**model.options, **overrides}, policy, nodes)


def check_start(session: Session, start: Start) -> Checked:
    """Raise FederatedError where START refuses; returns what it would queue."""
    model, chosen, policy = start.model, start.chosen, start.policy
    _check_complete(model, chosen)
    check_series(start.overrides, chosen)
    check_columns({name: value for name, value in chosen.items() if name != "folds"})
    if policy.get("privacy_budget") is not None:
        # Said first: that such a run cannot be is more than that an option of it has no effect.
        check_private(chosen["algorithm"], chosen)
        check_noise(chosen["algorithm"], chosen, policy["noise_mechanism"])
    if chosen.get("feature_ranges") and policy.get("privacy_budget") is None:
        raise invalid_value(
            "feature_ranges has no effect without a privacy_budget",
            hint="Without a budget scaling is exact. Give the workspace a budget, or leave the ranges out.",
        )
    _check_budget(session, model, policy)
    check_runs_by_aggregators(policy, start.nodes)
    check_voting(chosen, policy, start.nodes)
    require_built(OptionKind.TRAINING, start.given, start.overrides, session.built)
    said: dict[str, None] = {}
    for tried in trials_of(chosen):
        # An option that is tried is given as if START had named it.
        given = [*start.given, *(Option(name, None) for name in tried)]
        said |= dict.fromkeys(_check_run(session, start, {**chosen, **tried}, given))
    series = uuid4()
    groups = deal_nodes(chosen, start.nodes, model.workspace.name)
    measures = measures_vote(chosen, policy)
    runs = plan_runs(chosen, start.overrides, groups, measures=measures)
    said |= dict.fromkeys(
        [
            *describe_noise(policy),
            *describe_voting(groups, are_declared=bool(chosen.get("target_classes")), measures=measures),
            *describe_runs(runs, policy),
        ]
    )
    return Checked(runs, tuple(said), series)


def _check_run(session: Session, start: Start, chosen: catalog.Options, given: Sequence[Option]) -> list[str]:
    """Raise where a run of these options could not be carried out; returns what START says of it."""
    model, nodes, policy = start.model, start.nodes, start.policy
    check_target_classes(chosen)
    check_aggregation(session, chosen)
    check_transforms(chosen)
    _check_read(session, start, given, chosen)
    options = parse_chosen(session, chosen, policy)
    if policy.get("privacy_budget") is not None:
        classes = len(options.target_classes)
        check_private_classes(options.algorithm, options.given, classes, policy["noise_mechanism"])
    check_ranges(options)
    begun = check_transferring(session, options, {**policy, "workspace": model.workspace.name})
    private, is_asynchronous = policy.get("privacy_budget") is not None, policy["async_aggregation"]
    kept = check_personal(options, PersonalTerms(private, is_asynchronous, policy["compliance_mode"]))
    # A run with fewer nodes than min_nodes waits for the others.
    able = max(smallest_group(chosen, len(nodes)), policy["min_nodes"])
    # What the model has of descent may be for a run that chooses it, unless the model itself chooses newton.
    own = model.options if by_newton(options.algorithm, model.options) else ()
    check_regression(options, [*given, *(Option(name, None) for name in own)], private=private)
    most_nodes = count_chosen(policy["node_selection"], able)
    check_rule(options, private=private, most_nodes=most_nodes)
    named = {*model.options, *(option.name for option in given)}
    check_trust(options, TrustTerms.of_options(policy), named)
    batching = Batching(policy["aggregation_batch_size"], is_asynchronous, policy["node_selection"], private)
    check_batching(options, batching, most_nodes)
    most = min(smallest_group(chosen, len(nodes)), policy["max_nodes"])
    check_selection(options, policy["node_selection"], nodes=most)
    check_algorithm(options, private=private)
    if policy["adaptive_clipping"]:
        check_adaptive_clipping(options, policy["noise_mechanism"])
    needed = max(policy["min_nodes"], least_nodes(options))
    left_out = check_contract(model.name, nodes, options, private=private, min_nodes=needed)
    passed_by = describe_aggregators(options.protocol, nodes, has_groups=groups_of_run(options) is not None)
    if seals_prediction(chosen, policy["compliance_mode"]):
        check_server()
    # A default is not what somebody asked for.
    rounds = describe_rounds(options) if private and "rounds" in {**model.options, **start.overrides} else []
    said = describe_rule(options, most_nodes) + describe_coding(options)
    return [*begun, *kept, *left_out, *said, *passed_by, *rounds]


def warn_of_waiting(session: Session, start: Start) -> None:
    """Warn of what a queued run would wait for."""
    model, policy, registered = start.model, start.policy, len(start.nodes)
    if not catalog.is_served(session.connection):
        session.warning("no coordinator serves this database yet; the run waits for one")
    if registered < policy["min_nodes"]:
        session.warning(
            f'federated workspace "{model.workspace.name}" has {counted(registered, "node")} where a'
            f" run needs {policy['min_nodes']}; it waits {counted(policy['round_timeout'], 'second')} for the"
            " others"
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


def _check_read(session: Session, start: Start, given: Sequence[Option], chosen: catalog.Options) -> None:
    """Raise 22023 for an option that no part of the run reads: estimates that were meant to be weighted, say,
    would not be. What the model has may be for an aggregation of its own, where a run chooses another."""
    model, policy = start.model, start.policy
    run, own = (parse_chosen(session, one, policy) for one in (chosen, {**chosen, **model.options}))
    named = {option.name: option.position for option in given}
    unread = unread_option(named, run)
    left = unread_option([name for name in model.options if name not in named], run, own)
    if unread is None and left is None:
        return
    detail, instead = explain_unread(unread or left or "", run)
    reset = f"ALTER FEDERATED MODEL {quote_name(model.name)} RESET ({left})"
    raise FederatedError(
        ErrorCode.INVALID_VALUE,
        f'option "{unread or left}" has no effect on this run',
        detail=detail,
        hint=f"{'Leave it out' if unread else reset}, or {instead}.",
        position=named.get(unread or "") or None,
    )


def parse_chosen(session: Session, chosen: catalog.Options, policy: catalog.Options) -> TrainingOptions:
    """Return the training options of a run, defaults filled in. policy: the workspace's options."""
    return parse_options({**defaults(OptionKind.MODEL, session.built), **chosen}, policy=policy)


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
