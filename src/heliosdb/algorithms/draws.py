"""Where the randomness of a node's computation comes from.

What always holds: what shuffles is the same for the same task, for ever; what makes privacy is drawn anew
and never repeated: what was released is sent again, not computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from heliosdb.algorithms.sgd import derive_rng
from heliosdb.domain.task import Task
from heliosdb.privacy.mechanisms import Secret


@dataclass(frozen=True, slots=True)
class TaskDraws:
    """The draws of one task. key: the node's secret."""

    task: Task
    key: bytes = field(repr=False)

    def rng(self) -> np.random.Generator:
        """Return the generator of seed, round, exchange and node."""
        key = self.task.key
        return derive_rng(self.task.reading.seed, key.round, key.node, self.key, exchange=key.exchange)

    def secret(self) -> Secret:
        """Return fresh randomness from the operating system."""
        return Secret()
