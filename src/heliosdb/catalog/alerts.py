"""Alerts and what became of them: what statements write, and what the coordinator finds and records.

What always holds: every time that is stored comes from the caller's clock, in seconds since the epoch; a
firing is told of under one id, and is due until it is delivered or given up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from federated_sql.statements import AlertCondition
from heliosdb.catalog.commands import Workspace
from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.alerts import OPERATORS, Standing

_SQL = Statements("alerts.sql")

MOST_FAILURE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Notifier:
    """Whom the coordinator that leads has settings to notify."""

    sends_mail: bool
    calls_hooks: bool
    allowed_hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NamedAlert:
    """An alert as DROP finds it. owned: whether the caller is a member of its workspace's owner role."""

    alert_id: int
    workspace: str
    owned: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """An alert as the coordinator evaluates it."""

    alert_id: int
    workspace: str
    name: str
    conditions: tuple[AlertCondition, ...]
    standing: Standing


@dataclass(frozen=True, slots=True)
class Firing:
    """A firing that is due. kind: alert or breach; conditions: as they were written, "" of a breach."""

    firing_id: UUID
    kind: str
    workspace: str
    name: str
    conditions: str
    observed: Mapping[str, Any]
    target: str
    attempts: int
    fired_at: float
    events: int
    last_event_at: float


def insert_alert(
    connection: Connection,
    workspace: Workspace,
    name: str,
    conditions: Iterable[AlertCondition],
    target: str,
) -> bool:
    """Make an alert; False where the workspace has one of that name."""
    told = json.dumps([_condition_json(one) for one in conditions])
    return bool(_SQL.query(connection, "insert_alert", workspace.workspace_id, name, told, target))


def list_alerts_named(connection: Connection, name: str) -> list[NamedAlert]:
    """Return the alerts of that name, of whatever workspace."""
    return [NamedAlert(**row) for row in _SQL.query(connection, "list_alerts_named", name)]


def delete_alert(connection: Connection, alert: NamedAlert) -> bool:
    """Drop an alert; what it has fired stays. False where somebody else has dropped it."""
    return bool(_SQL.query(connection, "delete_alert", alert.alert_id))


def find_notifier(connection: Connection) -> Notifier | None:
    """Return what the coordinator can notify; None before one has said it."""
    rows = _SQL.query(connection, "find_notifier")
    if not rows:
        return None
    row = rows[0]
    return Notifier(row["sends_mail"], row["calls_hooks"], tuple(row["allowed_hosts"]))


def publish_notifier(connection: Connection, notifier: Notifier) -> None:
    """Record what the coordinator can notify."""
    values = (notifier.sends_mail, notifier.calls_hooks, list(notifier.allowed_hosts))
    _SQL.query(connection, "publish_notifier", *values)


def list_watched(connection: Connection) -> list[Watched]:
    """Return every alert, those of a workspace together; but for one whose conditions are none, which no
    statement has made."""
    found = (_watched(row) for row in _SQL.query(connection, "list_watched"))
    return [alert for alert in found if alert is not None]


def read_metrics(connection: Connection, workspace: str, metrics: Collection[str]) -> dict[str, float | None]:
    """Return these metrics of a workspace; None where one is unknown, or no finite number."""
    rows = _SQL.query(connection, "read_metrics", workspace, sorted(metrics))
    return {row["metric"]: _finite(row["value"]) for row in rows}


def set_standing(connection: Connection, alert: Watched, standing: Standing) -> None:
    """Record how an alert stands."""
    _SQL.query(connection, "set_standing", alert.alert_id, standing.is_raised, standing.calm_since)


def fire(
    connection: Connection, alert: Watched, observed: Mapping[str, float | None], now: float
) -> UUID | None:
    """Record that an alert fired; None where it was dropped meanwhile."""
    rows = _SQL.query(connection, "fire", alert.alert_id, json.dumps(dict(observed)), now)
    return UUID(rows[0]["firing_id"]) if rows else None


def list_due(connection: Connection, now: float, limit: int) -> list[Firing]:
    """Return what is to be delivered now, what has waited longest first."""
    return [_firing(row) for row in _SQL.query(connection, "list_due", now, limit)]


