"""Concordance of survival times with scores: Harrell's C, by counts of pairs of a node's own rows.

What always holds: a pair counts where it is known who left first: one had the event, and the other left
later or was censored at the same time (Harrell, Lee and Mark 1996, section 5.5). Equal scores count half. The
counts take n log² n operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.domain.vector import Vector

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """comparable: pairs of which it is known who left first. ordered: those in which that one has the larger
    score, of equal scores a half."""

    ordered: float
    comparable: float


def count_pairs(times: Vector, events: Vector, scores: Vector) -> Pairs:
    """Count the pairs of n rows; (n,) each, events 0 or 1, scores larger for whom leaves sooner."""
    _, moments = np.unique(times, return_inverse=True)
    # Who is censored at a time leaves after those who have the event then.
    _, leaving = np.unique(2 * moments + (events == 0.0), return_inverse=True)
    _, ranks = np.unique(scores, return_inverse=True)
    order = np.argsort(ranks, kind="stable")
    leaving, ranks, had = leaving[order], ranks[order], events[order] > 0.0
    below, equal, later = 0, 0, 0
    for level in range(int(leaving.max(initial=0)).bit_length()):
        # Two rows that leave at different times are told apart by one bit, the highest that differs.
        block, is_later = leaving >> (level + 1), (leaving >> level) & 1
        place = np.argsort(block, kind="stable")
        found = _within_blocks(block[place], ranks[place], is_later[place], had[place])
        below, equal, later = (one + more for one, more in zip((below, equal, later), found, strict=True))
    return Pairs(below + 0.5 * equal, float(later))


def _within_blocks(
    blocks: Places, ranks: Places, is_later: Places, had: NDArray[np.bool_]
) -> tuple[int, int, int]:
    """Return of pairs of a row that had the event and a later one of its block: those in which the later one
    has the smaller rank, the same, and all. Rows are sorted by block and then by rank."""
    before = np.concatenate([[0], np.cumsum(is_later)])
    starts, first = _runs(blocks), _runs(blocks, ranks)
    asked = np.flatnonzero(had & (is_later == 0))
    block, same = (np.searchsorted(runs, asked, side="right") for runs in (starts, first))
    ends, last = np.append(starts[1:], blocks.size), np.append(first[1:], blocks.size)
    low, here = before[starts[block - 1]], before[first[same - 1]]
    high, past = before[ends[block - 1]], before[last[same - 1]]
    return int((here - low).sum()), int((past - here).sum()), int((high - low).sum())


def _runs(*keys: Places) -> Places:
    """Return where each run of rows that are equal in all keys begins."""
    changes = np.any([np.diff(key) != 0 for key in keys], axis=0)
    return np.concatenate([[0], np.flatnonzero(changes) + 1]).astype(np.int64)
