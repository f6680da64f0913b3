"""Where the rows of a table lie: in memory, or in mapped files where there are too many.

What always holds: what is computed from an array does not depend on where it lies. What is made row by row is
made block by block, so that beside the arrays no more memory is needed than a block takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from heliosdb.algorithms.parted import Parted

AT_ONCE = 1 << 16
"""Rows of a block, where what is made of each depends on it alone."""

_NUMBERS = 1 << 20
"""Of a block."""

_STRETCH = 1 << 25
"""Bytes of an array that are walked through before it may rest."""

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Space(Protocol):
    """Gives arrays."""

    @property
    def is_memory(self) -> bool:
        """Whether the arrays are the process's own memory."""
        ...

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return an array whose values are not set. FederatedError where there is no room for it."""
        ...

    def rest(self, looked_at: int) -> None:
        """Hear that so many bytes of its arrays were looked at, and are not needed for a moment."""
        ...


class Memory:
    """The process's own memory."""

    is_memory = True

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return an array whose values are not set; MemoryError where there is no room."""
        return np.empty(shape, dtype=dtype)

    def rest(self, looked_at: int) -> None:
        """Do nothing."""


MEMORY = Memory()


def slices(rows: int, size: int = AT_ONCE) -> Iterator[slice]:
    """Yield where blocks of so many rows lie; nothing for no rows."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def rows_at_once(width: int) -> int:
    """Return how many rows of so many numbers are computed on at a time: however wide, in about the same
    memory, for how wide they are is a task's to say."""
    return max(1, min(AT_ONCE, _NUMBERS // max(1, width)))


def copied_at_once(array: NDArray[Any]) -> int:
    """Return how many rows are copied at a time: however long they are, in about the same memory."""
    return rows_within(size_of(array.shape[1:], array.dtype))


def rows_within(row_bytes: int) -> int:
    """Return the same of rows of so many bytes each."""
    return max(1, min(AT_ONCE, _STRETCH // max(1, row_bytes)))


def take(array: NDArray[Any], places: Places, space: Space) -> NDArray[Any]:
    """Return the rows at some places, in their order."""
    if isinstance(array, Parted):
        return array.take(places)
    if space.is_memory:
        return array[places]
    taken = space.empty((places.size, *array.shape[1:]), array.dtype)
    for block in slices(places.size, copied_at_once(array)):
        taken[block] = gather(array, places[block], space)
    return taken


def keep(array: NDArray[Any], mask: Mask, space: Space) -> NDArray[Any]:
    """Return the rows of a mask, in their order; of a matrix that lies with workers they stay there."""
    if isinstance(array, Parted):
        return cast(NDArray[Any], array.keep(mask))
    if space.is_memory:
        return array[mask]
    kept = space.empty((int(np.count_nonzero(mask)), *array.shape[1:]), array.dtype)
    filled = 0
    for block in slices(mask.size, copied_at_once(array)):
        found = array[block][mask[block]]
        kept[filled : filled + len(found)] = found
        filled += len(found)
        space.rest(array[block].nbytes + found.nbytes)
    return kept


def keep_columns(array: NDArray[Any], mask: Mask, space: Space) -> NDArray[Any]:
    """Return the columns of a mask, in their order; of a matrix that lies with workers they stay there."""
    if isinstance(array, Parted):
        return cast(NDArray[Any], array[:, mask])
    if space.is_memory:
        return array[:, mask]
    kept = space.empty((len(array), int(np.count_nonzero(mask))), array.dtype)
    for block in slices(len(array), copied_at_once(array)):
        kept[block] = array[block][:, mask]
        space.rest(array[block].nbytes + kept[block].nbytes)
    return kept


def held(column: NDArray[Any], space: Space, mask: Mask | None = None) -> NDArray[Any]:
    """Return a column, or the rows of a mask, in memory; one that is there already as it is."""
    if space.is_memory:
        return column if mask is None else column[mask]
    count = column.size if mask is None else int(np.count_nonzero(mask))
    found, start = np.empty(count, column.dtype), 0
    for block in slices(column.size):
        some = column[block] if mask is None else column[block][mask[block]]
        found[start : start + some.size] = some
        start += some.size
        space.rest(AT_ONCE * abs(column.strides[0]))
    return found


def gather(array: NDArray[Any], places: Places, space: Space) -> NDArray[Any]:
    """Return the rows at a block of places, in memory; the array is walked through in its own order."""
    if isinstance(array, Parted):
        return array.take(places)
    if space.is_memory:
        return array[places]
    order = np.argsort(places)
    ranked, found = places[order], np.empty((places.size, *array.shape[1:]), array.dtype)
    # Of a column, what lies between its values is walked through too.
    stretch = max(1, _STRETCH // max(1, abs(array.strides[0])))
    ends = np.searchsorted(ranked, np.arange(stretch, array.shape[0] + stretch, stretch))
    start = 0
    for end in ends.tolist():
        if end > start:
            found[order[start:end]] = array[ranked[start:end]]
            space.rest(_STRETCH)
        start = end
    return found


def size_of(shape: int | tuple[int, ...], dtype: DTypeLike) -> int:
    """Return the bytes of an array."""
    return math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(dtype).itemsize


def as_bytes(buffer: memoryview) -> bytes:
    """Return bytes that lie in a space, in the place of such that are copied: what reads them asks for their
    length and their buffer."""
    return cast(bytes, buffer)
