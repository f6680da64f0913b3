"""CREATE and DROP FEDERATED ALERT: what is watched is committed here; the coordinator watches it.

What always holds: a target that can never be notified is refused; one that the coordinator could notify with
other settings is a WARNING, for settings may come after the alert.
"""

from __future__ import annotations

from federated_sql.alert_metrics import check_metric
from federated_sql.errors import FederatedError, invalid_value
from federated_sql.notify_targets import ChannelTarget, MailTarget, Target, WebTarget, read_target
from federated_sql.statements import CreateAlert, DropAlert
from heliosdb.catalog import alerts
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.alerts import NamedAlert, Notifier
from heliosdb.domain.addresses import is_local_name, is_public
from heliosdb.extension.session import Session, duplicate, undefined_here

_LISTED = "federated_alerts lists those of this database."


def create_alert(session: Session, command: CreateAlert) -> None:
    """CREATE FEDERATED ALERT: it is watched from the coordinator's next look on."""
    session.require("federated_admin", "create a federated alert")
    workspace = catalog.find_workspace(session.connection, command.workspace)
    if workspace is None:
        raise undefined_here("workspace", command.workspace)
    session.own_workspace(workspace)
    for condition in command.conditions:
        check_metric(condition.metric)
    target = read_target(command.target)
    notifier = alerts.find_notifier(session.connection)
    _check_host(target, notifier)
    if not alerts.insert_alert(
        session.connection, workspace, command.name, command.conditions, command.target
    ):
        if not command.if_not_exists:
            raise duplicate("alert", command.name)
        session.notice(f'federated alert "{command.name}" already exists, skipping')
        return
    _warn_of_target(session, target, notifier)


def drop_alert(session: Session, command: DropAlert) -> None:
    """DROP FEDERATED ALERT: what it has fired stays to be seen; what is not delivered is not any more."""
    session.require("federated_admin", "drop a federated alert")
    if command.workspace is not None and (
        catalog.find_workspace(session.connection, command.workspace) is None
    ):
        raise undefined_here("workspace", command.workspace)
    found = [
        one
        for one in alerts.list_alerts_named(session.connection, command.name)
        if command.workspace in (None, one.workspace)
    ]
    alert = _only(command.name, found)
    if alert is None:
        session.skips("alert", command.name, if_exists=command.if_exists, hint=_LISTED)
        return
    session.own_alert(command.name, owned=alert.owned)
    if not alerts.delete_alert(session.connection, alert):
        session.skips("alert", command.name, if_exists=command.if_exists, hint=_LISTED)


def check_breach_target(session: Session, given: catalog.Options) -> None:
    """Of a workspace's options the one that names whom to notify of a breach: as an alert's target."""
    told = given.get("breach_notify")
    if told is None:
        return
    target = read_target(told)
    notifier = alerts.find_notifier(session.connection)
    _check_host(target, notifier)
    _warn_of_target(session, target, notifier)


def _check_host(target: Target, notifier: Notifier | None) -> None:
    """Raise 22023 for a webhook whose host shows that it is within a network, unless the coordinator allows
    it; what a name leads to is looked at when it is called."""
    if not isinstance(target, WebTarget):
        return
    address = target.literal
    is_private = is_local_name(target.host) if address is None else not is_public(address)
    if is_private and (notifier is None or target.host not in notifier.allowed_hosts):
        raise invalid_value(
            f"a webhook may not be called at {target.host}",
            detail="It is a private, loopback or otherwise not public address.",
            hint="The coordinator's setting alerts.allowed_hosts names hosts that may be called.",
        )


def _warn_of_target(session: Session, target: Target, notifier: Notifier | None) -> None:
    """Say where nobody could notify the target as things are."""
    if notifier is None:
        session.warning("no coordinator serves this database yet; alerts wait for one")
    elif isinstance(target, MailTarget) and not notifier.sends_mail:
        session.warning(
            "the coordinator has no mail server (setting alerts.smtp): it cannot notify this address"
        )
    elif isinstance(target, WebTarget) and not notifier.calls_hooks:
        session.warning(
            "the coordinator has no secret to sign calls with (setting alerts.webhook_secret):"
            " it cannot notify this address"
        )
    elif isinstance(target, ChannelTarget) and target.channel == "heliosdb_federated":
        session.warning(
            "the coordinator itself listens on this channel: each notification has it look around"
        )


def _only(name: str, found: list[NamedAlert]) -> NamedAlert | None:
    if len(found) > 1:
        raise _ambiguous(name, found)
    return found[0] if found else None


def _ambiguous(name: str, found: list[NamedAlert]) -> FederatedError:
    return invalid_value(
        f'federated alert "{name}" is not unique',
        detail=f"Workspaces that have one: {', '.join(one.workspace for one in found)}.",
        hint=f"DROP FEDERATED ALERT {name} ON WORKSPACE … says which.",
    )
