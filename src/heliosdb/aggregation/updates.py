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
from heliosdb.domain.update import Total, Update, Updates
from heliosdb.domain.vector import Dtype, Matrix, Vector
from heliosdb.domain.wording import counted
from heliosdb.parts.strategies import fewest_nodes


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


def check_opened(weight: float, nodes: int, public: float | None) -> None:
    """Raise FederatedError (UF003) for the sum of hidden vectors whose weights come to what so many nodes
    cannot weigh. public: what each weighs where that is known, under a budget; None: rows.

    Where somebody has left a masked vector out, or added it twice, masks are left in the sum, and it is any
    number of the ring: one in ten thousand, or fewer, is let pass.
    """
    most = nodes * ROWS.most
    is_right = 0 < weight <= most if public is None else math.isclose(weight, nodes * public, rel_tol=1e-9)
    if not is_right:
        raise rejected(
            f"The sum of {counted(nodes, 'hidden vector')} weighs {weight:g}, which they cannot: one of them"
            " is false, or whoever added them up has not added them all."
        )


def in_order(updates: Sequence[Update]) -> list[Update]:
    """Sort by node name (by code point); a node that appears twice is an error (UF003)."""
    ordered = sorted(updates, key=lambda update: update.node)
    for one, other in itertools.pairwise(ordered):
        if one.node == other.node:
            raise sent_twice(one.node)
    return ordered


def mean_of(parameters: Vector, gathered: Total | Updates) -> Vector:
    """The mean of the updates, from a sum of the parameters' shape.

    FederatedError (UF003) for no update, and for one of another shape; TypeError for single updates.
    """
    if not isinstance(gathered, Total):
        raise TypeError("this rule sees the sum of the updates")
    if gathered.nodes < 1 or not gathered.weight > 0:
        raise rejected("There is no update to combine.")
    if gathered.vector.shape != parameters.shape:
        raise rejected(f"The sum's shape is {gathered.vector.shape}, not {parameters.shape}.")
    mean: Vector = gathered.vector / gathered.weight
    return mean


def stack(name: str, parameters: Vector, gathered: Total | Updates, settings: object) -> Matrix:
    """The single updates one below the other, (n, size), in their nodes' order: for the rule of that name.

    FederatedError (UF003) for no update, for fewer than the settings need, and for one of another shape;
    TypeError for a sum.
    """
    if isinstance(gathered, Total):
        raise TypeError("this rule sees single updates")
    if not gathered or any(update.vector.shape != parameters.shape for update in gathered):
        raise rejected("There is no update of the parameters' shape.")
    if len(gathered) < (fewest := fewest_nodes(settings)):
        raise rejected(
            f"{name} with these settings needs {counted(fewest, 'update')}, and has {len(gathered)}."
        )
    return np.array([update.vector for update in gathered], dtype=np.float64)


def move(parameters: Vector, by: Vector) -> Vector:
    """The parameters moved by a vector; FederatedError (UF003) where the result is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        moved: Vector = parameters + by
    if not np.isfinite(moved).all():
        raise rejected("The combined update is larger than the largest number.")
    return moved


def _fault(update: Update, size: int, dtype: Dtype) -> str | None:
    vector = update.vector
    if vector.dtype != np.dtype(dtype.value):
        return f"its values are {vector.dtype}, not {dtype.value}"
    if vector.shape != (size,):
        return f"its shape is {vector.shape}, not ({size},)"
    if dtype.is_real and not np.all(finite := np.isfinite(vector)):
        lost = size - int(np.count_nonzero(finite))
        return f"{lost} of its {counted(size, 'value')} {'is' if lost == 1 else 'are'} not finite"
    if not (math.isfinite(update.weight) and update.weight > 0):
        return f"its weight is {update.weight}, not a positive number"
    if update.weight > ROWS.most:
        return f"its weight {update.weight:g} is more than {ROWS.most:g}"
    return None
