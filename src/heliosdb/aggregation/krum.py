"""Krum and Multi-Krum (Blanchard et al. 2017, section 4): the updates that lie closest to most others.

What always holds: an update's score is of its n - f - 2 nearest neighbours, and n >= 2f + 3 wherever f is
given; of equal scores the first in the order of names is the better; weights, which are a node's own word,
have no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.distances import by_score, distances
from heliosdb.aggregation.updates import move, stack
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.strategies import KrumSettings


@dataclass(frozen=True, slots=True)
class Krum:
    """new = old + the update of the best score, or the mean of several.

    several: the mean is of the best n - f - 2, the most for which El Mhamdi et al. (2018, section 2) show
    that the rule withstands f.
    """

    name: str
    several: bool
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: KrumSettings
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 for fewer than 2f + 3 updates, one of another shape, and what is not
        finite."""
        updates = stack(self.name, parameters, gathered, settings)
        nodes = updates.shape[0]
        hostile = settings.hostile(nodes)
        chosen = by_score(distances(updates), hostile)
        chosen = np.sort(chosen[: max(1, nodes - hostile - 2) if self.several else 1])
        with np.errstate(over="ignore", invalid="ignore"):
            mean: Vector = updates[chosen].mean(axis=0)
        return move(parameters, mean), NO_STATE


KRUM = Krum("krum", several=False)
MULTI_KRUM = Krum("multi_krum", several=True)
