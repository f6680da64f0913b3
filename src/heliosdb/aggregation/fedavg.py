"""Federated averaging (McMahan et al. 2017, algorithm 1): the mean of the updates, weighted by rows.

What always holds: it needs no more than the weighted sum of the updates, and remembers nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from heliosdb.aggregation.updates import rejected
from heliosdb.domain.settings import Setting
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.update import Total, Updates
from heliosdb.domain.vector import Vector


class FedAvg:
    """new = old + (sum of weight x update) / (sum of weights)."""

    name = "fedavg"
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
        if not isinstance(gathered, Total):
            raise TypeError("federated averaging sees the sum of the updates")
        if gathered.nodes < 1 or not gathered.weight > 0:
            raise rejected("There is no update to combine.")
        if gathered.vector.shape != parameters.shape:
            raise rejected(f"The sum's shape is {gathered.vector.shape}, not {parameters.shape}.")
        with np.errstate(over="ignore", invalid="ignore"):
            combined: Vector = parameters + gathered.vector / gathered.weight
        if not np.isfinite(combined).all():
            raise rejected("The combined update is larger than the largest number.")
        return combined, NO_STATE


FEDAVG = FedAvg()
