"""Federated averaging (McMahan et al. 2017, algorithm 1): the mean of the updates, weighted by rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.aggregation.updates import Update, check_update, in_order, weighted_sum
from heliosdb.domain.vector import Vector


@dataclass(frozen=True, slots=True)
class FedAvg:
    """new = old + sum of (weight / total weight) x update."""

    name: str = "fedavg"

    def combine(self, parameters: Vector, updates: Sequence[Update]) -> Vector:
        """Average float64 updates of the parameters' shape, in the order of the nodes' names.

        Raises FederatedError (UF003) for no update, one that `check_update` rejects.
        """
        ordered = in_order(updates)
        if not ordered:
            raise FederatedError(ErrorCode.UPDATE_REJECTED, "There is no update to combine.")
        for update in ordered:
            check_update(update, parameters.size)
        # Dividing by the largest first keeps the sum finite for any finite weights.
        largest = max(update.weight for update in ordered)
        shares = [update.weight / largest for update in ordered]
        whole = math.fsum(shares)
        combined: Vector = parameters + weighted_sum(ordered, [share / whole for share in shares])
        return combined
