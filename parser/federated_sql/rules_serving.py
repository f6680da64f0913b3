"""Statements about models where they are used: subscriptions, who may subscribe, and experiments."""

from __future__ import annotations

from federated_sql.clauses import (
    Rule,
    cascade,
    if_exists,
    if_not_exists,
    in_workspace,
    reset_options,
    set_options,
    text,
    with_options,
)
from federated_sql.cursor import Cursor
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.serving_statements import (
    AlterSubscription,
    ArmShare,
    CreateExperiment,
    CreateSubscription,
    DropExperiment,
    DropSubscription,
    GrantSubscribe,
    RefreshSubscription,
    ResetSubscription,
    RevokeSubscribe,
)
from federated_sql.statements import Command
from federated_sql.values import parse_number

MAX_ARMS = 20
"""Most versions that one experiment compares."""


def _create_subscription(cursor: Cursor) -> Command:
    unless = if_not_exists(cursor)
    name = cursor.name("subscription")
    cursor.expect_words("to", "model")
    model = cursor.name("model")
    workspace = in_workspace(cursor)
    return CreateSubscription(name, model, workspace, with_options(cursor), unless)


def _alter_subscription(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    name = cursor.name("subscription")
    if cursor.accept_words("refresh"):
        return RefreshSubscription(name, where)
    if reset := reset_options(cursor):
        return ResetSubscription(name, reset, where)
    return AlterSubscription(name, set_options(cursor), where)


def _drop_subscription(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    return DropSubscription(cursor.name("subscription"), where, cascade(cursor))


def _grant_subscribe(cursor: Cursor) -> Command:
    model = _on_model(cursor)
    cursor.expect_words("to")
    return GrantSubscribe(model, _nodes(cursor))


def _revoke_subscribe(cursor: Cursor) -> Command:
    model = _on_model(cursor)
    cursor.expect_words("from")
    return RevokeSubscribe(model, _nodes(cursor))


def _on_model(cursor: Cursor) -> str:
    cursor.expect_words("on", "model")
    return cursor.name("model")


def _nodes(cursor: Cursor) -> str | None:
    """Consume `NODE 'name'`, or `ALL NODES`, which is None."""
    if cursor.accept_words("all", "nodes"):
        return None
    if not cursor.accept_words("node"):
        raise cursor.error("A model is granted TO NODE 'name' or TO ALL NODES, and revoked FROM them.")
    return cursor.string_name("node")


def _create_experiment(cursor: Cursor) -> Command:
    unless = if_not_exists(cursor)
    name = cursor.name("experiment")
    model = _on_model(cursor)
    cursor.expect_words("versions")
    cursor.expect_symbol("(", "The versions are written: ('tag or number' => share, …).")
    arms = [_arm(cursor)]
    while cursor.accept_symbol(","):
        if len(arms) == MAX_ARMS:
            raise FederatedError(
                ErrorCode.PROGRAM_LIMIT,
                f"an experiment may not have more than {MAX_ARMS} versions",
                position=cursor.current.position if cursor.current else None,
            )
        arms.append(_arm(cursor))
    cursor.expect_symbol(")", "Versions are separated by commas.")
    return CreateExperiment(name, model, tuple(arms), with_options(cursor), unless)


def _arm(cursor: Cursor) -> ArmShare:
    version = text(cursor, "version")
    cursor.expect_symbol("=>", "A version's share is written: 'tag or number' => share.")
    return ArmShare(version, parse_number(cursor))


def _drop_experiment(cursor: Cursor) -> Command:
    where = if_exists(cursor)
    return DropExperiment(cursor.name("experiment"), where)


RULES = (
    Rule(
        "CREATE FEDERATED SUBSCRIPTION",
        "CREATE FEDERATED SUBSCRIPTION [IF NOT EXISTS] name TO MODEL model IN WORKSPACE name "
        "[WITH (option = value, …)]",
        _create_subscription,
    ),
    Rule(
        "ALTER FEDERATED SUBSCRIPTION",
        "ALTER FEDERATED SUBSCRIPTION [IF EXISTS] name SET (option = value, …) | RESET (option, …) | REFRESH",
        _alter_subscription,
    ),
    Rule(
        "DROP FEDERATED SUBSCRIPTION",
        "DROP FEDERATED SUBSCRIPTION [IF EXISTS] name [CASCADE]",
        _drop_subscription,
    ),
    Rule(
        "GRANT FEDERATED SUBSCRIBE",
        "GRANT FEDERATED SUBSCRIBE ON MODEL model TO NODE 'name' | ALL NODES",
        _grant_subscribe,
    ),
    Rule(
        "REVOKE FEDERATED SUBSCRIBE",
        "REVOKE FEDERATED SUBSCRIBE ON MODEL model FROM NODE 'name' | ALL NODES",
        _revoke_subscribe,
    ),
    Rule(
        "CREATE FEDERATED EXPERIMENT",
        "CREATE FEDERATED EXPERIMENT [IF NOT EXISTS] name ON MODEL model "
        "VERSIONS ('tag or number' => share, …) [WITH (option = value, …)]",
        _create_experiment,
    ),
    Rule(
        "DROP FEDERATED EXPERIMENT",
        "DROP FEDERATED EXPERIMENT [IF EXISTS] name",
        _drop_experiment,
    ),
)
