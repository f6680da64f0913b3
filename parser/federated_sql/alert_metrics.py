"""What an alert may watch: one table of metrics, each a number of one workspace.

What always holds: `METRICS` and the view federated_alert_metrics have the same names; a metric without a
value at the moment is unknown, and no condition on it holds. What is about several nodes or models is the
worst of them, as the meaning says.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from federated_sql.clause_values import MAX_NAME_BYTES
from federated_sql.errors import FederatedError, invalid_value


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. unit: of its values; meaning: what it is, and when it is unknown."""

    name: str
    unit: str
    meaning: str


_LAST = "of the last closed round of each model's last run that has closed one"

_TABLE = (
    Metric("total_epsilon", "ε", "the option privacy_budget; unknown without a budget"),
    Metric(
        "consumed_epsilon", "ε", "what the most charged node has spent; unknown without a budget and charges"
    ),
    Metric("remaining_epsilon", "ε", "what is left of the budget; unknown without one"),
    Metric(
        "estimated_remaining_rounds",
        "rounds",
        "for how many rounds the rest lasts; unknown without a budget and before a round was charged",
    ),
    Metric("registered_nodes", "nodes", "registered, in whatever state"),
    Metric("active_nodes", "nodes", "that the coordinator reaches now"),
    Metric("slow_nodes", "nodes", "that miss heartbeats now"),
    Metric("failed_nodes", "nodes", "that cannot be reached or were refused"),
    Metric("pending_nodes", "nodes", "that the coordinator has not met yet"),
    Metric(
        "seconds_since_last_seen",
        "seconds",
        "since the node was last heard that is silent for longest; of one that was never met, since it was"
        " registered; unknown without nodes",
    ),
    Metric(
        "certificate_expires_days",
        "days",
        "until the first pinned certificate of a node expires, negative afterwards; unknown before one is"
        " pinned",
    ),
    Metric("running_runs", "runs", "that are running"),
    Metric("queued_runs", "runs", "that wait to be taken up, or for another run of their series"),
    Metric(
        "failed_runs_last_day",
        "runs",
        "that ended as failed, diverged or budget_exhausted in the last 24 hours",
    ),
    Metric("global_loss", "of the loss", f"the largest {_LAST}; unknown before one was evaluated"),
    Metric("global_accuracy", "of the accuracy", f"the smallest {_LAST}; unknown before one was evaluated"),
    Metric(
        "loss_delta",
        "of the loss",
        "the largest change of the loss since the evaluated round before it in the run, above 0 where it"
        f" rises; {_LAST}; unknown before two were evaluated",
    ),
    Metric("participating_nodes", "nodes", f"the fewest {_LAST}; unknown before any"),
    Metric(
        "dropped_nodes",
        "nodes",
        f"the most that were dropped, refused or were rejected {_LAST}; unknown before any",
    ),
    Metric("round_duration_seconds", "seconds", f"the longest {_LAST}; unknown before any"),
    Metric(
        "communication_mb",
        "10⁶ bytes",
        f"the most that was sent to and received from all nodes, {_LAST}; unknown before any",
    ),
    Metric(
        "open_round_seconds",
        "seconds",
        "for which the oldest open round has been open; unknown where none is",
    ),
    Metric(
        "refusals_last_hour",
        "answers",
        "that nodes refused or that were rejected, in rounds that were open in the last hour",
    ),
    Metric("refusals_last_day", "answers", "as refusals_last_hour, in the last 24 hours"),
    Metric(
        "rejected_updates_last_day",
        "answers",
        "that were rejected, in rounds that were open in the last 24 hours",
    ),
    Metric("failed_deliveries", "subscriptions", "whose last delivery of a version failed"),
    Metric("breaches_last_day", "incidents", "breaches of security with an event in the last 24 hours"),
    Metric(
        "audit_breaks",
        "breaks",
        "1 where the audit log did not hold when the coordinator last verified it, else 0; unknown before",
    ),
    Metric(
        "order_deadline_days",
        "days",
        "until the first deadline of an order about a data subject (erasure, consent, export) that nodes have"
        " still to answer, negative afterwards; unknown where none is open",
    ),
    Metric(
        "erasure_deadline_days",
        "days",
        "until the first deadline of an erasure that is not carried out, by nodes and by the coordinator,"
        " which trains versions anew; negative afterwards, unknown where none is open",
    ),
    Metric("open_orders", "orders", "about data subjects that nodes have still to answer"),
    Metric(
        "expired_orders", "orders", "about data subjects whose deadline has passed before every node answered"
    ),
)

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _TABLE}


def check_metric(name: str) -> None:
    """FederatedError 22023 for a name that is no metric's, with the nearest one as its hint."""
    if name in METRICS:
        return
    near = difflib.get_close_matches(name.lower()[:MAX_NAME_BYTES], list(METRICS), 1, 0.6)
    raise _unknown(name, near)


def _unknown(name: str, near: list[str]) -> FederatedError:
    return invalid_value(
        f'unrecognized metric "{name}"',
        detail=f"Known are {', '.join(sorted(METRICS))}.",
        hint=f"Did you mean {near[0]}?" if near else None,
    )
