"""Registered nodes as the coordinator sees them, and how it records what it saw.

What always holds: a status is written only for the options under which it was found out; a node that was
altered meanwhile stays pending.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import psycopg

from federated_sql.compliance import requires_own_residency
from federated_sql.residency import residency_allows
from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.errors import ErrorCode, FederatedError, StrangerError
from heliosdb.domain.handshake import Introduction, introduction_json
from heliosdb.domain.ids import NodeName, WorkspaceName
from heliosdb.domain.limits import NO_LIMITS, Limits, asked_limits
from heliosdb.domain.run import Run

_SQL = Statements("nodes.sql")


class NodeStatus(StrEnum):
    """How a node stands; the values are those of federated.node_status."""

    PENDING = "pending"
    ACTIVE = "active"
    SLOW = "slow"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Residency:
    """Where a node's data have to lie, by the workspace, and do lie, by the registration; None: not said.

    own_word: whether the workspace's compliance mode asks for the node's own word too.
    """

    required: str | None = None
    registered: str | None = None
    own_word: bool = False

    def fault(self) -> str | None:
        """Say how the registration lies outside; None where it does not."""
        if self.required is None:
            return None
        return _outside(self.required, self.registered)

    def fault_of(self, said: str | None) -> str | None:
        """Say what is wrong with a node's own word; None where nothing is."""
        if said is None:
            if self.required is None or not self.own_word:
                return None
            missing = "data_residency is missing in its settings"
            return f"it does not say itself that its data lie in {self.required}: {missing}"
        if self.required is not None and not residency_allows(self.required, said):
            return f"its own data_residency is {said}, outside the workspace's {self.required}"
        if self.registered is not None and not residency_allows(self.registered, said):
            return f"its own data_residency is {said}, and it is registered in {self.registered}"
        return None


class CommunicationProtocol(StrEnum):
    """How coordinator and nodes of a workspace come together, by the values of its option of this name."""

    GRPC = "grpc"
    HTTPS = "https"
    FLOWER = "flower"


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """How a workspace's nodes are held on to, by its options of these names; intervals in seconds.

    reconnect_interval None: the coordinator's own setting.
    """

    keepalive_interval: int = 30
    auto_reconnect: bool = True
    reconnect_interval: int | None = None
    protocol: CommunicationProtocol = CommunicationProtocol.GRPC

    @property
    def nodes_come(self) -> bool:
        """Whether it is the nodes that come to the coordinator: they have no endpoint."""
        return self.protocol is not CommunicationProtocol.GRPC


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A registered node. options: the JSON text as stored; certificate: the pinned one (PEM) or None.

    endpoint: "" of one that comes to the coordinator.
    outside: how it lies outside the workspace's data residency, None where it does not. residency: what there
    is to say about where its data lie. backup_endpoint: where else it is called. endpoint_in_use: where it
    last was, None before it was met. link: as its workspace says. limits: what its registration asks of its
    machine.
    """

    id: int
    name: NodeName
    workspace: WorkspaceName
    options: str
    endpoint: str
    given_certificate: str | None
    dataset: str | None
    status: NodeStatus
    certificate: str | None
    outside: str | None = None
    residency: Residency = Residency()
    backup_endpoint: str | None = None
    endpoint_in_use: str | None = None
    link: LinkPolicy = LinkPolicy()
    limits: Limits = NO_LIMITS

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it is called, in the order in which that is tried."""
        return (self.endpoint,) if self.backup_endpoint is None else (self.endpoint, self.backup_endpoint)

    def differs_in_certificate_alone(self, other: NodeRecord) -> bool:
        """Whether of all that a statement sets only the option `certificate` is another one."""
        if self.options == other.options:
            return False
        ours, theirs = json.loads(self.options), json.loads(other.options)
        differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
        return differing == {"certificate"} and self.residency == other.residency


def list_nodes(connection: Connection) -> list[NodeRecord]:
    """Return every registered node, in the order of registration."""
    return [_from_row(row) for row in _SQL.query(connection, "list_nodes")]


def _from_row(row: Row) -> NodeRecord:
    options = json.loads(row["options"])
    own_word = requires_own_residency(row["compliance_mode"])
    residency = Residency(row["required_residency"], options.get("data_residency"), own_word)
    return NodeRecord(
        id=row["node_id"],
        name=NodeName(row["name"]),
        workspace=WorkspaceName(row["workspace"]),
        options=row["options"],
        endpoint=options.get("endpoint") or "",
        given_certificate=options.get("certificate"),
        dataset=options.get("dataset"),
        status=NodeStatus(row["status"]),
        certificate=row["certificate"],
        outside=residency.fault(),
        residency=residency,
        backup_endpoint=options.get("backup_endpoint"),
        endpoint_in_use=row["endpoint_in_use"],
        link=LinkPolicy(
            row["keepalive_interval"],
            row["auto_reconnect"],
            row["reconnect_interval"],
            CommunicationProtocol(row["protocol"]),
        ),
        limits=asked_limits(options),
    )


def _outside(required: str, stated: str | None) -> str | None:
    if stated is not None and residency_allows(required, stated):
        return None
    return f"its data_residency is {stated or 'not stated'}, outside the workspace's {required}"


def activate_node(
    connection: Connection, node: NodeRecord, certificate: str, expires: datetime, endpoint: str | None
) -> None:
    """Record that the node was met at `endpoint`, None for one that dials, and the certificate that it is
    pinned to and shows.

    FederatedError IDENTITY where that is another node's of the workspace.
    """
    try:
        with connection.transaction():
            _SQL.query(connection, "activate_node", node.id, node.options, certificate, expires, endpoint)
    except psycopg.errors.UniqueViolation as error:
        rows = _SQL.query(connection, "find_holder", node.id, certificate)
        raise already_registered(rows[0]["name"] if rows else "another") from error


def already_registered(name: str) -> FederatedError:
    """The error for a certificate that another node of the workspace is pinned to."""
    return StrangerError(ErrorCode.IDENTITY, f'its certificate is registered as node "{name}" already')


def demote_node(connection: Connection, node: NodeRecord, status: NodeStatus, reason: str) -> None:
    """Record that the node is slow or has failed, and why."""
    _SQL.query(connection, "demote_node", node.id, node.options, status.value, reason)


def record_introduction(connection: Connection, node: NodeRecord, said: Introduction) -> None:
    """Record what the node says that it shares, whether plain answers may leave from all of it, and its own
    limits."""
    datasets = json.dumps(introduction_json(said))
    said_of_all = (said.plain_answers, datasets, list(said.extras), json.dumps(said.limits.to_json()))
    _SQL.query(connection, "record_introduction", node.id, node.options, *said_of_all)


def touch_nodes(connection: Connection, nodes: Sequence[NodeRecord]) -> None:
    """Record that these nodes have just answered."""
    _SQL.query(connection, "touch_nodes", [node.id for node in nodes])


def set_dataset_sizes(connection: Connection, run: Run, sizes: Mapping[NodeName, int]) -> None:
    """Record the row counts that nodes released in a run's round 0."""
    rows = [{"node": node, "size": size} for node, size in sizes.items()]
    _SQL.query(connection, "set_dataset_sizes", run.workspace_id, json.dumps(rows))
