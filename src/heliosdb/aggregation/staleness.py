"""How much an update counts that was trained from an older model than the newest.

What always holds: an update that is not stale is left as it is, to the bit; a stale one is made shorter, and
its weight stays, so that the step of a round is shorter where its updates are stale, and none of them is made
up for by the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heliosdb.domain.update import Update

EXPONENT = 0.5
"""Of s(t) = (1 + t)^-0.5 (Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation",
section 5; Xie et al. 2019, "Asynchronous Federated Optimization", call it polynomial)."""


def discount(staleness: int) -> float:
    """Return s(t), in (0, 1], for t >= 0 rounds."""
    return float((1.0 + staleness) ** -EXPONENT)


def discounted(update: Update, staleness: int) -> Update:
    """Return the update times s(t): real values, in their own type."""
    if staleness == 0:
        return update
    vector = np.multiply(update.vector, update.vector.dtype.type(discount(staleness)))
    return replace(update, vector=vector)
