"""What a node computes and what leaves it: a vector to be summed, a weight, and how it is guarded.

What always holds: a vector is one-dimensional float64; a `Contribution` has not left the node; only the
release door (node/door.py) turns one into a `Release`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.usage import Usage

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plain:
    """No privacy is asked for: the workspace has no budget."""


@dataclass(frozen=True, slots=True)
class ClippedSum:
    """A sum over subjects, each clipped to L2 norm `sensitivity`; the door adds the noise of `mechanism`."""

    sensitivity: float
    mechanism: Mechanism


@dataclass(frozen=True, slots=True)
class AlreadyPrivate:
    """The computation was private in itself (DP-SGD); the door charges what it says it cost."""

    mechanism: Mechanism


Guard = Plain | ClippedSum | AlreadyPrivate


@dataclass(frozen=True, slots=True)
class Contribution:
    """A node's answer to one task, before the release door. weight > 0 (rows, or a private count of them).

    usage: what computing it took; None where that was not measured.
    """

    vector: Vector
    weight: float
    guard: Guard
    usage: Usage | None = None


def vector_from_bytes(raw: bytes) -> Vector:
    """Read little-endian float64; the result is a read-only view of `raw`."""
    return np.frombuffer(raw, dtype="<f8")


def vector_to_bytes(vector: NDArray[Any]) -> bytes:
    """Write a one-dimensional vector as little-endian float64."""
    return np.ascontiguousarray(vector, dtype="<f8").tobytes()
