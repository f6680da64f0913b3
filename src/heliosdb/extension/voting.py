"""START with voting_groups: which nodes train which of the models that vote, and what would cross groups.

What always holds: a START that is not refused lets no node reach two of its runs. So what is certified
(Cao, Zhang, Jia and Gong 2022, FLCert, section 3) holds: hostile nodes change at most one vote each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from federated_sql.errors import ErrorCode, FederatedError, invalid_value, not_supported
from heliosdb.catalog import commands as catalog
from heliosdb.catalog.commands import NewRun
from heliosdb.domain.groups import Groups, dealt
from heliosdb.domain.ids import WorkspaceName
from heliosdb.domain.wording import counted
from heliosdb.parts.algorithms import has_classes, learns

_OF_ALL_GROUPS = {
    "folds": "a fold leaves no model that could vote",
    "search": "its trials would be compared by figures that any one node can falsify",
    "root_node": "one node would decide in one group alone, and the others have none",
    "transfer_from": "all groups would begin with what any one node may have taught",
}
"""What does not go with groups that vote, and why."""


def deal_nodes(chosen: catalog.Options, nodes: Collection[catalog.Node], workspace: WorkspaceName) -> Groups:
    """Return the nodes of each group of a START that was checked; () where no groups vote."""
    count = chosen.get("voting_groups")
    return () if count is None else dealt([node.name for node in nodes], count, workspace)


def plan_voters(groups: Groups, overrides: catalog.Options, *, measures: bool) -> list[NewRun]:
    """Return the run of each group, in their order, and behind them the one that measures the vote."""
    runs = [NewRun(overrides, group=number, group_nodes=nodes) for number, nodes in enumerate(groups, 1)]
    return [*runs, NewRun(overrides)] if measures else runs


def measures_vote(chosen: Mapping[str, Any], policy: Mapping[str, Any]) -> bool:
    """Whether the vote is measured at all nodes: over held-out rows, by counts that have no noise yet."""
    return chosen.get("validation_split") != 0 and policy.get("privacy_budget") is None


def smallest_group(chosen: Mapping[str, Any], nodes: int) -> int:
    """Return how many of so many nodes a run has at least: those of the smallest group, or all."""
    return nodes // int(chosen.get("voting_groups") or 1)


def check_voting(chosen: catalog.Options, policy: catalog.Options, nodes: Collection[catalog.Node]) -> None:
    """Raise where groups are asked for that could not vote, or of which one node could reach two."""
    groups = chosen.get("voting_groups")
    if groups is None:
        return
    for name, why in _OF_ALL_GROUPS.items():
        if chosen.get(name):
            raise invalid_value(f"{name} does not go with voting_groups", detail=_sentence(why))
    if not has_classes(chosen["algorithm"], chosen):
        raise invalid_value(
            f"{chosen['algorithm']} learns a number, on which no groups can vote",
            hint="voting_groups is for targets of classes.",
        )
    if learns(chosen["algorithm"], chosen) == "either":
        raise invalid_value(
            f"voting_groups needs target_classes where {chosen['algorithm']} may learn a number too",
            detail="Else the nodes of a group say what its model learns, and on numbers no groups can vote.",
            hint="Give the labels of the target: target_classes = ['0', '1'].",
        )
    if any(node.options.get("aggregator") for node in nodes):
        raise not_supported(
            "voting_groups is not supported where nodes have aggregators",
            detail="An aggregator that gathers for nodes of several groups could change the vote of each.",
            hint="ALTER FEDERATED NODE ... RESET (aggregator) has the coordinator ask all nodes itself.",
        )
    if policy.get("privacy_budget") is not None and policy.get("subjects_overlap"):
        raise not_supported(
            "voting_groups is not supported under a privacy_budget with subjects_overlap",
            detail="What one group spends would decide how much noise the next one adds.",
        )
    _check_sizes(groups, policy, len(nodes))


def _check_sizes(groups: int, policy: catalog.Options, nodes: int) -> None:
    needed = max(policy["min_nodes"], policy.get("min_nodes_per_round") or 0)
    if nodes // groups >= needed:
        return
    least = groups * needed
    raise FederatedError(
        ErrorCode.WRONG_STATE,
        f"{counted(groups, 'group')} of {counted(needed, 'node')} each need {counted(least, 'node')}, and"
        f" {counted(nodes, 'node')} {'is' if nodes == 1 else 'are'} registered",
        detail="Each group is a run of its own, for which min_nodes and min_nodes_per_round hold.",
        hint="Register more nodes, ask for fewer groups, or lower min_nodes.",
    )


def _sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:]}."


def describe_voting(groups: Groups, *, are_declared: bool, measures: bool) -> list[str]:
    """Say what the groups are, and how many hostile nodes could be withstood at best.

    are_declared: whether target_classes names the classes; else a hostile node may bring one of its own.
    measures: whether the vote is measured at all nodes.
    """
    if not groups:
        return []
    smallest, largest = len(groups[-1]), len(groups[0])
    withstood = (len(groups) if are_declared else len(groups) - 1) // 2
    size = counted(smallest, "node") if smallest == largest else f"{smallest} to {counted(largest, 'node')}"
    last = "a last run counts at all nodes for how many held-out rows the vote is certified"
    return [
        f"{len(groups)} groups of {size} each train a model that votes, one after another; at best a"
        f" prediction withstands {counted(withstood, 'hostile node')}",
        *([last] if measures else []),
    ]
