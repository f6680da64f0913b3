"""What the coordinator holds of an exchange: one update of each node, or what they gathered to.

What always holds: an update here was verified and opened; a gathering is the same to the bit whatever the
order in which updates arrived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName
from heliosdb.domain.vector import AnyVector, Vector


@dataclass(frozen=True, slots=True)
class Update:
    """What one node released in one exchange: for training how far the parameters moved, else sums.

    vector: one-dimensional, of the type that its work says. weight: > 0, rows or a private count of them.
    """

    node: NodeName
    vector: AnyVector
    weight: float


@dataclass(frozen=True, slots=True)
class Term:
    """What is known of an update that was added to others before it came here.

    norm: of the whole vector, L2. norms: of its parts, where the strategy has companions; else the one.
    sketch: of its first part (aggregation/agreement.py).
    """

    node: NodeName
    weight: float
    norm: float
    norms: tuple[float, ...]
    sketch: Vector


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of an exchange's updates. vector: the sum, of each update times its weight where `weighted`.

    weight: the sum of the weights. nodes: how many. largest: the node whose update is the longest, and its
    L2 norm; None where single updates were not seen. variance: of its noise, one node's whole noise having 1;
    None: each node added the whole.
    """

    vector: Vector
    weight: float
    nodes: int
    largest: tuple[NodeName, float] | None = None
    variance: float | None = None

    @property
    def noise_variance(self) -> float:
        """The variance of the sum's noise, one node's whole noise having 1."""
        return self.nodes if self.variance is None else self.variance


@dataclass(frozen=True, slots=True)
class Moved:
    """What a strategy made of an exchange's updates: the parameters as they are now, flat."""

    parameters: Vector
    nodes: int
    largest: tuple[NodeName, float] | None = None


Updates = Sequence[Update]


class OversizedUpdateError(FederatedError):
    """An update is longer than its run allows; code UPDATE_REJECTED."""

    def __init__(self, norm: float, most: float) -> None:
        super().__init__(
            ErrorCode.UPDATE_REJECTED, f"its norm {norm:.3g} is larger than max_update_norm {most:g}"
        )


class DivergedError(FederatedError):
    """Training has led to parameters that no task may carry; code INVALID_VALUE."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.INVALID_VALUE, message)


def norm(vector: AnyVector) -> float:
    """Return the L2 norm of a finite vector; infinity only where that is no double, whatever its squares.

    Taken in float64 whatever the vector's type.
    """
    largest = float(np.abs(vector).max(initial=0.0))
    if largest == 0.0:
        return 0.0
    return largest * float(np.linalg.norm(np.divide(vector, largest, dtype=np.float64)))


def check_norm(length: float, most: float) -> None:
    """Raise OversizedUpdateError for an update whose L2 norm is more than `most`."""
    if length > most:
        raise OversizedUpdateError(length, most)
