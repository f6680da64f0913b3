"""What of an update is sent, as the options of a run say it.

What always holds: how much is sent follows from the options and the update's length alone. No numpy here: the
extension reads settings too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from heliosdb.domain.bounds import Bounds
from heliosdb.domain.settings import within


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """What of an update is sent, as the options say it.

    quantization: bits of a value; 32: as float32; None: of the type that the algorithm computes.
    gradient_sparsification: the fraction that is not sent. top_k: how many values are; where there are no
    more than so many, all of them.
    """

    quantization: Literal[8, 16, 32] | None = None
    gradient_sparsification: float = within(Bounds(0.0, 0.99), default=0.0)
    top_k: int | None = within(Bounds(1, 10**9), default=None)

    @property
    def bits(self) -> int | None:
        """Of a value that is scaled and rounded by chance; None where none is."""
        return None if self.quantization in (None, 32) else self.quantization

    @property
    def sparsifies(self) -> bool:
        """Whether only some values are sent."""
        return self.top_k is not None or self.gradient_sparsification > 0

    def sent(self, length: int) -> int | None:
        """How many of `length` values are sent, one at least; None for all of them."""
        kept = length
        if self.top_k is not None:
            kept = self.top_k
        elif self.gradient_sparsification:
            # 0.9 of 10 is 9, though as doubles it is a little less.
            kept = length - math.floor(self.gradient_sparsification * length * (1.0 + 1e-12))
        return None if kept >= length else max(1, kept)
