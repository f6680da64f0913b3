"""How a vector travels: which codec makes it smaller, how many of its values are sent, and in how many bits.

What always holds: how many bytes a lossy coding takes follows from the vector's length and type alone, never
from its values; only updates of a model's parameters travel by one. Sums, counts and statistics lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from heliosdb.domain.settings import Setting
from heliosdb.domain.vector import Dtype

BLOCK = 256
"""How many values share the largest magnitude by which they are scaled."""

NARROW = Dtype.FLOAT32
"""The type in which values are written of which few bits are sent, and the magnitudes that scale them."""

POSITION_BYTES = 4
"""Of a value's position, where positions are listed."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How the vector of one task travels.

    codec: its name; settings: of it. bits: of each value that is sent: 8 or 16, scaled and rounded by chance;
    32, as float32; None, as it is. sent: how many values are, those of the largest magnitude; None: all. With
    `sent` the node keeps the rest for its next update.
    """

    codec: str = "none"
    settings: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    bits: int | None = None
    sent: int | None = None

    @property
    def is_lossy(self) -> bool:
        """Whether what arrives is not what was computed."""
        return self.bits is not None or self.sent is not None

    @property
    def is_scaled(self) -> bool:
        """Whether values are scaled and rounded by chance."""
        return self.bits in {8, 16}

    @property
    def levels(self) -> int:
        """How many steps there are from 0 to the largest magnitude of a block, where values are scaled."""
        assert self.bits is not None
        return (1 << (self.bits - 1)) - 1

    def travelling(self, length: int, dtype: Dtype) -> tuple[int, Dtype]:
        """Length and type of what the codec is given for a vector of `length` values: itself, or the bytes
        that a lossy coding makes of it."""
        if not self.is_lossy:
            return length, dtype
        return self.position_bytes(length) + self.value_bytes(length, dtype), Dtype.UINT8

    def count(self, length: int) -> int:
        """How many of `length` values are sent."""
        return length if self.sent is None else min(self.sent, length)

    def position_bytes(self, length: int) -> int:
        """Bytes that say which values are sent: a bit for each value there is, or a number for each that is
        sent, whichever are fewer."""
        if self.sent is None:
            return 0
        return min(-(-length // 8), POSITION_BYTES * self.count(length))

    def value_bytes(self, length: int, dtype: Dtype) -> int:
        """Bytes of the values that are sent, and of the magnitudes by which they are scaled."""
        values = self.count(length)
        if not self.is_scaled:
            return values * self.written(dtype).itemsize
        assert self.bits is not None
        return -(-values // BLOCK) * NARROW.itemsize + values * (self.bits // 8)

    def written(self, dtype: Dtype) -> Dtype:
        """The type in which values of `dtype` are written, or the magnitudes by which they are scaled."""
        return dtype if self.bits is None else NARROW

    def reach(self, length: int) -> float:
        """How many times as long as the longest update of `length` values what is sent may be.

        Rounding adds a vector no longer than b times what is rounded, where b = √BLOCK / levels, and 2⁻²³ of
        float32. What stays of x is then no longer than a x, with a² = 1 - (1 - b²) sent / length, since the
        values that are sent are the largest; so an update and what stayed before it are together no longer
        than 1 / (1 - a) updates.
        """
        rounding = 0.0 if self.bits is None else 2.0**-23
        if self.is_scaled:
            rounding += math.sqrt(BLOCK) / self.levels
        if self.sent is None or not length:
            return 1.0 + rounding
        share = self.count(length) / length * (1.0 - rounding**2)
        return (1.0 + rounding) / (1.0 - math.sqrt(1.0 - share))


UNCHANGED = Coding()
"""As it is."""
