"""The trimmed mean by coordinate (Yin et al. 2018, algorithm 1): the mean without the largest and smallest.

What always holds: of n updates floor(trim_ratio x n) are cut at either end of each coordinate, and what is
left is added up in the order of size; weights, which are a node's own word, have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.updates import move, stack
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.strategies import TrimmedMeanSettings


class TrimmedMean:
    """new = old + the mean of what is left in each coordinate."""

    name = "trimmed_mean"
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: TrimmedMeanSettings
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 for no update, fewer than it takes to cut one, one of another shape,
        and what is not finite."""
        updates = stack(self.name, parameters, gathered, settings)
        nodes = updates.shape[0]
        cut = settings.cut(nodes)
        with np.errstate(over="ignore", invalid="ignore"):
            left: Vector = np.sort(updates, axis=0)[cut : nodes - cut].mean(axis=0)
        return move(parameters, left), NO_STATE


TRIMMED_MEAN = TrimmedMean()
