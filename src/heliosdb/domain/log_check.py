"""Whether a log is the one of its heads: the same question in the database, at the coordinator and offline.

What always holds: every root is computed anew from the leaves; the first fault of a log is found, with the
first position at which it may lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from heliosdb.domain.merkle import Edge
from heliosdb.domain.tree_head import TreeHead
from heliosdb.domain.wording import counted


@dataclass(frozen=True, slots=True)
class LogFault:
    """What is wrong with a log. broken_at: the first position at which it may be; None where nobody knows."""

    broken_at: int | None
    reason: str


def compare(leaves: Iterable[bytes], heads: Sequence[tuple[TreeHead, str]]) -> LogFault | None:
    """Return the first fault of a log against heads, each with the words for whose it is; None where it is
    the log of all of them.

    leaves: the data of all leaves in their order.
    """
    rest, edge, agreed = iter(leaves), Edge(), 0
    for head, whose in sorted(heads, key=lambda one: one[0].size):
        edge = edge.extend(islice(rest, head.size - edge.size))
        if edge.size < head.size:
            lacking = head.size - edge.size
            missing = f"{counted(lacking, 'entry', 'entries')} at the end, which {whose} has,"
            return LogFault(edge.size + 1, f"{missing} {'is' if lacking == 1 else 'are'} missing")
        if edge.root != head.root:
            span = (
                f"entry {head.size} is"
                if agreed + 1 == head.size
                else f"entries {agreed + 1} to {head.size} are"
            )
            return LogFault(agreed + 1, f"{span} not what {whose} has")
        agreed = head.size
    return None
