"""Federated averaging (McMahan et al. 2017, algorithm 1): the mean of the updates, weighted by rows.

What always holds: it needs no more than the sum of the updates, and remembers nothing. `fedavg` weighs by
rows unless weighted_aggregation is false; `weighted` always does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from heliosdb.aggregation.updates import mean_of, move
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector


@dataclass(frozen=True, slots=True)
class FedAvg:
    """new = old + (sum of weight x update) / (sum of weights)."""

    name: str
    sees: Literal["each", "sum"] = "sum"

    def local(self, settings: Any) -> Mapping[str, Setting]:
        """Nothing."""
        return {}

    def combine(
        self, parameters: Vector, memory: State, gathered: Total | Updates, settings: Any
    ) -> tuple[Vector, State]:
        """The mean, from a sum of the parameters' shape.

        Raises FederatedError (UF003) for no update, for one of another shape, and where the result is not
        finite.
        """
        return move(parameters, mean_of(parameters, gathered)), NO_STATE


FEDAVG = FedAvg("fedavg")
WEIGHTED = FedAvg("weighted")
