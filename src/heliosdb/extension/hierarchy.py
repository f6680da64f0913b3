"""The option aggregator of nodes: who may gather for whom, and in which runs.

What always holds: a check raises or changes nothing; the aggregators that a workspace's nodes name are
registered there, and lead in no circle.
"""

from __future__ import annotations

from collections.abc import Sequence

from federated_sql.errors import ErrorCode, FederatedError, not_supported
from federated_sql.options import nodes_come
from heliosdb.catalog import commands as catalog
from heliosdb.domain.hierarchy import check_hierarchy
from heliosdb.domain.ids import NodeName
from heliosdb.parts.protocols import PLAIN


def check_aggregator(
    workspace: catalog.Workspace, node: str, others: Sequence[catalog.Node], given: catalog.Options
) -> None:
    """Raise where a node's aggregator is none, or would be below it, or too many would be above a node."""
    aggregator = given.get("aggregator")
    if aggregator is None:
        return
    if aggregator != node and all(other.name != aggregator for other in others):
        raise FederatedError(
            ErrorCode.UNDEFINED_OBJECT,
            f'the aggregator of node "{node}", federated node "{aggregator}", does not exist in workspace'
            f' "{workspace.name}"',
            hint="REGISTER FEDERATED NODE registers it first.",
        )
    above = {other.name: NodeName(own) for other in others if (own := other.options.get("aggregator"))}
    check_hierarchy({**above, NodeName(node): NodeName(aggregator)}, NodeName(node))


def check_gathers_for_none(node: str, nodes: Sequence[catalog.Node]) -> None:
    """Raise where other nodes have named a node as their aggregator."""
    below = [other.name for other in nodes if other.options.get("aggregator") == node]
    if below:
        quoted = ", ".join(f'"{name}"' for name in below)
        raise FederatedError(
            ErrorCode.IN_USE,
            f'federated node "{node}" aggregates for {quoted}',
            hint="ALTER FEDERATED NODE ... RESET (aggregator) has the coordinator ask these itself.",
        )


def describe_aggregators(
    protocol: str, nodes: Sequence[catalog.Node], *, has_groups: bool = False
) -> list[str]:
    """Say which aggregators a run passes by: of training in whose groups (`robust_groups`) each hidden sum is
    of one group, and aggregators add up what is below them."""
    if protocol == PLAIN or not has_groups:
        return []
    passed_by = sorted({str(name) for node in nodes if (name := node.options.get("aggregator"))})
    if not passed_by:
        return []
    return [
        "robust_groups with secure_aggregation has every node send its update by itself: "
        f"{', '.join(passed_by)} would gather none of them"
    ]


def check_runs_by_aggregators(policy: catalog.Options, nodes: Sequence[catalog.Node]) -> None:
    """Raise where nodes have aggregators, and a run under this policy could not go by them."""
    if not any(node.options.get("aggregator") for node in nodes):
        return
    hint = "ALTER FEDERATED NODE ... RESET (aggregator) has the coordinator ask all nodes itself."
    if policy.get("async_aggregation"):
        raise not_supported("async_aggregation is not supported where nodes have aggregators yet", hint=hint)
    if nodes_come(policy):
        over = str(policy.get("communication_protocol"))
        reason = f"aggregators are not supported with communication_protocol = '{over}' yet"
        raise not_supported(
            reason, detail="No node has an endpoint at which another could call it.", hint=hint
        )
