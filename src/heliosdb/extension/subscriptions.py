"""Statements about subscriptions, typed on a participant's own database by its own DBA.

What always holds: they say what is wanted, and never bring a version: the participant's node does when the
coordinator offers it.
"""

from __future__ import annotations

from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.option_values import LATEST
from federated_sql.options import OptionKind, defaults, drop_options, read_options, require_built
from federated_sql.serving_statements import (
    AlterSubscription,
    CreateSubscription,
    DropSubscription,
    RefreshSubscription,
    ResetSubscription,
)
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import subscriptions
from heliosdb.catalog.subscriptions import NewSubscription, Subscription
from heliosdb.extension.session import Session, duplicate


def create_subscription(session: Session, command: CreateSubscription) -> None:
    """CREATE FEDERATED SUBSCRIPTION: the model's function is there at once, and says what it waits for."""
    session.require("federated_admin", "create a federated subscription")
    given = read_options(OptionKind.SUBSCRIPTION, command.options, session.built)
    if "@" in command.model:
        raise FederatedError(
            ErrorCode.INVALID_NAME,
            "a subscription names a model without a version",
            hint="WITH (version = 'tag') says which version is wanted.",
        )
    require_built(OptionKind.SUBSCRIPTION, command.options, given, session.built)
    merged = {**defaults(OptionKind.SUBSCRIPTION, session.built), **given}
    new = NewSubscription(
        command.name, command.workspace, command.model, _wanted(merged), bool(merged["auto"])
    )
    if subscriptions.insert_subscription(session.connection, new):
        return
    if not command.if_not_exists:
        raise duplicate("subscription", command.name)
    session.notice(f'federated subscription "{command.name}" already exists, skipping')


def alter_subscription(session: Session, command: AlterSubscription) -> None:
    """ALTER FEDERATED SUBSCRIPTION … SET: the version that is here stays until the other has come."""
    session.require("federated_admin", "alter a federated subscription")
    given = read_options(OptionKind.SUBSCRIPTION, command.options, session.built)
    require_built(OptionKind.SUBSCRIPTION, command.options, given, session.built)
    _change(session, command.name, given, if_exists=command.if_exists)


def reset_subscription(session: Session, command: ResetSubscription) -> None:
    """ALTER FEDERATED SUBSCRIPTION … RESET: the current version again, as it comes."""
    session.require("federated_admin", "alter a federated subscription")
    drop_options(OptionKind.SUBSCRIPTION, command.options, {})
    reset = {option.name for option in command.options}
    again = defaults(OptionKind.SUBSCRIPTION, session.built)
    given = {name: value for name, value in again.items() if name in reset}
    _change(session, command.name, given, if_exists=command.if_exists)


def refresh_subscription(session: Session, command: RefreshSubscription) -> None:
    """ALTER FEDERATED SUBSCRIPTION … REFRESH: takes what is offered, also what was refused before."""
    session.require("federated_admin", "alter a federated subscription")
    subscription = _lock(session, command.name, if_exists=command.if_exists)
    if subscription is not None:
        subscriptions.refresh_subscription(session.connection, subscription)


def drop_subscription(session: Session, command: DropSubscription) -> None:
    """DROP FEDERATED SUBSCRIPTION: with its versions and their functions; with dependents only by CASCADE."""
    session.require("federated_admin", "drop a federated subscription")
    subscription = _lock(session, command.name, if_exists=command.if_exists)
    if subscription is not None:
        subscriptions.delete_subscription(session.connection, subscription, cascade=command.cascade)


def _change(session: Session, name: str, given: catalog.Options, *, if_exists: bool) -> None:
    subscription = _lock(session, name, if_exists=if_exists)
    if subscription is None:
        return
    if "version" in given:
        subscriptions.choose_version(session.connection, subscription, _wanted(given))
    if "auto" in given:
        subscriptions.choose_auto(session.connection, subscription, bool(given["auto"]))


def _wanted(given: catalog.Options) -> str | None:
    version = str(given["version"])
    return None if version == LATEST else version


def _lock(session: Session, name: str, *, if_exists: bool) -> Subscription | None:
    """Return the caller's own subscription, locked; None where it may be missing and is."""
    subscription = subscriptions.lock_subscription(session.connection, name)
    if subscription is None:
        session.skips("subscription", name, if_exists=if_exists)
        return None
    if not subscription.owned:
        raise FederatedError(ErrorCode.PRIVILEGE, f'must be owner of federated subscription "{name}"')
    return subscription
