"""Sums of groups of nodes in place of single updates, for rules that compare updates (`robust_groups`).

A rule is given the weighted mean of each group as if it were one update of the group's weight. Karimireddy,
He and Jaggi 2022, "Byzantine-robust learning on heterogeneous datasets via bucketing", give rules means of
groups for another reason: these differ less than their nodes do. f hostile nodes are in f groups at most.

What always holds: a group is combined where it has a sum of as many nodes as it must have, a positive weight
and a finite mean; else it is left out with the reason, and the others go on without it, where they are as
many as the rule needs. Nothing depends on the order in which updates arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from heliosdb.aggregation.gathering import Gathering
from heliosdb.aggregation.updates import rejected
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.groups import Groups, group_of
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Total, Update
from heliosdb.domain.wording import counted

T = TypeVar("T")
U = TypeVar("U")
G = TypeVar("G")

Results = Mapping[int, T | FederatedError]
"""By a group's number, what became of it: what it gathered to, or why it has to be left out."""


class GroupGathering(Generic[G]):
    """Gathers the updates of each group by itself. make: a gathering for one of them."""

    def __init__(self, groups: Groups, make: Callable[[], Gathering[G]]) -> None:
        self._groups = groups
        self._made = tuple(make() for _ in groups)

    def take(self, update: Update) -> None:
        """Take one node's update; FederatedError UPDATE_REJECTED for one that may not be combined, ValueError
        for a node of no group."""
        self._made[group_of(self._groups, update.node)].take(update)

    def result(self) -> Results[G]:
        """What each group gathered to."""
        return {number: _attempt(one.result) for number, one in enumerate(self._made)}


def go_on(results: Results[T], compute: Callable[[int, T], U]) -> Results[U]:
    """What is computed of each group that has come to something, or the error in which that ends."""
    return {
        number: found if isinstance(found, FederatedError) else _attempt(partial(compute, number, found))
        for number, found in results.items()
    }


def _attempt(compute: Callable[[], T]) -> T | FederatedError:
    """One group's error is not another's."""
    try:
        return compute()
    except FederatedError as error:
        return error


def mean_update(number: int, total: Total, least: int) -> Update:
    """What a rule is given for a group: its mean, as an update of its weight. least: of so many nodes.

    FederatedError (UF003) for a sum of fewer, for a weight that is not positive (a hidden one is the nodes'
    own word), and for a mean that is not finite.
    """
    if total.nodes < least:
        raise rejected(f"{counted(total.nodes, 'node')} left, and a sum takes {least}")
    if not total.weight > 0:
        raise rejected(f"they weigh {total.weight:g} together")
    with np.errstate(over="ignore", invalid="ignore"):
        mean = total.vector / total.weight
    if not np.isfinite(mean).all():
        raise rejected("the mean of its updates is not finite")
    return Update(NodeName(f"group {number + 1}"), mean, total.weight)


def split(results: Results[T]) -> tuple[dict[int, T], dict[int, FederatedError]]:
    """The groups that have come to something, and those that have not; where none has, raises the error of
    the first."""
    failed = {number: found for number, found in results.items() if isinstance(found, FederatedError)}
    left = {number: found for number, found in results.items() if not isinstance(found, FederatedError)}
    if not left:
        raise next(iter(failed.values()), rejected("There is no update to combine."))
    return left, failed


def check_left(rule: str, left: int, groups: int, least: int, why: Sequence[str]) -> None:
    """FederatedError (UF003) where fewer groups than the rule needs have come to something: of two groups a
    median is a mean, and a hostile node would have as much of it as it wants. why: what befell the others."""
    if left >= least:
        return
    raise FederatedError(
        ErrorCode.UPDATE_REJECTED,
        f"{left} of {counted(groups, 'group')} {'is' if left == 1 else 'are'} left, and {rule} needs {least}",
        detail="; ".join(why) + "." if why else None,
        hint="Choose more robust_groups than the rule needs, or have four nodes or more in each.",
    )


def named(group: Sequence[NodeName]) -> str:
    """A group as messages name it."""
    return "the group of " + ", ".join(sorted(group))
