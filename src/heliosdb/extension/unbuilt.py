"""Statements whose engine is not there yet: what can be checked is, then 0A000 names what is missing.

What always holds: nothing is changed. Roles are checked first, so that who may not learns nothing.
"""

from __future__ import annotations

import difflib
import re

from federated_sql.errors import FederatedError, invalid_value, not_supported
from federated_sql.lexer import MAX_NAME_BYTES
from federated_sql.statements import (
    MISSING_ENGINES,
    Command,
    CreateAlert,
    DropAlert,
    ExportSubject,
    GrantConsent,
    RevokeConsent,
    command_tag,
)
from heliosdb.catalog import commands as catalog
from heliosdb.extension import server_files
from heliosdb.extension.session import Session, undefined

EXPORT_FORMATS = ("csv", "json")
METRICS = (
    "active_nodes",
    "communication_mb",
    "consumed_epsilon",
    "dropped_nodes",
    "estimated_remaining_rounds",
    "global_accuracy",
    "global_loss",
    "loss_delta",
    "participating_nodes",
    "registered_nodes",
    "remaining_epsilon",
    "round_duration_seconds",
)
"""What an alert may watch: columns of the workspace's and its models' monitoring views."""

_MAIL = re.compile(r"[^@\s,;:/<>\"]+@[^@\s,;:/<>\"]+\.[^@\s,;:/<>\".]+")
_WEB = re.compile(r"https://[^\s/?#@]+([/?#]\S*)?")
_CHANNEL = re.compile(r"pg:\S+")


def export_subject(session: Session, command: ExportSubject) -> None:
    """EXPORT FEDERATED DATA."""
    session.require("federated_admin", "export the data of a subject")
    session.require("pg_write_server_files", "write a file on the server")
    _find_workspace(session, command.workspace)
    if command.format.lower() not in EXPORT_FORMATS:
        raise _unknown("export format", command.format, EXPORT_FORMATS)
    server_files.check_writable(command.path, server_files.data_directory())
    raise _unbuilt(command)


def grant_consent(session: Session, command: GrantConsent) -> None:
    """GRANT FEDERATED CONSENT."""
    session.require("federated_admin", "grant consent to federated training")
    _find_workspace(session, command.workspace)
    raise _unbuilt(command)


def revoke_consent(session: Session, command: RevokeConsent) -> None:
    """REVOKE FEDERATED CONSENT."""
    session.require("federated_admin", "revoke consent to federated training")
    _find_workspace(session, command.workspace)
    raise _unbuilt(command)


def create_alert(session: Session, command: CreateAlert) -> None:
    """CREATE FEDERATED ALERT."""
    session.require("federated_admin", "create a federated alert")
    _find_workspace(session, command.workspace)
    for condition in command.conditions:
        if condition.metric not in METRICS:
            raise _unknown("metric", condition.metric, METRICS)
    _check_target(command.target)
    raise _unbuilt(command)


def drop_alert(session: Session, command: DropAlert) -> None:
    """DROP FEDERATED ALERT."""
    session.require("federated_admin", "drop a federated alert")
    if command.workspace is not None:
        _find_workspace(session, command.workspace)
    raise _unbuilt(command)


def _find_workspace(session: Session, name: str) -> None:
    """Raise unless the workspace is the caller's own, or at a node, one that datasets are shared with."""
    workspace = catalog.find_workspace(session.connection, name)
    if workspace is not None:
        session.own_workspace(workspace)
    elif not catalog.is_workspace_known(session.connection, name):
        raise undefined("workspace", name)


def _check_target(target: str) -> None:
    known = any(form.fullmatch(target) for form in (_MAIL, _WEB, _CHANNEL))
    channel = target.removeprefix("pg:")
    if known and target.isprintable() and (channel == target or len(channel.encode()) <= MAX_NAME_BYTES):
        return
    raise invalid_value(
        "NOTIFY names no address that can be notified",
        hint="Give a mail address, https://host/path, or pg:channel for LISTEN channel.",
    )


def _unknown(kind: str, given: str, known: tuple[str, ...]) -> FederatedError:
    near = difflib.get_close_matches(given.lower()[:MAX_NAME_BYTES], known, 1, 0.6)
    return invalid_value(
        f'unrecognized {kind} "{given}"',
        detail=f"Known are {', '.join(known)}.",
        hint=f"Did you mean {near[0]}?" if near else None,
    )


def _unbuilt(command: Command) -> FederatedError:
    return not_supported(f"{command_tag(command)} is not supported yet: {MISSING_ENGINES[type(command)]}")
