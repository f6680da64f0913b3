"""Who takes part in a round, by name."""

from __future__ import annotations

from dataclasses import dataclass

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.settings import within
from heliosdb.parts.registry import Registry


@dataclass(frozen=True, slots=True)
class SomeNodes:
    """k: how many are chosen."""

    k: int = within(Bounds(1, 10_000))


SELECTIONS = Registry("node selection")
SELECTIONS.register("all", "heliosdb.coordinator.selections:ALL")
SELECTIONS.register("random", "heliosdb.coordinator.selections:RANDOM", settings=SomeNodes)
