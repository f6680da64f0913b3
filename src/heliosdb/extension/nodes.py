"""Statements about nodes: they change the registration; the coordinator then shakes hands."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from federated_sql.errors import ErrorCode, FederatedError, invalid_value
from federated_sql.options import (
    OptionKind,
    defaults,
    drop_options,
    nodes_come,
    read_options,
    require_built,
)
from federated_sql.residency import residency_allows
from federated_sql.statements import AlterNode, RegisterNode, ResetNode, UnregisterNode
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.subscriptions import list_node_subscriptions
from heliosdb.domain.wording import counted
from heliosdb.extension.hierarchy import check_aggregator, check_gathers_for_none
from heliosdb.extension.session import Session, duplicate

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
_DER_SEQUENCE = b"\x30"
_MOVES = "SET (endpoint = 'https://host:port') moves the node."


def register_node(session: Session, command: RegisterNode) -> None:
    """REGISTER FEDERATED NODE: a pending row; active or failed is the coordinator's word."""
    session.require("federated_admin", "register a federated node")
    given = read_options(OptionKind.NODE, command.options, session.built)
    _check_name(command.name)
    workspace = _lock_workspace(session, command.workspace)
    _check_way(
        workspace, command.name, given, "Add WITH (endpoint = 'https://host:port', certificate = '...')."
    )
    _check_residency(workspace, command.name, given)
    nodes = catalog.list_nodes(session.connection, workspace)
    most = {**defaults(OptionKind.WORKSPACE, session.built), **workspace.options}["max_nodes"]
    if any(node.name == command.name for node in nodes):
        if not command.if_not_exists:
            raise duplicate("node", command.name)
        session.notice(f'federated node "{command.name}" already exists, skipping')
        return
    _check_certificate(given)
    if len(nodes) >= most:
        raise FederatedError(
            ErrorCode.PROGRAM_LIMIT,
            f'federated workspace "{workspace.name}" has its {counted(most, "node")}',
            hint="Raise max_nodes with ALTER FEDERATED WORKSPACE ... SET, or unregister a node.",
        )
    _check_endpoint(workspace, nodes, given)
    check_aggregator(workspace, command.name, nodes, given)
    require_built(OptionKind.NODE, command.options, given, session.built)
    catalog.insert_node(session.connection, workspace, command.name, given)
    catalog.notify_coordinator(session.connection)


def alter_node(session: Session, command: AlterNode) -> None:
    """ALTER FEDERATED NODE … SET: the node is pending until the coordinator has met it again."""
    session.require("federated_admin", "alter a federated node")
    given = read_options(OptionKind.NODE, command.options, session.built)
    found = _find_node(session, command)
    if found is None:
        return
    workspace, node, others = found
    merged = {**node.options, **given}
    _check_way(workspace, command.name, merged, _MOVES)
    _check_certificate(given)
    _check_endpoint(workspace, others, merged)
    _check_residency(workspace, command.name, merged)
    check_aggregator(workspace, command.name, others, merged)
    require_built(OptionKind.NODE, command.options, given, session.built)
    catalog.update_node(session.connection, workspace, command.name, merged)
    catalog.notify_coordinator(session.connection)


def reset_node(session: Session, command: ResetNode) -> None:
    """ALTER FEDERATED NODE … RESET: all but what the node is found by, its endpoint or its certificate."""
    session.require("federated_admin", "alter a federated node")
    drop_options(OptionKind.NODE, command.options, {})
    found = _find_node(session, command)
    if found is None:
        return
    workspace, node, _ = found
    left = drop_options(OptionKind.NODE, command.options, node.options)
    _check_way(workspace, command.name, left, _MOVES)
    _check_residency(workspace, command.name, left)
    catalog.update_node(session.connection, workspace, command.name, left)
    catalog.notify_coordinator(session.connection)


def unregister_node(session: Session, command: UnregisterNode) -> None:
    """UNREGISTER FEDERATED NODE: a coordinator cuts its connection at once, and runs go on without it."""
    session.require("federated_admin", "unregister a federated node")
    workspace = _find_workspace(session, command.workspace, if_exists=command.if_exists)
    if workspace is None:
        return
    model = catalog.find_model_using_node(session.connection, workspace, command.name)
    nodes = catalog.list_nodes(session.connection, workspace)
    check_gathers_for_none(command.name, nodes)
    kept = list_node_subscriptions(session.connection, workspace, command.name)
    if not catalog.delete_node(session.connection, workspace, command.name):
        session.skips("node", command.name, if_exists=command.if_exists)
        return
    catalog.notify_coordinator(session.connection)
    if model is not None:
        session.notice(
            f'the training of federated model "{model}" goes on without node "{command.name}": what is under'
            " way with it is discarded"
        )
    _warn_of_too_few(session, workspace, len(nodes) - 1)
    if kept:
        session.notice(
            f'node "{command.name}" keeps the versions that it has of federated models '
            + ", ".join(f'"{model}"' for model in kept)
        )


def _warn_of_too_few(session: Session, workspace: catalog.Workspace, left: int) -> None:
    """Warn where fewer nodes are left than a run needs to begin, or a round of one that has begun."""
    policy = {**defaults(OptionKind.WORKSPACE, session.built), **workspace.options}
    for name, who in (("min_nodes", "a run"), ("min_nodes_per_round", "a round")):
        needed = policy.get(name)
        if needed is not None and left < needed:
            session.warning(
                f'federated workspace "{workspace.name}" has {counted(left, "node")} left, and {who} needs'
                f" {needed} ({name})",
                hint="Runs wait for more: REGISTER FEDERATED NODE adds one.",
            )


