"""What a participant sees of its own part: what the node writes down for its DBA, and how that is read.

What always holds: nothing in it was computed from a row; a run is written down in the transaction of a charge
or a release, a refusal in one of its own; figures of ε are read as the ledger has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from heliosdb.catalog.connection import Connection, Row, Statements
from heliosdb.domain.disclosure_rules import DEFAULT_RULES, DisclosureRules
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.task import Task, TaskKey

_SQL = Statements("participant_view.sql")

MOST_REFUSALS = 10_000
"""Rows of refusals that are kept: a coordinator must not fill the node's disk."""

_MOST_CHARACTERS = 2000


def record_run(connection: Connection, task: Task, dataset: str) -> None:
    """Write down what a task's run asks of a dataset, once for all tasks that ask the same."""
    key, reading, budget = task.key, task.reading, task.budget
    asked = (
        key.workspace,
        key.node,
        dataset,
        task.model,
        task.work.algorithm,
        list(reading.features),
        reading.target,
        json.dumps(dict(reading.roles)),
        None if budget is None else budget.epsilon,
        None if budget is None else budget.delta,
        task.compliance_mode,
    )
    _SQL.execute(connection, "record_run", key.run, _hash(asked), *asked)


def insert_refusal(connection: Connection, key: TaskKey, dataset: str | None, error: FederatedError) -> None:
    """Count a refusal as it is told, and keep the latest `MOST_REFUSALS`."""
    detail = None if error.detail is None else error.detail[:_MOST_CHARACTERS]
    said = (key.workspace, key.node, key.step, error.sqlstate, error.message[:_MOST_CHARACTERS])
    with connection.transaction():
        _SQL.query(connection, "insert_refusal", key.run, _hash(said), *said, dataset, detail)
        _SQL.execute(connection, "drop_old_refusals", MOST_REFUSALS)


def _hash(values: tuple[object, ...]) -> bytes:
    # JSON keeps values apart whatever stands in them.
    return hashlib.sha256(json.dumps(values).encode()).digest()


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is shared. relation: from which table. rules: of answers without noise, as its options say."""

    name: str
    workspace: str
    relation: str
    columns: tuple[str, ...]
    paused: bool
    rules: DisclosureRules = DEFAULT_RULES

    @classmethod
    def from_row(cls, row: Row) -> Dataset:
        """Read a row of `list_datasets`."""
        rules = DisclosureRules.from_options(json.loads(row["options"]))
        return cls(
            row["name"], row["workspace"], row["relation"], tuple(row["columns"]), row["paused"], rules
        )


@dataclass(frozen=True, slots=True)
class NodeRun:
    """A row of federated_node_runs; of a run of an older version model, algorithm and columns are not known.

    columns: features and those with a role. charges: tasks that were charged.
    """

    workspace: str
    model: str | None
    run_id: str
    dataset: str
    algorithm: str | None
    columns: tuple[str, ...]
    target: str | None
    last_task_at: datetime
    vectors: int
    charges: int

    @classmethod
    def from_row(cls, row: Row) -> NodeRun:
        """Read a row of `list_runs`."""
        roles = json.loads(row["roles"] or "{}")
        return cls(
            row["workspace"],
            row["model_name"],
            row["run_id"],
            row["dataset"],
            row["algorithm"],
            (*(row["features"] or ()), *roles.values()),
            row["target"],
            row["last_task_at"],
            row["vectors"],
            row["charges"],
        )


@dataclass(frozen=True, slots=True)
class DatasetBudget:
    """A row of federated_dataset_budget: ε as the ledger has it. epsilon: the workspace's own; total: of all
    workspaces; None where nothing was charged."""

    dataset: str
    state: str
    workspace: str
    max_epsilon: float | None
    agreed_epsilon: float | None
    epsilon: float | None
    total_epsilon: float | None

    @classmethod
    def from_row(cls, row: Row) -> DatasetBudget:
        """Read a row of `list_budgets`."""
        return cls(
            row["dataset"],
            row["state"],
            row["workspace"],
            row["max_epsilon"],
            row["agreed_epsilon"],
            row["epsilon_tight"],
            row["total_epsilon_tight"],
        )


@dataclass(frozen=True, slots=True)
class DayOfReleases:
    """A row of federated_node_releases. day: in UTC."""

    day: date
    workspace: str
    dataset: str
    private_vectors: int
    plain_vectors: int
    messages: int
    payload_bytes: int
    only_charged: int
    failed: int
    exports: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row of federated_node_refusals."""

    last_at: datetime
    count: int
    workspace: str
    step: str
    dataset: str | None
    message: str


