"""What a node computes and what leaves it: a vector to be summed, a weight, and how it is guarded.

What always holds: a vector is one-dimensional and of a type in `Dtype`; a `Contribution` has not left the
node; only the release door (node/door.py) turns one into bytes that may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.usage import Usage

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
AnyVector = NDArray[Any]
"""A vector of any `Dtype`; computations are on `Vector`."""


class Dtype(StrEnum):
    """The types of a vector's values, by numpy's name; they travel little-endian."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"

    @property
    def itemsize(self) -> int:
        """Bytes of one value."""
        return np.dtype(self.value).itemsize

    @property
    def is_real(self) -> bool:
        """Whether values are numbers on which sums and norms are taken; else they are elements of a ring."""
        return self in (Dtype.FLOAT32, Dtype.FLOAT64)


@dataclass(frozen=True, slots=True)
class Plain:
    """No privacy is asked for: the workspace has no budget."""


@dataclass(frozen=True, slots=True)
class ClippedSum:
    """A sum over subjects, each clipped to the norm `sensitivity` (L2, L1 under Laplace noise); the door adds
    the noise of `mechanism`."""

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

    usage: what computing it took; None where that was not measured. stays: what the node keeps of it for the
    later tasks of the run (arrays by name, see domain/state.py); personal: what it keeps for good, to predict
    with (domain/personal.py). Both never leave, and a private answer keeps nothing.
    """

    vector: AnyVector
    weight: float
    guard: Guard
    usage: Usage | None = None
    stays: Mapping[str, NDArray[Any]] | None = None
    personal: Mapping[str, NDArray[Any]] | None = None


def vector_from_bytes(raw: bytes, dtype: Dtype = Dtype.FLOAT64) -> AnyVector:
    """Read little-endian values; the result is a read-only view of `raw`."""
    return np.frombuffer(raw, dtype=np.dtype(dtype.value).newbyteorder("<"))


def vector_to_bytes(vector: AnyVector, dtype: Dtype = Dtype.FLOAT64) -> bytes:
    """Write a one-dimensional vector as little-endian values of `dtype`."""
    return np.ascontiguousarray(vector, dtype=np.dtype(dtype.value).newbyteorder("<")).tobytes()
