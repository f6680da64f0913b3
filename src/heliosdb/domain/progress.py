"""How far a run has come, as committed rows say it: what the round machine is rebuilt from.

What always holds: it is of one moment of the catalog, and holds nothing that was not committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from heliosdb.domain.convergence import Trace
from heliosdb.domain.events import NOBODY, Ended, Figures, Names, Next
from heliosdb.domain.ids import NodeName, RoundNumber


@dataclass(frozen=True, slots=True)
class OpenedRound:
    """A round that was open when the coordinator went away, at its last exchange. figures: what it had found
    before it asked for a report."""

    round: RoundNumber
    exchange: int
    asked: Next
    cohort: Names
    counted: Names = NOBODY
    figures: Figures | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What is committed of a run: its closed rounds and the open one. figures: of the last closed round.
    ended: what that has said of the run's end. at_work: of an asynchronous run, in which round each node was
    asked of whose training nothing is committed.
    """

    closed: int = -1
    members: Names | None = None
    trace: Trace = ()
    figures: Figures | None = None
    opened: OpenedRound | None = None
    stop_requested: bool = False
    ended: Ended | None = None
    at_work: Mapping[NodeName, RoundNumber] = field(default_factory=lambda: MappingProxyType({}))