@dataclass(frozen=True, slots=True)
class NodeOrder:
    """What a node was asked about a data subject, and did. rows: that its coordinator was told of; None where
    it was told of none."""

    received_at: datetime
    workspace: str
    kind: str
    outcome: str
    rows: int | None
    order_id: str


@dataclass(frozen=True, slots=True)
class NodeHead:
    """A row of federated_node_heads: the newest head that the node holds of a workspace's audit log."""

    workspace: str
    entries: int
    root_sha256: str
    signed_at: datetime
    state: str
    conflicts: int


@dataclass(frozen=True, slots=True)
class ParticipantView:
    """All that a participant's page shows, each list in the order in which it is shown.

    subscriptions: rows of federated_subscriptions by column. None of these, of orders and of heads where the
    catalog has none.
    """

    datasets: tuple[Dataset, ...]
    runs: tuple[NodeRun, ...]
    budgets: tuple[DatasetBudget, ...]
    releases: tuple[DayOfReleases, ...]
    refusals: tuple[Refusal, ...]
    subscriptions: tuple[Mapping[str, Any], ...] | None
    orders: tuple[NodeOrder, ...] | None = None
    heads: tuple[NodeHead, ...] | None = None


def read_participant_view(connection: Connection, *, latest: int, days: int) -> ParticipantView | None:
    """Read the page; None where the extension is not in the database.

    latest: how many runs, refusals and orders. days: of releases, today (UTC) among them.
    """
    with connection.transaction():
        if not _SQL.query(connection, "find_extension_schema"):
            return None
        return ParticipantView(
            tuple(map(Dataset.from_row, _SQL.query(connection, "list_datasets"))),
            tuple(map(NodeRun.from_row, _SQL.query(connection, "list_runs", latest))),
            tuple(map(DatasetBudget.from_row, _SQL.query(connection, "list_budgets"))),
            tuple(DayOfReleases(**row) for row in _SQL.query(connection, "list_releases", days)),
            tuple(Refusal(**row) for row in _SQL.query(connection, "list_refusals", latest)),
            _list_subscriptions(connection),
            _list_orders(connection, latest),
            _list_heads(connection),
        )


def list_budgets(connection: Connection) -> tuple[DatasetBudget, ...]:
    """Return what the ledger holds of each dataset; () where the extension is not in the database."""
    if not _SQL.query(connection, "find_extension_schema"):
        return ()
    return tuple(map(DatasetBudget.from_row, _SQL.query(connection, "list_budgets")))


def _list_orders(connection: Connection, latest: int) -> tuple[NodeOrder, ...] | None:
    if not _SQL.query(connection, "has_orders")[0]["there"]:
        return None
    return tuple(NodeOrder(**row) for row in _SQL.query(connection, "list_orders", latest))


def _list_subscriptions(connection: Connection) -> tuple[Mapping[str, Any], ...] | None:
    if not _SQL.query(connection, "has_subscriptions")[0]["there"]:
        return None
    rows = _SQL.query(connection, "list_subscriptions")
    return tuple(json.loads(row["subscription"]) for row in rows)


def _list_heads(connection: Connection) -> tuple[NodeHead, ...] | None:
    if not _SQL.query(connection, "has_heads")[0]["there"]:
        return None
    return tuple(NodeHead(**row) for row in _SQL.query(connection, "list_heads"))
