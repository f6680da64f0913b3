"""What nodes signed of their spending, as an auditor reads it.

What always holds: rows come as they are stored; whether signatures and figures hold is the caller's to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from heliosdb.catalog.connection import Connection, Statements
from heliosdb.catalog.ledger import SignedSpending, read_mechanism
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Spending
from heliosdb.domain.task import TaskKey

_SQL = Statements("spending.sql")

Peer = tuple[WorkspaceName, NodeName]


@dataclass(frozen=True, slots=True)
class SpendingRecord:
    """One row of federated.node_spending."""

    key: TaskKey
    signed: SignedSpending


def list_signed(connection: Connection, workspace: WorkspaceName | None) -> list[SpendingRecord]:
    """Return what was signed, by workspace and node, oldest first; None: of all workspaces."""
    return [
        SpendingRecord(
            TaskKey(
                WorkspaceName(row["workspace"]),
                RunId(UUID(row["run_id"])),
                RoundNumber(row["round_number"]),
                row["exchange"],
                StepName(row["step"]),
                NodeName(row["node_name"]),
            ),
            SignedSpending(
                bytes(row["header"]),
                bytes(row["signature"]),
                read_mechanism(row),
                Spending(row["epsilon_basic"], row["epsilon_tight"]),
            ),
        )
        for row in _SQL.query(connection, "list_signed", workspace)
    ]


def list_certificates(connection: Connection, workspace: WorkspaceName | None) -> dict[Peer, list[bytes]]:
    """Return each node's certificates (PEM): the pinned one, and those that were by the audit log."""
    found: dict[Peer, list[bytes]] = {}
    for row in _SQL.query(connection, "list_certificates", workspace):
        peer = WorkspaceName(row["workspace"]), NodeName(row["node_name"])
        found.setdefault(peer, []).append(row["certificate"].encode())
    return found


def list_faults(connection: Connection, workspace: WorkspaceName) -> list[tuple[NodeName, str]]:
    """Return where the workspace's ledger disagrees with what nodes signed, as the compliance check does."""
    rows = _SQL.query(connection, "list_faults", workspace)
    return [(NodeName(row["node_name"]), row["fault"]) for row in rows]
