"""FedNova (Wang et al. 2020, equation 9): nodes that take more steps do not pull harder.

Where nodes have unlike numbers of rows they take unlike numbers of steps in their local epochs, and the mean
of how far they moved goes toward the minima of those that took many. Here each update Δ_i is divided by what
its steps are worth, a_i (τ_i plain steps, or |a|₁ under momentum), and the mean goes as far as the mean node:

    new = old + (Σ p_i a_i) Σ p_i Δ_i / a_i,    p_i = n_i / n

What always holds: a_i follows from the rows that the update weighs, which are no more than its node stated in
round 0, and from the run's options, never from a word about steps; nothing is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.updates import move, stack
from heliosdb.domain.descent import MOMENTUM, added_steps, count_steps
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.strategies import NovaSettings


class FedNova:
    """The mean of normalised updates, as far as the mean node went."""

    name = "fednova"
    sees: Literal["each", "sum"] = "each"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing: how many steps there are the rows say."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: NovaSettings
    ) -> tuple[Vector, State]:
        """The moved parameters; UF003 for no update, one of another shape, and what is not finite."""
        updates = stack(self.name, parameters, gathered, settings)
        assert not isinstance(gathered, Total)
        weights = np.array([update.weight for update in gathered])
        shares = weights / weights.sum()
        lengths = np.array([length_of(update.weight, settings) for update in gathered])
        # What each counts with, first: of these none is so small that it loses digits of an update.
        counting = (shares @ lengths) * (shares / lengths)
        with np.errstate(over="ignore", invalid="ignore"):
            by: Vector = counting @ updates
        return move(parameters, by), NO_STATE


def length_of(rows: float, settings: NovaSettings) -> float:
    """What the steps of a node of so many rows are worth, in plain steps."""
    steps = count_steps(max(1, int(rows)), settings.local_epochs, settings.batch_size)
    return added_steps(steps, MOMENTUM if settings.optimizer == "momentum" else 0.0)


FEDNOVA = FedNova()
