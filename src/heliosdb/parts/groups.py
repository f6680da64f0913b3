"""Whether a rule can be given the means of groups in place of single updates (`robust_groups`): asked at
START, and once more when a run is claimed.

What always holds: a run that passes has groups of as many nodes as its sum protocol needs for one, wherever
all of its nodes are there.
"""

from __future__ import annotations

from typing import Any

from heliosdb.domain.errors import invalid_value, not_supported
from heliosdb.domain.run import TrainingOptions
from heliosdb.domain.wording import counted
from heliosdb.parts.protocols import PLAIN, PROTOCOLS, least_of_group, least_survivors
from heliosdb.parts.strategies import STRATEGIES, fewest_groups, groups_of


def groups_of_run(options: TrainingOptions) -> int | None:
    """How many groups a run's nodes are dealt to; None where its rule is given no means of groups."""
    return groups_of(options.settings(STRATEGIES.entry(options.aggregation).settings))


def least_nodes(options: TrainingOptions) -> int:
    """How many nodes a run needs so that each of its groups has a sum; 0 where it has none."""
    return (groups_of_run(options) or 0) * least_of_group(options.protocol)


def check_groups(options: TrainingOptions, most_nodes: int | None) -> None:
    """Raise FederatedError INVALID_VALUE where a run's nodes are too few for its groups, or a threshold
    cannot be that of all sums. most_nodes: the most nodes that a round can have; None: not known."""
    groups = groups_of_run(options)
    if groups is None:
        return
    chosen: Any = options.settings(PROTOCOLS.entry(options.protocol).settings)
    threshold = getattr(chosen, "threshold", None)
    if threshold is not None:
        raise invalid_value(
            f"threshold {threshold} cannot be of every sum where robust_groups is {groups}",
            detail="It has to be more than half of all nodes, whose statistics and evaluations are summed,"
            " and no more than the nodes of a group.",
            hint="Leave threshold out for two thirds of each.",
        )
    needed, least = least_nodes(options), least_of_group(options.protocol)
    if most_nodes is not None and needed > most_nodes:
        raise invalid_value(
            f"robust_groups {groups} needs {counted(needed, 'node')}, and a round has at most {most_nodes}",
            detail=f"A group has {counted(least, 'node')} at least"
            + (": of fewer a secure sum hides no single update." if least > 1 else "."),
            hint="Choose a smaller number of groups, or register more nodes.",
        )


def describe_groups(options: TrainingOptions, nodes: int) -> list[str]:
    """Say where a group has no sum as soon as one of its nodes is lost, and where the run fails with it.
    nodes: how many a round has at most."""
    groups, least = groups_of_run(options), least_of_group(options.protocol)
    smallest = 0 if groups is None else nodes // groups
    if (
        groups is None
        or smallest < least
        or options.protocol == PLAIN
        or least_survivors(smallest) < smallest
    ):
        return []
    needed = fewest_groups(options.settings(STRATEGIES.entry(options.aggregation).settings))
    return [
        f"a group of {counted(smallest, 'node')} has no secure sum once one of them is lost, and a run of"
        f" which fewer than {needed} of its {counted(groups, 'group')} are left fails"
    ]


def check_group_selection(options: TrainingOptions, text: str) -> None:
    """Raise FederatedError NOT_SUPPORTED where rounds ask some nodes only. text: node_selection."""
    groups = groups_of_run(options)
    if groups is not None and text != "all":
        raise not_supported(
            f"node_selection {text} is not supported with robust_groups yet",
            hint="Groups are of all nodes of a run: choose node_selection all, or leave robust_groups out.",
        )
