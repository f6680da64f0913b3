"""Statements about models where they are used: subscriptions, to whom a model is granted, and experiments.

What always holds: as in `statements`, a command carries what the user typed and nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass

from federated_sql.clause_values import Option, OptionName


@dataclass(frozen=True, slots=True)
class CreateSubscription:
    """CREATE FEDERATED SUBSCRIPTION, typed on a participant's own database."""

    name: str
    model: str
    workspace: str
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterSubscription:
    """ALTER FEDERATED SUBSCRIPTION … SET, typed on a participant's own database."""

    name: str
    options: tuple[Option, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ResetSubscription:
    """ALTER FEDERATED SUBSCRIPTION … RESET, typed on a participant's own database."""

    name: str
    options: tuple[OptionName, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RefreshSubscription:
    """ALTER FEDERATED SUBSCRIPTION … REFRESH, typed on a participant's own database."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropSubscription:
    """DROP FEDERATED SUBSCRIPTION: the model's functions here go with it."""

    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class GrantSubscribe:
    """GRANT FEDERATED SUBSCRIBE: `node` None is ALL NODES."""

    model: str
    node: str | None = None


@dataclass(frozen=True, slots=True)
class RevokeSubscribe:
    """REVOKE FEDERATED SUBSCRIBE: `node` None is ALL NODES."""

    model: str
    node: str | None = None


@dataclass(frozen=True, slots=True)
class ArmShare:
    """One arm of an experiment: a version by its tag or number, and which part of the keys it serves."""

    version: str
    share: int | float


@dataclass(frozen=True, slots=True)
class CreateExperiment:
    """CREATE FEDERATED EXPERIMENT: keys are divided among versions of a model."""

    name: str
    model: str
    arms: tuple[ArmShare, ...]
    options: tuple[Option, ...] = ()
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropExperiment:
    """DROP FEDERATED EXPERIMENT: its calls and outcomes go with it."""

    name: str
    if_exists: bool = False
