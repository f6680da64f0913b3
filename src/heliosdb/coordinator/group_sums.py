"""The coordinator's side of a hidden sum where every group of nodes has its own (`robust_groups`).

What always holds: each group's sum is the sum protocol's for its nodes alone, with keys, threshold and shares
of noise of that group; the groups are told the same messages at the same time; one that cannot go on is left
out with the reason, and costs the others nothing. What is heard of all of them is one state, which is sealed
and kept as that of a single sum is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from heliosdb.aggregation.groups import Results, go_on
from heliosdb.domain.groups import Groups, group_of
from heliosdb.domain.ids import NodeName
from heliosdb.domain.state import NO_STATE, State, join_parts, make_state, part_of
from heliosdb.domain.update import Updates

_HEARD, _COUNTS = "heard", "counts"


@dataclass(frozen=True, slots=True)
class GroupSum:
    """What is known of one group's sum. heard: as its protocol has it. asked: how many are asked for
    the next message. summed: of how many the sum will be, 0 before that is known."""

    heard: State = field(default_factory=lambda: NO_STATE)
    asked: int = 0
    summed: int = 0


Hear = Callable[[State, Updates], State]
"""What a protocol knows after one of its messages; FederatedError where there is no sum any more."""


def find_sum(heard: State, groups: Groups, node: NodeName) -> GroupSum:
    """What is known of the sum of a node's group; before its first message all of them count as asked."""
    number = group_of(groups, node)
    if not heard:
        return GroupSum(asked=len(groups[number]))
    return _read(heard, number)


def hear(heard: State, answers: Results[Updates], take: Hear, *, carries: bool) -> Results[GroupSum]:
    """Take in one message of each group that is left. carries: whether it has the nodes' vectors in it."""

    def one(number: int, said: Updates) -> GroupSum:
        known = _read(heard, number)
        # Who is lost in a later message is in the sum all the same.
        return GroupSum(take(known.heard, said), len(said), len(said) if carries else known.summed)

    left = _numbers(heard) if heard else answers.keys()
    return go_on({number: answers[number] for number in left}, one)


def keep(sums: Mapping[int, GroupSum]) -> State:
    """One state of all that is known; read back by `find_sum` and `hear`."""
    parts = {}
    for number, one in sums.items():
        counts = make_state(counts=np.array([one.asked, one.summed], dtype=np.int64))
        parts[str(number)] = join_parts(**{_HEARD: one.heard, _COUNTS: counts})
    return join_parts(**parts)


def _read(heard: State, number: int) -> GroupSum:
    own = part_of(heard, str(number))
    if not own:
        return GroupSum()
    asked, summed = part_of(own, _COUNTS)["counts"]
    return GroupSum(part_of(own, _HEARD), int(asked), int(summed))


def _numbers(heard: State) -> list[int]:
    return sorted({int(name.split("/", 1)[0]) for name in heard})
