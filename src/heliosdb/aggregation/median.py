"""The median of the updates by coordinate (Yin et al. 2018, algorithm 1): few nodes alone do not move it far.

What always holds: weights, which are a node's own word, have no part in it; it remembers nothing.
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


class Median:
    """new = old + the median of the updates; of an even number the mean of the middle two."""

    name = "median"
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: Any
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 for no update, one of another shape, and what is not finite."""
        updates = stack(self.name, parameters, gathered, settings)
        with np.errstate(over="ignore", invalid="ignore"):
            middle: Vector = np.median(updates, axis=0)
        return move(parameters, middle), NO_STATE


MEDIAN = Median()
