"""A further part, as a site's administrator would name it: an algorithm that counts its visits at a node.

Importing this module registers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from heliosdb.algorithms.steps import Draws
from heliosdb.algorithms.table import Table
from heliosdb.domain.ids import StepName
from heliosdb.domain.state import State, make_state
from heliosdb.domain.task import Task
from heliosdb.domain.vector import ClippedSum, Contribution, Plain
from heliosdb.parts.algorithms import ALGORITHMS

VISIT = StepName("visit")


@dataclass(frozen=True)
class Visit:
    """Says how often it was there before, and how many rows it saw; keeps both, or what the setting `keeps` says."""

    name: StepName = VISIT
    required: bool = True
    gathers: Literal["sum"] = "sum"
    moving: Sequence[str] = ()

    def check(self, task: Task) -> None:
        """Anything will do."""

    def sensitivity(self, task: Task) -> float:
        """One of each."""
        return 1.0

    def least_rows(self, task: Task) -> int | None:
        """All rows at once."""
        return None

    def compute(self, table: Table, task: Task, memory: State, draws: Draws) -> Contribution:
        """See the class."""
        before = float(memory["visits"][0]) if "visits" in memory else 0.0
        stays = make_state(visits=np.array([before + 1.0]), rows=np.array([table.rows]))
        kept = stays if task.work.settings.get("keeps", True) else None
        if task.work.privacy is None:
            return Contribution(np.array([before, table.rows]), float(table.rows), Plain(), stays=kept)
        guard = ClippedSum(1.0, task.work.privacy.mechanism)
        return Contribution(np.array([before, 0.0]), task.work.privacy.weight, guard, stays=kept)


@dataclass(frozen=True)
class Visiting:
    """As much of an algorithm as a node needs."""

    name: str = "visiting"
    steps: Mapping[StepName, Any] = field(default_factory=lambda: {VISIT: Visit()})


ALGORITHMS.register("visiting", Visiting())
