"""How far a run has come, as committed rows say it: what the round machine is rebuilt from.

What always holds: it is of one moment of the catalog, and holds nothing that was not committed.
"""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.convergence import Trace
from heliosdb.domain.events import NOBODY, Ended, Figures, Names, Next
from heliosdb.domain.ids import RoundNumber


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
    ended: what that has said of the run's end.
    """

    closed: int = -1
    members: Names | None = None
    trace: Trace = ()
    figures: Figures | None = None
    opened: OpenedRound | None = None
    stop_requested: bool = False
    ended: Ended | None = None
