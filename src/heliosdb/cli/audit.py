"""`heliosdb audit`: export an audit log, show the heads that a node holds, verify one against the other.

What always holds: it only reads databases; verifying needs none, and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg

from heliosdb.catalog import audit_tree, witnessed_heads
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.psycopg_connection import connected
from heliosdb.cli.audit_files import heads_lines, log_lines, read_heads, read_log, write_new
from heliosdb.cli.audit_verification import describe, verify_log
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import WorkspaceName
from heliosdb.node.config import load_config
from heliosdb.transport.identity import certificate_text

Show = Callable[[str], None]


def export_log(conninfo: str, workspace: str, path: Path) -> None:
    """Write a workspace's log with its heads and cosignatures into a new file, as one moment had it.

    The role needs the rights of federated_auditor. FederatedError UNREACHABLE, PRIVILEGE, UNDEFINED_OBJECT,
    or as `write_new`.
    """
    name = WorkspaceName(workspace)
    try:
        with connected(conninfo, application_name="heliosdb audit") as connection, connection.transaction():
            audit_tree.begin_reading(connection)
            write_new(path, stored_lines(connection, name))
    except psycopg.Error as error:
        raise _unreadable(error, "federated_auditor") from error


def stored_lines(connection: Connection, workspace: WorkspaceName) -> Iterator[str]:
    """The lines of a workspace's log as it is stored; FederatedError UNDEFINED_OBJECT where there is none."""
    if not audit_tree.is_known(connection, workspace):
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            f'the audit log has no entry of workspace "{workspace}"',
            hint="federated_audit has the names of those it has entries of; this may be another database.",
        )
    entries = (
        entry
        for origin in audit_tree.list_chains(connection, workspace)
        for entry in audit_tree.iterate_entries(connection, (workspace, origin))
    )
    heads = audit_tree.list_heads(connection, workspace)
    cosignatures = audit_tree.list_cosignatures(connection, workspace)
    stubs = audit_tree.list_stubs(connection, workspace)
    return log_lines(workspace, heads, cosignatures, stubs, entries)


def export_heads(config: Path, workspace: str | None, path: Path | None, show: Show) -> None:
    """Show, or write into a new file, the heads that a node holds, and those that it refused.

    workspace: None: of all. Errors as of `export_log`.
    """
    conninfo = load_config(config).database.get_secret_value()
    name = None if workspace is None else WorkspaceName(workspace)
    try:
        with connected(conninfo, application_name="heliosdb audit") as connection, connection.transaction():
            audit_tree.begin_reading(connection)
            held = witnessed_heads.list_all(connection, name)
            refused = witnessed_heads.list_conflicts(connection, name)
    except psycopg.Error as error:
        raise _unreadable(error, "federated_daemon") from error
    lines = heads_lines(held, refused)
    if path is None:
        for line in lines:
            show(line)
    else:
        write_new(path, lines)


def verify(path: Path, heads: Sequence[Path], certificates: Sequence[str], show: Show) -> bool:
    """Verify an exported log, show what was found, and return whether nothing was.

    heads: files with heads that nodes hold. certificates: coordinators' (PEM files).
    """
    log = read_log(path)
    held = [read_heads(one) for one in heads]
    found = verify_log(log, held, [certificate_text(one) for one in certificates])
    for line in describe(found, log, held):
        show(line)
    return not found.faults


def _unreadable(error: psycopg.Error, role: str) -> FederatedError:
    if isinstance(error, psycopg.OperationalError):
        return FederatedError(ErrorCode.UNREACHABLE, f"cannot reach the catalog: {error}")
    return FederatedError(
        ErrorCode.PRIVILEGE,
        f"cannot read the audit log: {error.diag.message_primary or type(error).__name__}",
        hint=f"The role needs the rights of {role}, the catalog version 1.2 or later.",
    )
