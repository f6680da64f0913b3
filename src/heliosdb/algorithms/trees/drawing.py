"""Which rows a tree is grown from: drawn by a keyed hash of what a row holds, so that it is drawn alike
wherever it lies.

What always holds: a row's draws follow from its inputs, its target, the seed, the tree and how many equal
rows precede it at its node, and from nothing else. So rows that are equal and lie at different nodes are
drawn alike, and not independently: the one way in which it matters how rows are spread.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.trees.leaves import MOST_DRAWS
from heliosdb.domain.vector import Matrix, Vector

Hashes = NDArray[np.uint64]

_MEAN_WEIGHT = 3.0
"""Before weights are rounded up: as finely as they are told apart."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mix(numbers: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        mixed = (numbers ^ (numbers >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        result: Hashes = mixed ^ (mixed >> np.uint64(31))
    return result


def row_hashes(features: Matrix, target: Vector) -> Hashes:
    """Return a hash of each row; of equal rows by their order, so that each has its own; (n,)."""
    hashes = _mix(_bits(target))
    with np.errstate(over="ignore"):
        for column in features.T:
            hashes = _mix(hashes + _STEP + _bits(column))
        return _mix(hashes + _STEP * _occurrences(hashes))


def _bits(values: Vector) -> Hashes:
    """The values' bits: all zeros are one, and all that is missing."""
    plain = np.where(np.isnan(values), np.nan, values + 0.0)
    bits: Hashes = np.ascontiguousarray(plain).view(np.uint64)
    return bits


def _occurrences(hashes: Hashes) -> Hashes:
    """Return how many equal ones precede each."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    begins = np.concatenate([[True], ranked[1:] != ranked[:-1]]) if ranked.size else np.empty(0, np.bool_)
    place = np.arange(ranked.size)
    found = np.empty(ranked.size, dtype=np.uint64)
    found[order] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return found


def draws_of(hashes: Hashes, seed: int, tree: int, share: float, *, weighted: bool = False) -> Vector:
    """Return how much each row counts for a tree: 1 for a share of them, else 0; or, weighted, 1 to
    `MOST_DRAWS` for that share, as exponential weights in thirds, rounded up (Rubin 1981).

    With weights a tree of a forest sees other rows than its neighbours without leaving any out: a node's sums
    are of crowds, and the third that drawing with repetition leaves out is missed where rows are few.
    """
    if share == 1.0 and not weighted:
        return np.ones(hashes.size)
    key = _mix(_mix(np.array([seed], dtype=np.uint64)) ^ np.array([tree + 1], dtype=np.uint64))
    uniform = (_mix(hashes ^ key) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    drawn = uniform < share
    if not weighted:
        return drawn.astype(np.float64)
    limits = share * -np.expm1(-np.arange(1, MOST_DRAWS) / _MEAN_WEIGHT)
    weights: Vector = np.where(drawn, 1.0 + np.searchsorted(limits, uniform, side="right"), 0.0)
    return weights
