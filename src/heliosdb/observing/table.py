"""The metrics of each daemon: one table, from which they are made, documented and checked.

What always holds: what the coordinator's sampled metrics show is in views that an auditor reads; a node's
show nothing that its rows decide but times of answers without noise.
"""

from __future__ import annotations

from collections.abc import Mapping

from federated_sql.alert_metrics import METRICS as ALERT_METRICS
from heliosdb.observing.metric import Daemon, Kind, Metric

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)
_DAY = 86_400.0


def _counter(name: str, meaning: str, *labels: str, sampled: bool = False) -> Metric:
    return Metric(name, Kind.COUNTER, meaning, labels, sampled)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, meaning, labels, sampled=True)


def _histogram(name: str, meaning: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Metric:
    return Metric(name, Kind.HISTOGRAM, meaning, labels, buckets=buckets)


# Every daemon's.
BUILD_INFO = _gauge("heliosdb_build_info", "1; the label says the version", "daemon", "version")
READY = _gauge(
    "heliosdb_ready", "1 where the daemon does its work, as `heliosdb health` says, else 0", "daemon"
)

# The coordinator's, counted since its process began.
LEASES = _counter("heliosdb_coordinator_leases_total", "how often it began to lead")
LEADING = _gauge("heliosdb_coordinator_leading", "1 while it holds the lease, else 0")
CERTIFICATE = _gauge(
    "heliosdb_coordinator_certificate_expiry_timestamp_seconds",
    "when the certificate ends that the coordinator shows to nodes, also of one that stands by",
)
RUNS = _counter("heliosdb_coordinator_runs_total", "runs that ended", "workspace", "status")
ROUNDS = _counter("heliosdb_coordinator_rounds_total", "rounds that were closed", "workspace")
ROUND_SECONDS = _histogram(
    "heliosdb_coordinator_round_duration_seconds",
    "from opening a round to closing it, where this process did both",
    "workspace",
)
EXCHANGES = _counter("heliosdb_coordinator_exchanges_total", "exchanges that ended", "workspace", "step")
UPDATES = _counter(
    "heliosdb_coordinator_updates_total",
    "tasks that nodes were asked, by what became of them: received, dropped, refused or rejected",
    "workspace",
    "outcome",
)
LOST_UPDATES = _counter(
    "heliosdb_coordinator_updates_lost_total",
    "of them those that were not received, by the kind of the reason",
    "workspace",
    "outcome",
    "reason",
)
SENT = _counter("heliosdb_coordinator_sent_bytes_total", "bytes of tasks sent to nodes", "workspace")
RECEIVED = _counter(
    "heliosdb_coordinator_received_bytes_total", "bytes of updates received from nodes", "workspace"
)
DELIVERIES = _counter(
    "heliosdb_coordinator_deliveries_total",
    "attempts to bring a version to a subscriber: taken or failed",
    "workspace",
    "outcome",
)
NOTICES = _counter(
    "heliosdb_coordinator_notifications_total", "attempts to tell of an alert: delivered or failed", "outcome"
)

# The coordinator's, read from the catalog while it leads.
CATALOG_UP = _gauge("heliosdb_coordinator_catalog_up", "1 where the figures below could be read, else 0")
LEFT_OUT = _gauge(
    "heliosdb_coordinator_left_out", "workspaces or nodes that are too many to be shown below", "kind"
)
UNDELIVERED = _gauge("heliosdb_coordinator_notifications_due", "firings of alerts that are still to be told")
RUNS_NOW = _gauge(
    "heliosdb_workspace_runs", "runs that the catalog holds, by how they stand", "workspace", "status"
)
NODE_UP = _gauge(
    "heliosdb_workspace_node_up", "1 where the coordinator reaches the node now, else 0", "workspace", "node"
)
NODE_SEEN = _gauge(
    "heliosdb_workspace_node_last_seen_timestamp_seconds",
    "when the node was heard last; absent before",
    "workspace",
    "node",
)
NODE_CERTIFICATE = _gauge(
    "heliosdb_workspace_node_certificate_expiry_timestamp_seconds",
    "when the node's pinned certificate ends; absent before one is pinned",
    "workspace",
    "node",
)

_SCALED: Mapping[str, tuple[str, float]] = {
    "total_epsilon": ("epsilon_budget", 1),
    "consumed_epsilon": ("epsilon_spent", 1),
    "remaining_epsilon": ("epsilon_remaining", 1),
    "estimated_remaining_rounds": ("remaining_rounds", 1),
    "registered_nodes": ("registered_nodes", 1),
    "active_nodes": ("active_nodes", 1),
    "slow_nodes": ("slow_nodes", 1),
    "failed_nodes": ("failed_nodes", 1),
    "pending_nodes": ("pending_nodes", 1),
    "seconds_since_last_seen": ("silence_seconds", 1),
    "certificate_expires_days": ("certificate_expiry_seconds", _DAY),
    "running_runs": ("running_runs", 1),
    "queued_runs": ("queued_runs", 1),
    "failed_runs_last_day": ("failed_runs_last_day", 1),
    "global_loss": ("global_loss", 1),
    "global_accuracy": ("global_accuracy", 1),
    "loss_delta": ("loss_delta", 1),
    "participating_nodes": ("participating_nodes", 1),
    "dropped_nodes": ("dropped_nodes", 1),
    "round_duration_seconds": ("last_round_duration_seconds", 1),
    "communication_mb": ("last_round_bytes", 1e6),
    "open_round_seconds": ("open_round_seconds", 1),
    "refusals_last_hour": ("refusals_last_hour", 1),
    "refusals_last_day": ("refusals_last_day", 1),
    "rejected_updates_last_day": ("rejected_updates_last_day", 1),
    "failed_deliveries": ("failed_deliveries", 1),
    "breaches_last_day": ("breaches_last_day", 1),
    "audit_breaks": ("audit_breaks", 1),
    "order_deadline_days": ("order_deadline_seconds", _DAY),
    "erasure_deadline_days": ("erasure_deadline_seconds", _DAY),
    "open_orders": ("open_orders", 1),
    "expired_orders": ("expired_orders", 1),
}


def _of_workspace(name: str) -> tuple[Metric, float]:
    shown, factor = _SCALED[name]
    unit = {_DAY: ", in seconds", 1e6: ", in bytes"}.get(factor, "")
    meaning = f"the alert metric {name}{unit}: {ALERT_METRICS[name].meaning}"
    return _gauge(f"heliosdb_workspace_{shown}", meaning, "workspace"), factor


WORKSPACE: Mapping[str, tuple[Metric, float]] = {name: _of_workspace(name) for name in ALERT_METRICS}
"""By the name of what alerts watch: its metric, and what its value is multiplied by to be in base units."""

# A node's.
TASKS = _counter(
    "heliosdb_node_tasks_total",
    "tasks of coordinators that ended: answered, refused or failed",
    "step",
    "outcome",
)
TASKS_UNDER_WAY = _gauge("heliosdb_node_tasks_under_way", "tasks without a budget that are being answered")
TASK_SECONDS = _histogram(
    "heliosdb_node_task_duration_seconds", "from a task's arrival to its answer, of tasks without a budget"
)
COMPUTING_SECONDS = _histogram(
    "heliosdb_node_computing_duration_seconds",
    "in the training process, its queue included, of tasks without a budget",
)
DOOR_SECONDS = _histogram(
    "heliosdb_node_door_duration_seconds",
    "at the release door, its queue included, of tasks without a budget",
)
CHARGES = _counter(
    "heliosdb_node_charges_total", "tasks that were charged to a privacy budget, counted as they end"
)
DELIVERIES_TAKEN = _counter(
    "heliosdb_node_deliveries_total", "deliveries of versions: taken or failed", "outcome"
)
ORDERS = _counter("heliosdb_node_orders_total", "orders about data subjects: done or failed", "outcome")
NODE_CATALOG_UP = _gauge("heliosdb_node_catalog_up", "1 where the figures below could be read, else 0")
DATASET_SPENT = _gauge(
    "heliosdb_node_dataset_epsilon_spent",
    "ε that the node's ledger holds of a dataset, over all workspaces; absent before a charge",
    "dataset",
)
DATASET_CEILING = _gauge(
    "heliosdb_node_dataset_epsilon_ceiling", "the dataset's max_epsilon; absent without one", "dataset"
)

# The proxy's.
CONNECTIONS = _gauge("heliosdb_proxy_connections", "clients that are connected, in whatever state")
SESSIONS_OPEN = _gauge("heliosdb_proxy_sessions", "sessions that are open")
SESSIONS_MOST = _gauge("heliosdb_proxy_sessions_limit", "max_connections")
SESSIONS = _counter("heliosdb_proxy_sessions_total", "sessions that were admitted", sampled=True)
CONNECTION_ERRORS = _counter(
    "heliosdb_proxy_connection_errors_total",
    "connections that failed: refused for a limit, or unreachable, where the server was",
    "reason",
    sampled=True,
)
CANCELS = _counter("heliosdb_proxy_cancels_total", "cancel requests received", sampled=True)
REQUESTS = _counter(
    "heliosdb_proxy_requests_total", "requests that were answered, whatever they were", sampled=True
)
PROXY_RECEIVED = _counter("heliosdb_proxy_received_bytes_total", "bytes received from clients", sampled=True)
PROXY_SENT = _counter("heliosdb_proxy_sent_bytes_total", "bytes received from servers", sampled=True)
STATEMENTS = _counter(
    "heliosdb_proxy_statements_total",
    "statements that were rewritten: federated, or predict for a query of one's own that calls a model",
    "kind",
)
STATEMENT_ERRORS = _counter(
    "heliosdb_proxy_statement_errors_total",
    "errors that servers answered rewritten statements with, by the class of the SQLSTATE",
    "sqlstate_class",
)
REWRITING_SECONDS = _histogram(
    "heliosdb_proxy_rewriting_duration_seconds",
    "of working out what a text becomes that is not in the cache",
    buckets=_SHORT,
)
REWRITING_FAILURES = _counter(
    "heliosdb_proxy_rewriting_failures_total",
    "texts that could not be rewritten and went through as they are",
)
CACHE_HITS = _counter("heliosdb_proxy_rewriting_cache_hits_total", "look-ups that found a text", sampled=True)
CACHE_MISSES = _counter("heliosdb_proxy_rewriting_cache_misses_total", "look-ups that did not", sampled=True)

_EVERY = (BUILD_INFO, READY)

METRICS: Mapping[Daemon, tuple[Metric, ...]] = {
    Daemon.COORDINATOR: (
        *_EVERY,
        *(LEASES, LEADING, CERTIFICATE, RUNS, ROUNDS, ROUND_SECONDS, EXCHANGES, UPDATES, LOST_UPDATES),
        *(SENT, RECEIVED, DELIVERIES, NOTICES, CATALOG_UP, LEFT_OUT, UNDELIVERED, RUNS_NOW, NODE_UP),
        *(NODE_SEEN, NODE_CERTIFICATE, *(metric for metric, _ in WORKSPACE.values())),
    ),
    Daemon.NODE: (
        *_EVERY,
        *(TASKS, TASKS_UNDER_WAY, TASK_SECONDS, COMPUTING_SECONDS, DOOR_SECONDS, CHARGES, DELIVERIES_TAKEN),
        *(ORDERS, NODE_CATALOG_UP, DATASET_SPENT, DATASET_CEILING),
    ),
    Daemon.PROXY: (
        *_EVERY,
        *(CONNECTIONS, SESSIONS_OPEN, SESSIONS_MOST, SESSIONS, CONNECTION_ERRORS, CANCELS, REQUESTS),
        *(PROXY_RECEIVED, PROXY_SENT, STATEMENTS, STATEMENT_ERRORS, REWRITING_SECONDS, REWRITING_FAILURES),
        *(CACHE_HITS, CACHE_MISSES),
    ),
}


def reference_parts() -> dict[str, str]:
    """The generated parts of docs/monitoring.md, by name."""
    return {f"{daemon}_metrics": _table(metrics) for daemon, metrics in METRICS.items()}


def _table(metrics: tuple[Metric, ...]) -> str:
    return "| metric | kind | labels | value |\n|---|---|---|---|\n" + "".join(map(_row, metrics))


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |\n"