def begin_attempt(connection: Connection, firing: Firing, retry_at: float) -> bool:
    """Count an attempt before it is made; False where nothing is to be delivered any more.

    retry_at: when another one is due where nobody records how this one ended.
    """
    return bool(_SQL.query(connection, "begin_attempt", str(firing.firing_id), retry_at))


def record_delivered(connection: Connection, firing: Firing, now: float) -> None:
    """Record that the target took it."""
    _SQL.query(connection, "end_attempt", str(firing.firing_id), now, None, None)


def record_failure(connection: Connection, firing: Firing, failure: str, retry_at: float | None) -> None:
    """Record why an attempt failed, and when the next is due; None: it is given up."""
    told = failure[:MOST_FAILURE_CHARACTERS]
    _SQL.query(connection, "end_attempt", str(firing.firing_id), None, told, retry_at)


def notify_channel(connection: Connection, channel: str, payload: str) -> None:
    """Send to who listens, at COMMIT."""
    _SQL.query(connection, "notify_channel", channel, payload)


def find_unchecked(connection: Connection, before: float) -> tuple[int, str] | None:
    """Return id and name of a workspace whose audit log was not verified since `before`; None for none."""
    rows = _SQL.query(connection, "list_unchecked", before)
    return (rows[0]["workspace_id"], rows[0]["name"]) if rows else None


def read_audit_state(connection: Connection, workspace: str) -> tuple[bool, str | None]:
    """Return whether the audit log of a workspace holds, and why not."""
    (row,) = _SQL.query(connection, "audit_state", workspace)
    return row["is_intact"], row["reason"]


def record_audit_check(
    connection: Connection, workspace_id: int, now: float, *, is_intact: bool, reason: str | None
) -> None:
    """Record what the verification found."""
    _SQL.query(connection, "record_audit_check", workspace_id, now, is_intact, reason)


def count_privilege_refusals(connection: Connection) -> tuple[int, int]:
    """Return how many statements were refused for want of a privilege, and how many of them were seen."""
    rows = _SQL.query(connection, "count_privilege_refusals")
    return (int(rows[0]["counted"]), int(rows[0]["seen"])) if rows else (0, 0)


def set_refusals_seen(connection: Connection, count: int) -> None:
    """Record that a breach was raised for the refusals up to this one."""
    _SQL.query(connection, "set_refusals_seen", count)


def list_breach_workspaces(connection: Connection) -> list[str]:
    """Return the workspaces that name whom to notify of a breach."""
    return [row["name"] for row in _SQL.query(connection, "list_breach_workspaces")]


def note_breach(
    connection: Connection,
    workspace: str,
    event: str,
    reason: str,
    *,
    node: str | None = None,
    now: float | None = None,
) -> UUID | None:
    """Raise a breach, or count one more event of one that goes on; the id of a new one.

    reason: kept in ASCII, which every database's encoding has: it may be a node's own words. now None: the
    database's clock.
    """
    plain = reason.encode("ascii", "replace").decode()
    rows: Sequence[Row] = _SQL.query(connection, "note_breach", workspace, event, node, plain, now)
    found = rows[0]["firing_id"]
    return None if found is None else UUID(found)


def _condition_json(condition: AlertCondition) -> dict[str, Any]:
    return {"metric": condition.metric, "operator": condition.operator, "value": condition.value}


def _watched(row: Row) -> Watched | None:
    try:
        conditions = tuple(_condition(**one) for one in json.loads(row["conditions"]))
    except (TypeError, ValueError):
        conditions = ()
    if not conditions:
        return None
    standing = Standing(row["is_raised"], row["calm_since"])
    return Watched(row["alert_id"], row["workspace"], row["name"], conditions, standing)


def _condition(metric: object, operator: object, value: object) -> AlertCondition:
    known = isinstance(metric, str) and isinstance(operator, str) and operator in OPERATORS
    if not known or isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return AlertCondition(str(metric), str(operator), value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _firing(row: Row) -> Firing:
    values = dict(row)
    return Firing(**values | {"firing_id": UUID(row["firing_id"]), "observed": json.loads(row["observed"])})
