"""What an operator sees of a coordinator's database: workspaces, nodes, runs and budgets, from the views.

What always holds: it only reads, and only what the caller's role may read; a view that the role may not read
is told from one that is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import psycopg

from heliosdb.catalog.connection import Connection, Statements

T = TypeVar("T")
_SQL = Statements("overview.sql")

RUNNING = frozenset({"queued", "running", "waiting"})
"""How a run stands that has not ended."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A row of federated_workspace_status."""

    workspace_name: str
    status: str
    registered_nodes: int
    active_nodes: int
    min_nodes_required: int


@dataclass(frozen=True, slots=True)
class Node:
    """A node. certificate_days: until its pinned certificate expires, by the database's clock; below 0: it
    has."""

    workspace: str
    node_name: str
    status: str
    last_seen: datetime | None
    rounds_participated: int
    dataset_size: int | None
    certificate_days: int | None
    failure_reason: str | None


@dataclass(frozen=True, slots=True)
class RunOverview:
    """A run. round_number: its last; loss and accuracy: of the last round that has them. epsilon: what the
    most charged node had spent by then. None for what is not known."""

    workspace_name: str
    model_name: str
    run: int
    status: str
    round_number: int | None
    global_loss: float | None
    global_accuracy: float | None
    epsilon: float | None
    queued_at: datetime
    finished_at: datetime | None
    message: str | None


@dataclass(frozen=True, slots=True)
class WorkspaceBudget:
    """A row of federated_privacy_budget_status."""

    workspace_name: str
    total_budget_epsilon: float | None
    consumed_epsilon: float | None
    remaining_epsilon: float | None
    estimated_remaining_rounds: int | None
    delta: float


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it; None for what the role may not read."""

    workspaces: tuple[Workspace, ...] | None
    nodes: tuple[Node, ...] | None
    runs: tuple[RunOverview, ...] | None
    budgets: tuple[WorkspaceBudget, ...] | None


@dataclass(frozen=True, slots=True)
class LatestRun:
    """The run of a model that matters now. run: its number among the model's."""

    run: int
    status: str
    message: str | None


@dataclass(frozen=True, slots=True)
class ClosedRound:
    """A closed round of a run."""

    round_number: int
    global_loss: float | None
    global_accuracy: float | None
    participating_nodes: int
    dropped_nodes: int
    epsilon: float | None


def enter_catalog(connection: Connection) -> bool:
    """Have the session find the extension's views; False where the extension is not in the database."""
    return bool(_SQL.query(connection, "enter_extension_schema"))


def read_overview(connection: Connection, *, latest: int) -> Overview:
    """Read what the role may read, after `enter_catalog`. latest: how many runs, those that run first."""
    return Overview(
        _readable(lambda: tuple(Workspace(**row) for row in _SQL.query(connection, "list_workspaces"))),
        _readable(lambda: tuple(Node(**row) for row in _SQL.query(connection, "list_nodes"))),
        _readable(lambda: tuple(RunOverview(**row) for row in _SQL.query(connection, "list_runs", latest))),
        _readable(lambda: tuple(WorkspaceBudget(**row) for row in _SQL.query(connection, "list_budgets"))),
    )


def _readable(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except psycopg.errors.InsufficientPrivilege:
        return None


def demand_model(connection: Connection, model: str) -> None:
    """Raise psycopg.errors.UndefinedObject where there is no such model."""
    _SQL.query(connection, "demand_model", model)


def find_latest_run(connection: Connection, model: str) -> LatestRun | None:
    """Return the run of a model that runs or waits, else its last one; None where there was none."""
    rows = _SQL.query(connection, "find_latest_run", model)
    return LatestRun(**rows[0]) if rows else None


def list_closed_rounds(connection: Connection, model: str, run: int) -> list[ClosedRound]:
    """Return the closed rounds of a run by its number, 0 first."""
    return [ClosedRound(**row) for row in _SQL.query(connection, "list_rounds", model, run)]


def how_it_ended(connection: Connection, model: str) -> str:
    """Return how the latest run of a model ended, or the series that it is of."""
    return str(_SQL.query(connection, "how_it_ended", model)[0]["status"])