def _lock_workspace(session: Session, name: str) -> catalog.Workspace:
    workspace = _find_workspace(session, name, if_exists=False)
    assert workspace is not None
    return workspace


def _find_workspace(session: Session, name: str, *, if_exists: bool) -> catalog.Workspace | None:
    """Return the caller's own workspace, locked; None where a node may be missing with its workspace."""
    workspace = catalog.lock_workspace(session.connection, name)
    if workspace is None:
        session.skips("workspace", name, if_exists=if_exists, hint="CREATE FEDERATED WORKSPACE makes one.")
        return None
    session.own_workspace(workspace)
    return workspace


def _check_name(name: str) -> None:
    """Raise 42602 for a name that lists and messages would not show as it is."""
    if name != name.strip():
        raise FederatedError(
            ErrorCode.INVALID_NAME,
            "a node's name may not be blank, nor begin or end with a space",
            hint="Choose a name such as 'hospital_a'.",
        )


def _find_node(
    session: Session, command: AlterNode | ResetNode
) -> tuple[catalog.Workspace, catalog.Node, list[catalog.Node]] | None:
    """Return the node, its workspace, locked, and the other nodes; None where it may be missing and is."""
    workspace = _find_workspace(session, command.workspace, if_exists=command.if_exists)
    if workspace is None:
        return None
    nodes = catalog.list_nodes(session.connection, workspace)
    node = next((n for n in nodes if n.name == command.name), None)
    if node is None:
        session.skips("node", command.name, if_exists=command.if_exists)
        return None
    return workspace, node, [n for n in nodes if n is not node]


_NAMES_COORDINATOR = "the node's own settings name the coordinator (dial = ...)"


def _check_way(workspace: catalog.Workspace, node: str, options: catalog.Options, hint: str) -> None:
    """Raise 22023 where nobody finds the node: by its endpoint or, where it has none, its certificate."""
    if not nodes_come(workspace.options):
        if "endpoint" not in options:
            raise invalid_value(f'node "{node}" has no endpoint', hint=hint)
        return
    over_flower = workspace.options.get("communication_protocol") == "flower"
    come = "are reached over Flower" if over_flower else "dial the coordinator"
    setting = "Flower's ClientApp comes to the node's flower_socket" if over_flower else _NAMES_COORDINATOR
    for name in ("endpoint", "backup_endpoint"):
        if name in options:
            raise invalid_value(
                f'{name} has no effect: the nodes of workspace "{workspace.name}" {come}',
                hint=f"Leave out {name}: {setting}.",
            )
    if "certificate" not in options:
        raise invalid_value(
            f'node "{node}" has no certificate',
            detail=f'The nodes of workspace "{workspace.name}" {come}, and are known by their certificates.',
            hint="Add WITH (certificate = '...'), PEM text or a path on the coordinator's machine.",
        )


def _check_certificate(given: catalog.Options) -> None:
    """Raise 22023, echoing nothing, where the option holds a key or broken PEM text; it may be a path."""
    text = str(given.get("certificate", ""))
    if "PRIVATE KEY" in text:
        raise invalid_value(
            "the option certificate holds a private key",
            hint="Give the certificate alone. Whoever has seen this key can act as the node: replace it.",
        )
    if text.lstrip().startswith("-----BEGIN") and not _is_certificate(text):
        raise invalid_value(
            "the option certificate is not a certificate in PEM form",
            hint="Give all of it, the lines BEGIN CERTIFICATE and END CERTIFICATE included, or a path.",
        )


def _is_certificate(text: str) -> bool:
    """Whether it is one certificate or, during a rotation, several, and nothing else."""
    blocks = _PEM.findall(text)
    if not blocks or _PEM.sub("", text).strip():
        return False
    try:
        return all(
            base64.b64decode("".join(block.split()), validate=True).startswith(_DER_SEQUENCE)
            for block in blocks
        )
    except binascii.Error:
        return False


def _check_endpoint(
    workspace: catalog.Workspace, others: Sequence[catalog.Node], given: catalog.Options
) -> None:
    ours = _addresses(given)
    if not ours:
        return
    if len(ours) == 1 and "backup_endpoint" in given:
        raise invalid_value(
            "backup_endpoint is the endpoint itself",
            hint="It is another address at which the same node is called while the first does not answer.",
        )
    for other in others:
        if ours & _addresses(other.options):
            raise FederatedError(
                ErrorCode.DUPLICATE_OBJECT,
                f'federated node "{other.name}" of workspace "{workspace.name}" has this endpoint already',
                hint="One node takes part under one name.",
            )


def _addresses(options: catalog.Options) -> set[tuple[str | None, int | None]]:
    """Host and port of each of a node's endpoints."""
    stated = [options.get("endpoint"), options.get("backup_endpoint")]
    parts = [urlsplit(str(one)) for one in stated if one is not None]
    return {(one.hostname, one.port) for one in parts}


def _check_residency(workspace: catalog.Workspace, node: str, given: catalog.Options) -> None:
    required = workspace.options.get("data_residency")
    stated = given.get("data_residency")
    if required is None or (stated is not None and residency_allows(required, stated)):
        return
    raise invalid_value(
        f'node "{node}" is not within the data residency of workspace "{workspace.name}"',
        detail=f"The workspace requires {required}; the node states {stated or 'none'}.",
        hint=f"Only nodes whose data_residency lies within {required} can be registered here.",
    )
