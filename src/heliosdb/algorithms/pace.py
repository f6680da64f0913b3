"""A learning rate of each node's own: the bold driver (Vogl et al. 1988; Battiti 1989), once a round.

What always holds: a node's pace is the part of the run's learning rate with which it takes its steps, from a
tenth to all of it; it follows from how the node's own objective moved over its own steps, stays at the node
and is no part of an answer.
"""

from __future__ import annotations

import math

import numpy as np

from heliosdb.domain.state import State
from heliosdb.domain.vector import Vector

_PACE = "pace"
_LEAST = 0.1
_AFTER_A_RISE, _AFTER_A_FALL = 0.5, 1.05


def read_pace(memory: State) -> float:
    """Return the pace that a node has kept; 1 in its first round."""
    return float(memory[_PACE][0]) if _PACE in memory else 1.0


def keep_pace(pace: float) -> dict[str, Vector]:
    """Return what a node keeps of it for the run's next round."""
    return {_PACE: np.array([pace])}


def next_pace(pace: float, before: float, after: float) -> float:
    """Return the pace of the next round, from the objective at the global parameters and behind the node's
    own steps.

    Where steps were too long it rose, and the next are of half the length; else they grow by a twentieth. The
    steps themselves are not taken back, as the bold driver of a single machine does: what others answer is
    combined with them. An objective that is no number has risen.
    """
    fell = math.isfinite(after) and after <= before
    return min(1.0, _AFTER_A_FALL * pace) if fell else max(_LEAST, _AFTER_A_RISE * pace)
