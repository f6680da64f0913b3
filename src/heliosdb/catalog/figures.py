"""What a daemon's metrics show of its catalog.

What always holds: it only reads; what it reads is in views that an auditor reads, and at a node in the views
of its own DBA; how many rows come back is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.catalog.participant_view import DatasetBudget, list_budgets

_SQL = Statements("metrics.sql")

STATEMENT_TIMEOUT_MS = 8000


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """A node as the coordinator last saw it; last_seen, certificate_expires: seconds since the epoch, None
    where there is none."""

    workspace: str
    node: str
    is_up: bool
    last_seen: float | None
    certificate_expires: float | None


@dataclass(frozen=True, slots=True)
class CatalogFigures:
    """One reading. values: (workspace, what alerts watch, value). runs: (workspace, status, how many).
    workspaces, nodes: how many there are, more than are told of maybe; notifications: that are due."""

    values: tuple[tuple[str, str, float], ...]
    runs: tuple[tuple[str, str, int], ...]
    nodes: tuple[NodeFigures, ...]
    workspaces: int
    all_nodes: int
    notifications: int


def read_catalog_figures(connection: Connection, *, most_workspaces: int, most_nodes: int) -> CatalogFigures:
    """Read the coordinator's figures, of so many workspaces and nodes at most."""
    _SQL.query(connection, "limit_time", STATEMENT_TIMEOUT_MS)
    values = _SQL.query(connection, "list_workspace_figures", most_workspaces)
    runs = _SQL.query(connection, "list_run_figures", most_workspaces)
    nodes = _SQL.query(connection, "list_node_figures", most_workspaces, most_nodes)
    [counted] = _SQL.query(connection, "count_all")
    return CatalogFigures(
        values=tuple((row["workspace"], row["metric"], float(row["value"])) for row in values),
        runs=tuple((row["workspace"], row["status"], row["runs"]) for row in runs),
        nodes=tuple(map(_node, nodes)),
        workspaces=counted["workspaces"],
        all_nodes=counted["nodes"],
        notifications=counted["notifications"],
    )


def _node(row: Row) -> NodeFigures:
    return NodeFigures(
        row["workspace"], row["node"], row["is_up"], row["last_seen"], row["certificate_expires"]
    )


def read_node_figures(connection: Connection) -> tuple[DatasetBudget, ...]:
    """Read what a node's ledger holds; () where the extension is not in the database."""
    _SQL.query(connection, "limit_time", STATEMENT_TIMEOUT_MS)
    return list_budgets(connection)
