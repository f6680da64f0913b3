"""Updates as the coordinator gathers them: checked, and in one order.

What always holds: whatever combines updates sees only those that passed `check_update`. So a single weight is
at most that of as many rows as a node may state, and no sum over nodes overflows for a weight's sake.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from heliosdb.domain.bounds import ROWS
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Dtype


def rejected(message: str) -> FederatedError:
    """The error for updates that may not be combined (UF003)."""
    return FederatedError(ErrorCode.UPDATE_REJECTED, message)


def sent_twice(node: NodeName) -> FederatedError:
    """The error for a second update of one node."""
    return rejected(f'Node "{node}" sent two updates in one exchange.')


def check_update(update: Update, size: int, dtype: Dtype = Dtype.FLOAT64) -> None:
    """Raise FederatedError (UF003), saying why, for an update that may not be combined.

    size, dtype: how many values of which type the exchange calls for. Stops an update of another shape or
    type, a NaN or infinity, and a weight that is not positive or more than rows there can be: each would
    spoil the aggregate for every node.
    """
    reason = _fault(update, size, dtype)
    if reason is not None:
        raise rejected(f'The update of node "{update.node}" was rejected: {reason}.')


def in_order(updates: Sequence[Update]) -> list[Update]:
    """Sort by node name (by code point); a node that appears twice is an error (UF003)."""
    ordered = sorted(updates, key=lambda update: update.node)
    for one, other in itertools.pairwise(ordered):
        if one.node == other.node:
            raise sent_twice(one.node)
    return ordered


def _fault(update: Update, size: int, dtype: Dtype) -> str | None:
    vector = update.vector
    if vector.dtype != np.dtype(dtype.value):
        return f"its values are {vector.dtype}, not {dtype.value}"
    if vector.shape != (size,):
        return f"its shape is {vector.shape}, not ({size},)"
    if dtype.is_real and not np.all(finite := np.isfinite(vector)):
        return f"{size - int(np.count_nonzero(finite))} of its {size} values are not finite"
    if not (math.isfinite(update.weight) and update.weight > 0):
        return f"its weight is {update.weight}, not a positive number"
    if update.weight > ROWS.most:
        return f"its weight {update.weight:g} is more than {ROWS.most:g}"
    return None
