"""EXPORT FEDERATED DATA: what nodes hold about a data subject goes into a file of the database server.

What always holds: before the statement's COMMIT nothing is asked, and before all nodes have answered, or the
deadline is over, nothing is written; what nodes sent is opened in the server alone; the file is there whole,
under a path that was free, and it is written once; who asked for it has the right also when it is written.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from federated_sql.clause_values import SealedSubject
from federated_sql.errors import ErrorCode, FederatedError
from federated_sql.statements import ExportSubject
from heliosdb.catalog import commands as catalog
from heliosdb.catalog import exports
from heliosdb.catalog.connection import Connection
from heliosdb.catalog.exports import DueExport, WantedFile
from heliosdb.domain.errors import place_of
from heliosdb.domain.orders import OrderKind
from heliosdb.domain.sealed_box import UnopenedBoxError
from heliosdb.domain.sealed_part import derive_private_key, open_part, public_key
from heliosdb.domain.subject_export import FORMATS, Heading, Holdings, NodePart, write_file
from heliosdb.extension import server_files
from heliosdb.extension.export_keys import find_secret, load_or_create_secret
from heliosdb.extension.orders import place_orders
from heliosdb.extension.session import Session, undefined_here
from heliosdb.extension.words import unrecognized

_SALT_BYTES = 16
_PIECE_BYTES = 1024 * 1024
_SAID = ("state", "outcome", "message", "answered_at", "statement", "signature", "certificate_sha256")


def export_subject(session: Session, command: ExportSubject) -> None:
    """EXPORT FEDERATED DATA: asks; the file is written when the nodes have answered."""
    session.require("federated_admin", "export the data of a subject")
    session.require("pg_write_server_files", "write a file on the server")
    workspace = catalog.find_workspace(session.connection, command.workspace)
    if workspace is None:
        raise undefined_here("workspace", command.workspace)
    session.own_workspace(workspace)
    form = command.format.lower()
    if form not in FORMATS:
        raise unrecognized("export format", command.format, FORMATS)
    own_directory = server_files.data_directory()
    _check_path(session, command.path, own_directory)
    salt = secrets.token_bytes(_SALT_BYTES)
    recipient = public_key(derive_private_key(load_or_create_secret(Path(own_directory)), salt))
    terms = {"recipient": recipient.hex()}
    batch = place_orders(session, OrderKind.EXPORT, workspace.name, (command.subject,), terms)
    exports.insert_export(session.connection, batch, WantedFile(command.path, form, salt, recipient))
    if not isinstance(command.subject, SealedSubject) and command.subject in command.path:
        session.warning(
            "the path contains the data subject's identifier, and is kept in the catalog as it was typed"
        )
    session.notice("the nodes are asked what they hold: federated_exports shows when the file is written")


def _check_path(session: Session, path: str, own_directory: str) -> None:
    """Raise FederatedError unless the path is free, and no other export is to be written there."""
    server_files.check_writable(path, own_directory)
    if exports.is_path_awaited(session.connection, path):
        raise FederatedError(
            ErrorCode.DUPLICATE_OBJECT,
            f'another export is to be written to "{path}"',
            hint="Nothing existing is overwritten: name a new file.",
        )


def write_export(connection: Connection, order_id: str, log: Callable[[str], object]) -> str | None:
    """Take an export one step further; returns its state, None where there is none.

    log: the server's, for what fails inside. First what the file is to say is fixed, and committed by the
    caller; the next time it is written. So a file that was written, and whose transaction was lost, is known
    again by its bytes.
    """
    due = exports.lock_export(connection, order_id)
    if due is None:
        return exports.read_state(connection, order_id)
    reason = _why_given_up(due)
    if reason is not None:
        exports.fail_export(connection, order_id, reason)
    elif due.heading is None:
        exports.fix_heading(connection, order_id)
    else:
        _attempt(connection, order_id, due, log)
    return exports.read_state(connection, order_id)


def _why_given_up(due: DueExport) -> str | None:
    if due.drop_reason is not None:
        return due.drop_reason
    if due.is_too_late:
        return f"it could not be written until a month after the deadline; the path was {due.path}"
    if not due.may_write:
        return "the role that asked for it may not have files written any more"
    return None


def _attempt(connection: Connection, order_id: str, due: DueExport, log: Callable[[str], object]) -> None:
    try:
        private = _private_key(due)
    except FederatedError as error:
        exports.fail_export(connection, order_id, error.message)
        return
    try:
        _write(connection, order_id, due, private)
    except FederatedError as error:
        exports.block_export(connection, order_id, error.message)
    except Exception as error:  # noqa: BLE001 -- its own text may quote a row: what one export causes ends here
        log(f"an export failed inside the server: {place_of(error)}")
        exports.block_export(connection, order_id, "it failed inside the server; its log says where")


def _private_key(due: DueExport) -> bytes:
    secret = find_secret(Path(server_files.data_directory()))
    private = None if secret is None else derive_private_key(secret, due.salt)
    if private is None or public_key(private) != due.recipient:
        raise FederatedError(
            ErrorCode.WRONG_STATE, "the key of the export is not in this server's data directory any more"
        )
    return private


def _write(connection: Connection, order_id: str, due: DueExport, private: bytes) -> None:
    own_directory = server_files.data_directory()
    try:
        with server_files.new_file(due.path, own_directory) as file, connection.transaction():
            size, digest = 0, hashlib.sha256()
            for some in _compose(connection, order_id, due, private):
                size += len(some)
                digest.update(some)
                file.write(some)
            file.sync()
            exports.finish_export(connection, order_id, size, digest.digest())
            # Last, so that what fails before leaves no file.
            file.publish()
    except FederatedError as error:
        if error.code is not ErrorCode.DUPLICATE_OBJECT:
            raise
        found = _find_own(connection, order_id, due, private, own_directory)
        if found is None:
            raise
        exports.finish_export(connection, order_id, *found)


def _find_own(
    connection: Connection, order_id: str, due: DueExport, private: bytes, own_directory: str
) -> tuple[int, bytes] | None:
    """The size and digest of the file that is there, where it is the one that was to be written."""
    size, digest = 0, hashlib.sha256()
    for some in _compose(connection, order_id, due, private):
        size += len(some)
        digest.update(some)
    there = hashlib.sha256()
    with server_files.existing_file(due.path, own_directory) as (file, found):
        if found != size:
            return None
        while piece := file.read(_PIECE_BYTES):
            there.update(piece)
    return (size, digest.digest()) if there.digest() == digest.digest() else None


def _compose(connection: Connection, order_id: str, due: DueExport, private: bytes) -> Iterator[bytes]:
    assert due.heading is not None
    said = due.heading
    heading = Heading(said["export"], said["participation"], said["orders"])
    parts = (_part(connection, order_id, node, private) for node in said["nodes"])
    return write_file(due.format, heading, parts)


def _part(connection: Connection, order_id: str, node: dict[str, Any], private: bytes) -> NodePart:
    said = {name: node[name] for name in _SAID}
    sealed = exports.read_part(connection, order_id, node["node_id"])
    if sealed is None:
        return NodePart(node["node"], said, None)
    try:
        plain = open_part(private, sealed, UUID(order_id), node["node"])
        return NodePart(node["node"], said, Holdings.from_bytes(plain))
    except (UnopenedBoxError, FederatedError):
        said["message"] = "what the node sent cannot be read"
        return NodePart(node["node"], said, None)
