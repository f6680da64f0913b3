"""Cross-validation: which part of the subjects a run holds out, and the series of runs that it is one of.

What always holds: nothing here knows a subject; who is in which fold a node decides, by a secret of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

LEAST_FOLDS, MOST_FOLDS = 2, 20


@dataclass(frozen=True, slots=True)
class Fold:
    """The number-th (from 0) of so many folds is held out."""

    number: int
    of: int

    @property
    def is_possible(self) -> bool:
        """Whether there are that many folds, and this is one of them."""
        return LEAST_FOLDS <= self.of <= MOST_FOLDS and 0 <= self.number < self.of

    @property
    def share(self) -> float:
        """Of the subjects, on average."""
        return 1.0 / self.of


@dataclass(frozen=True, slots=True)
class Series:
    """Of what a run is a part. publishes: whether its model becomes a version at its own end, as that of a
    run by itself does. keeps: whether its model is kept until all runs of the series can be compared.
    to_come: how many runs of the series wait behind it. measures_vote: whether it trains nothing, and is over
    the rows of all nodes what the groups' models predict together.
    """

    id: UUID
    publishes: bool
    keeps: bool
    to_come: int = 0
    measures_vote: bool = False
