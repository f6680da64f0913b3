"""Whether enough nodes are there, who is missing, and how that is said.

What always holds: it counts and decides nothing; whoever was unregistered is no node that may come back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from heliosdb.domain.absence import Absence
from heliosdb.domain.events import UNREGISTERED, Loss, Names, NodesSeen, WaitedTooLong, describe
from heliosdb.domain.wording import counted


@dataclass(frozen=True, slots=True)
class Roll:
    """Who is there of the nodes that may be asked.

    able: those that are; expected: those that are or may come back. needed: how many it takes. wanted: nodes
    without which nothing is asked. registered: nodes of the workspace; absent: those of them that are away.
    """

    able: Names
    expected: Names
    needed: int
    wanted: Names
    registered: int
    absent: tuple[Absence, ...]

    @property
    def suffices(self) -> bool:
        """Whether enough are there."""
        return len(self.able) >= self.needed and self.wanted <= self.able

    @property
    def may_suffice(self) -> bool:
        """Whether it is presence alone that is wanting."""
        return len(self.expected) >= self.needed and self.wanted <= self.expected

    def waits(self) -> str:
        """Say for whom is waited."""
        return with_reasons(
            f"waiting for nodes: {len(self.able)} of {self.needed} active{self._missing}, {self._known}",
            self.absent,
        )

    def fails(self, what: str) -> str:
        """Say why there is nobody to wait for. what: could not be done."""
        needed = counted(self.needed, "node")
        there = f"{len(self.able)} of {needed} needed are active{self._missing}, {self._known}"
        return with_reasons(f"{what}: {there}", self.absent)

    @property
    def _known(self) -> str:
        if not self.registered:
            return "no node is registered: REGISTER FEDERATED NODE"
        return f"{self.registered} registered"

    @property
    def _missing(self) -> str:
        return "".join(f', and not "{name}"' for name in sorted(self.wanted - self.able))


def call_roll(event: NodesSeen | WaitedTooLong, usable: Names | None, needed: int, wanted: Names) -> Roll:
    """Return who of the usable nodes (None: of all) is there by what was seen."""
    registered = event.present | {one.node for one in event.absent if one.reason != UNREGISTERED}
    able, expected = event.present, registered
    if usable is not None:
        able, expected = able & usable, expected & usable
    return Roll(able, expected, needed, wanted, len(registered), event.absent)


def with_reasons(message: str, reasons: Iterable[Loss | Absence]) -> str:
    """Return a message with why nodes are missing behind it."""
    listed = "; ".join(describe(one.node, one.reason) for one in reasons)
    return f"{message} ({listed})" if listed else message
