"""What a node remembers of a run of trees: how often it has counted in cells, in which bins it adds up, and
which part of its rows.

What always holds: what is remembered is of tasks and never of rows. A coordinator that could move cells or
bins a little from task to task would read single values off the differences, and so would one that moved the
part of the rows that a tree is drawn from, since who is drawn follows from what a row holds: so cells are
counted `LOOKS` times at most, and once sums in bins were answered all three stay as they are.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliosdb.algorithms.trees.bins import LOOKS, Ragged
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import State

Kept = dict[str, NDArray[Any]]

_LOOKS, _BINS = "looks", "bins"


def counted(memory: State) -> Kept:
    """Return what stays once cells were counted; FederatedError NODE_REFUSED where they may not be."""
    looks = int(memory[_LOOKS][0]) if _LOOKS in memory else 0
    if looks >= LOOKS or _BINS in memory:
        raise FederatedError(
            ErrorCode.NODE_REFUSED, f"a run's values are counted in cells {LOOKS} times at most"
        )
    return {_LOOKS: np.array([looks + 1], dtype=np.int64)}


def added_up(memory: State, edges: Ragged, subsample: float) -> Kept | None:
    """Return what stays once sums in bins were answered, None for what is remembered already; FederatedError
    NODE_REFUSED for other bins than before, and for another part of the rows."""
    share = np.float64(subsample).tobytes()
    digest = hashlib.sha256(share + edges.counts.tobytes() + edges.values.tobytes()).digest()
    own = np.frombuffer(digest, dtype=np.uint8)
    if _BINS not in memory:
        return {**memory, _BINS: own}
    if not np.array_equal(memory[_BINS], own):
        raise FederatedError(
            ErrorCode.NODE_REFUSED, "the run's bins or its subsample are not those that it had before"
        )
    return None
