"""FedProx (Li et al. 2020, algorithm 2): a term of each node's objective keeps it near the global model.

    h(w) = F(w) + μ/2 |w - w_global|²

What always holds: the term is the nodes' (algorithms/local_terms.py); the updates are combined as by fedavg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from heliosdb.aggregation.updates import mean_of, move
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector
from heliosdb.parts.strategies import ProximalSettings

_PROXIMAL_TERM = 0.01
"""The middle of the values among which the paper chooses (section 5.3)."""


class FedProx:
    """new = old + the mean of updates that were held near."""

    name = "fedprox"
    sees: Literal["each", "sum"] = "sum"

    def local(self, settings: ProximalSettings) -> Mapping[str, Setting]:
        """μ."""
        given = settings.proximal_term
        return {"proximal_term": _PROXIMAL_TERM if given is None else given}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: Any
    ) -> tuple[Vector, State]:
        """The mean; UF003 for no update, for one of another shape, and where the result is not finite."""
        return move(parameters, mean_of(parameters, gathered)), NO_STATE


FEDPROX = FedProx()
