"""Who plays for a score: the features of a version, each with the inputs that are made of it.

What always holds: every input is one feature's; a feature that becomes no input plays too, and gets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Players:
    """owners: of each input its feature's place, (inputs,). count: how many features there are."""

    owners: NDArray[np.int64]
    count: int
