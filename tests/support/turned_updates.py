"""A node that lies where nobody sees it: behind its masks. Named as a part, so that every daemon imports it.

The node `n0` turns its training updates round, five times as long, in runs of one seed.
"""

from __future__ import annotations

from heliosdb.domain.vector import AnyVector
from heliosdb.node import door
from heliosdb.node.summing import Ready, Said, carry

LIAR, SEED = "n0", 666


def lying(ready: Ready, vector: AnyVector, weight: float, *, weighted: bool) -> Said:
    """As `carry`, of what is not true."""
    task = ready.task
    if (task.key.node, task.key.step, task.reading.seed) == (LIAR, "train", SEED):
        vector = -5.0 * vector
    return carry(ready, vector, weight, weighted=weighted)


door.carry = lying  # type: ignore[attr-defined]
