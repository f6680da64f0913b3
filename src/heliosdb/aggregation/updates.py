"""Updates as the coordinator holds them: who sent which vector with which weight, checked and in one order.

What always holds: whatever combines updates sees them sorted by node name, so that a result does not depend
on who answered first; and only updates that passed `check_update`. So a single weight is at most that of as
many rows as a node may state, and no sum over nodes overflows for a weight's sake.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.bounds import ROWS
from heliosdb.domain.ids import NodeName
from heliosdb.domain.vector import Vector


@dataclass(frozen=True, slots=True)
class Update:
    """What one node released in one exchange: for training the difference of the parameters, else sums."""

    node: NodeName
    vector: Vector
    weight: float


class OversizedUpdateError(FederatedError):
    """An update is longer than its run allows; code UPDATE_REJECTED."""

    def __init__(self, norm: float, most: float) -> None:
        super().__init__(
            ErrorCode.UPDATE_REJECTED, f"its norm {norm:.3g} is larger than max_update_norm {most:g}"
        )


def norm(vector: Vector) -> float:
    """Return the L2 norm of a finite vector; infinity only where that is no double, whatever its squares."""
    largest = float(np.abs(vector).max(initial=0.0))
    return largest * float(np.linalg.norm(vector / largest)) if largest > 0 else 0.0


def check_norm(update: Update, most: float) -> None:
    """Raise OversizedUpdateError for an update whose L2 norm is more than `most`."""
    length = norm(update.vector)
    if length > most:
        raise OversizedUpdateError(length, most)


def check_update(update: Update, size: int) -> None:
    """Raise FederatedError (UF003), saying why, for an update that may not be combined.

    size: how many values the exchange calls for. Stops an update of another shape or type, a NaN or
    infinity, and a weight that is not positive or more than rows there can be: each would spoil the
    aggregate for every node.
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
    if update.weight > ROWS.most:
        return f"its weight {update.weight:g} is more than {ROWS.most:g}"
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
