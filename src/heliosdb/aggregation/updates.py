"""Updates as the coordinator holds them: who sent which vector with which weight, checked and in one order.

What always holds: whatever combines updates sees them sorted by node name, so that a result does not depend
on who answered first; and only updates that passed `check_update`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.vector import Vector


@dataclass(frozen=True, slots=True)
class Update:
    """What one node released in one exchange: for training the difference of the parameters, else sums."""

    node: NodeName
    vector: Vector
    weight: float


def check_update(update: Update, size: int) -> None:
    """Raise FederatedError (UF003), saying why, for an update that may not be combined.

    size: how many values the exchange calls for. Stops an update of another shape or type, a NaN or
    infinity, and a weight that is not positive: each would spoil the aggregate for every node.
    """
    reason = _fault(update, size)
    if reason is not None:
        raise FederatedError(
            ErrorCode.UPDATE_REJECTED, f'The update of node "{update.node}" was rejected: {reason}.'
        )


def _fault(update: Update, size: int) -> str | None:
    vector = update.vector
    if vector.dtype != np.float64:
        return f"its values are {vector.dtype}, not float64"
    if vector.shape != (size,):
        return f"its shape is {vector.shape}, not ({size},)"
    if not np.all(np.isfinite(vector)):
        return f"{int(np.count_nonzero(~np.isfinite(vector)))} of its {size} values are not finite"
    if not (math.isfinite(update.weight) and update.weight > 0):
        return f"its weight is {update.weight}, not a positive number"
    return None


def in_order(updates: Sequence[Update]) -> list[Update]:
    """Sort by node name (by code point); a node that appears twice is an error (UF003)."""
    ordered = sorted(updates, key=lambda update: update.node)
    for one, other in itertools.pairwise(ordered):
        if one.node == other.node:
            raise FederatedError(
                ErrorCode.UPDATE_REJECTED, f'Node "{one.node}" sent two updates in one exchange.'
            )
    return ordered


CHUNK = 1 << 15
"""Values accumulated at a time: small enough to stay in a processor's cache."""


def weighted_sum(updates: Sequence[Update], coefficients: Sequence[float]) -> Vector:
    """Return the sum of coefficient x vector, added in the order given: the same bits every time."""
    total = np.zeros_like(updates[0].vector)
    scratch = np.empty(min(CHUNK, total.size))
    for start in range(0, total.size, CHUNK):
        part = total[start : start + CHUNK]
        term = scratch[: part.size]
        for update, coefficient in zip(updates, coefficients, strict=True):
            np.multiply(update.vector[start : start + part.size], coefficient, out=term)
            part += term
    return total


def total(updates: Sequence[Update]) -> Vector:
    """Add up the vectors of an exchange whose answers are sums; weights play no part."""
    ordered = in_order(updates)
    if not ordered:
        raise FederatedError(ErrorCode.UPDATE_REJECTED, "There is no update to add up.")
    for update in ordered:
        check_update(update, ordered[0].vector.size)
    return weighted_sum(ordered, [1.0] * len(ordered))
