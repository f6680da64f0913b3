"""Texts as long vectors of signs, so that from a noisy sum of many the frequent ones can be read: a spinal
code (Perry et al. 2012, "Spinal codes", section 3), hashed into cells.

What always holds: a text's codeword depends on the text alone, has the same size wherever it lies, and all
its other values are 0: so a share of it moves a sum by as much in L2 norm as the share says, and several
texts' shares by no more than their total. Whatever a text is, it has one.

A text lies in one cell of the part for its length. A state begins at a constant and is hashed on with every
byte, zeros filling up what is not there; each state gives the signs of its place. So a sign depends on all
bytes before it, and who reads can go from left to right and keep the best beginnings (decoding.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliosdb.privacy.mechanisms import Integers

SIGNS = 16
"""Of each place of a text."""

TAIL = 2
"""Places behind the longest text of a part, without which its last byte would stand in one place alone."""

MOST_BYTES = 120
"""Of a text in UTF-8, as of every label of a level."""

States = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

SEED, _STEP = np.uint64(0x6C6576656C730001), np.uint64(0x9E3779B97F4A7C15)
_AT_ONCE = 1 << 12


@dataclass(frozen=True, slots=True)
class Part:
    """Of all texts of up to so many bytes, and of more than the part before it has. start: of its values.

    places: the bytes of the longest text and TAIL more."""

    places: int
    cells: int
    start: int

    @property
    def values(self) -> int:
        """How many values a cell has, and so a codeword that is not 0."""
        return self.places * SIGNS

    @property
    def stop(self) -> int:
        """Where its values end."""
        return self.start + self.cells * self.values

    @property
    def fewest(self) -> int:
        """Bytes of its shortest text."""
        return 0 if self.places == _SHORTEST else self.places // 2 - TAIL + 1

    @property
    def most(self) -> int:
        """Bytes of its longest text."""
        return self.places - TAIL


_SHORTEST = 4


def _parts() -> Iterator[Part]:
    start = 0
    for places, cells in ((_SHORTEST, 128), (8, 128), (16, 64), (32, 32), (64, 16), (128, 8)):
        part = Part(places, cells, start)
        start = part.stop
        yield part


PARTS = tuple(_parts())
"""More cells for short texts, which are the commonest; the longer ones' are as many values."""

SIZE = PARTS[-1].stop
"""Values of a table of texts."""

CELLS = sum(part.cells for part in PARTS)


def part_of(text: bytes) -> Part:
    """Return where a text of at most MOST_BYTES lies."""
    return next(part for part in PARTS if len(text) <= part.most)


def mixed(states: States) -> States:
    """Hash 64 bits (the finaliser of SplitMix64, Steele, Lea and Flood 2014)."""
    states = (states ^ (states >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    states = (states ^ (states >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return states ^ (states >> np.uint64(31))


def advanced(states: States, given: NDArray[np.integer]) -> States:
    """Return the states after one more byte each; shapes are broadcast."""
    return mixed(states + _STEP * (given.astype(np.uint64) + np.uint64(1)))


def codewords(texts: Sequence[bytes], part: Part) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Return the cells of texts of one part, (n,), and their signs, (n, values)."""
    padded = b"".join(text.ljust(part.places, b"\0") for text in texts)
    given = np.frombuffer(padded, dtype=np.uint8).reshape(len(texts), part.places)
    states = np.full(len(texts), SEED)
    signs = np.empty((len(texts), part.places, SIGNS), dtype=np.int8)
    bits = np.arange(SIGNS, dtype=np.uint64)
    for place in range(part.places):
        states = advanced(states, given[:, place])
        signs[:, place] = ((states[:, np.newaxis] >> bits) & np.uint64(1)).astype(np.int8) * 2 - 1
    cells = (mixed(states) % np.uint64(part.cells)).astype(np.int64)
    return cells, signs.reshape(len(texts), part.values)


def sum_codewords(texts: Sequence[bytes], times: Integers) -> Integers:
    """Return the sum of texts' signs, each so many times; (SIZE,), exact."""
    total = np.zeros(SIZE, dtype=np.int64)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    for part in PARTS:
        chosen = np.flatnonzero((lengths >= part.fewest) & (lengths <= part.most) & (times != 0))
        table = total[part.start : part.stop].reshape(part.cells, part.values)
        for start in range(0, chosen.size, _AT_ONCE):
            some = chosen[start : start + _AT_ONCE]
            cells, signs = codewords([texts[one] for one in some], part)
            np.add.at(table, cells, signs * times[some, np.newaxis])
    return total
