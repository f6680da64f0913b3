"""What speaks against a node in one round: how its update lies to the others', in figures that a few hostile
nodes cannot move.

What always holds: what an update is compared with is the median of all in every coordinate (Yin et al. 2018),
so that fewer than half of the nodes do not decide where it points or how long it is; no figure decides about
a node, nor changes what a round's rule makes of its update. Figures are of one round: who deviates for good
shows in many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heliosdb.domain.ids import NodeName
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Matrix, Vector

LEAST_NODES = 3
"""Of fewer none is in a minority."""

_IN_COMMON = 0.5
"""From which length on, in parts of the median norm, the median of all updates has a direction."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """direction: the cosine between the update and the median of all; None where these point nowhere in
    common, as of a model that is nearly trained, when each honest node pulls to its own side. length: its
    norm as a multiple of the median of all norms, less what its weight explains: of so many times the rows
    there are so many times the steps. likeness: the largest cosine with another node's update: of honest
    nodes, whose rows differ, never 1 (Fung, Yoon and Beschastnikh 2020, "The limitations of federated
    learning in sybil settings"). None each where nothing can be said: of updates without direction."""

    direction: float | None = None
    length: float | None = None
    likeness: float | None = None


def find_evidence(updates: Sequence[Update]) -> Mapping[NodeName, Evidence]:
    """Compare the updates of one round, or their sketches; nothing of fewer than LEAST_NODES."""
    if len(updates) < LEAST_NODES:
        return {}
    vectors = np.array([update.vector for update in updates])
    # Finite values may have squares that are not: figures are then unknown, the round none the worse.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        median = np.median(vectors, axis=0)
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        usual, common = float(np.median(norms)), math.sqrt(float(median @ median))
        directions = vectors @ median / (norms * (common if common > _IN_COMMON * usual else math.nan))
        lengths = norms / usual / _more_steps(updates)
        likenesses = _largest_cosines(vectors, norms)
    return {
        update.node: Evidence(_cosine(direction), _multiple(length), _cosine(likeness))
        for update, direction, length, likeness in zip(updates, directions, lengths, likenesses, strict=True)
    }


def _more_steps(updates: Sequence[Update]) -> Vector:
    """How many times the usual number of steps each node may have taken, 1 at least; shape (n,)."""
    weights = np.array([update.weight for update in updates])
    times: Vector = np.maximum(1.0, weights / np.median(weights))
    return times


def _largest_cosines(vectors: Matrix, norms: Vector) -> Vector:
    """Of each row the largest cosine with another one; shape (n,)."""
    directions = vectors / norms[:, np.newaxis]
    cosines = np.nan_to_num(directions @ directions.T, nan=-math.inf)
    np.fill_diagonal(cosines, -math.inf)
    largest: Vector = cosines.max(axis=1)
    return largest


def _cosine(value: float) -> float | None:
    return max(-1.0, min(1.0, float(value))) if math.isfinite(value) else None


def _multiple(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
