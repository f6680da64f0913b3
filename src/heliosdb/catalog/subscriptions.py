"""What statements read and change of subscriptions: a participant's own, and to whom a model is granted.

What always holds: versions are written by the node's daemon alone; functions follow by triggers
(sql/subscriptions.sql), in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heliosdb.catalog.commands import Model, Workspace, drop_behavior
from heliosdb.catalog.connection import Connection, Statements

_SQL = Statements("subscriptions.sql")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as statements see it. owned: whether the caller is a member of the owner role."""

    subscription_id: int
    name: str
    model_name: str
    owned: bool


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription about to be made. wanted: a tag or a version's number; None: whichever is current."""

    name: str
    workspace: str
    model_name: str
    wanted: str | None
    auto: bool


def insert_subscription(connection: Connection, new: NewSubscription) -> bool:
    """Make a subscription; False where its name is taken. Triggers refuse a model's name that is taken."""
    values = (new.name, new.workspace, new.model_name, new.wanted, new.auto)
    return bool(_SQL.query(connection, "insert_subscription", *values))


def lock_subscription(connection: Connection, name: str) -> Subscription | None:
    """Return the subscription of that name, locked against deliveries and other changes."""
    rows = _SQL.query(connection, "lock_subscription", name)
    if not rows:
        return None
    row = rows[0]
    return Subscription(row["subscription_id"], row["name"], row["model_name"], row["owned"])


def is_subscribed(connection: Connection, model: str) -> bool:
    """Say whether a model of that name is subscribed to in this database."""
    return bool(_SQL.query(connection, "is_subscribed", model))


def choose_version(connection: Connection, subscription: Subscription, wanted: str | None) -> None:
    """Say which version is wanted; it is taken when it is offered, whatever `auto` is."""
    _SQL.query(connection, "choose_version", subscription.subscription_id, wanted)


def choose_auto(connection: Connection, subscription: Subscription, auto: bool) -> None:
    """Say whether later versions are taken as they come."""
    _SQL.query(connection, "choose_auto", subscription.subscription_id, auto)


def refresh_subscription(connection: Connection, subscription: Subscription) -> None:
    """Have what is offered next taken, also where it was refused before."""
    _SQL.query(connection, "refresh_subscription", subscription.subscription_id)


def delete_subscription(connection: Connection, subscription: Subscription, *, cascade: bool) -> None:
    """Delete a subscription, its versions and the model's functions; dependents refuse unless `cascade`."""
    with drop_behavior(connection, cascade=cascade):
        _SQL.query(connection, "delete_subscription", subscription.subscription_id)


def grant_subscribe(connection: Connection, model: Model, node: str | None) -> None:
    """Let a node of the model's workspace subscribe to it, or (None) all nodes."""
    _SQL.query(connection, "grant_subscribe", model.model_id, model.workspace.workspace_id, node)


def revoke_subscribe(connection: Connection, model: Model, node: str | None) -> bool:
    """Take such a grant back; False where there was none."""
    return bool(_SQL.query(connection, "revoke_subscribe", model.model_id, node))


def list_grants(connection: Connection, model: Model) -> Sequence[str | None]:
    """Return the nodes that may subscribe to a model; None among them where all nodes may."""
    return [row["node"] for row in _SQL.query(connection, "list_grants", model.model_id)]


def list_keepers(connection: Connection, model: Model, node: str | None) -> Sequence[tuple[str, int]]:
    """Return the nodes that hold a version of a model which they are no longer granted, and its number."""
    rows = _SQL.query(connection, "list_keepers", model.model_id, node)
    return [(row["node"], row["version"]) for row in rows]


def list_node_subscriptions(connection: Connection, workspace: Workspace, node: str) -> Sequence[str]:
    """Return the models of which a node holds a version, by its own word."""
    rows = _SQL.query(connection, "list_node_subscriptions", workspace.workspace_id, node)
    return [row["model"] for row in rows]
