"""A matrix whose rows lie with the workers of an engine, in parts that follow each other.

What always holds: what is computed from it is to the bit what is computed from the same rows in one process:
blocks of rows are cut at the same places, and what they give comes back in their order. Whatever asks for
values gets them fetched; what is a sum over blocks goes to where the rows are (blockwise.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from heliosdb.algorithms.space import Space
    from heliosdb.algorithms.table import Table

Made = TypeVar("Made")

Rows = Literal["training", "validation", "all"]
"""Which rows of a table: those that are not held out, those that are, or both."""


class Parted(ABC):
    """n rows of d numbers, in the place of an array of this shape as the features of a table.

    Indexed as one it is fetched: `[rows]`, a slice or places, and `[:, column]`. With several columns, as an
    array of places or flags, it stays where it is.
    """

    ndim = 2
    dtype = np.dtype(np.float64)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    @abstractmethod
    def are_in_memory(self) -> tuple[bool, ...]:
        """Of each part whether it lies in memory, and what is made of it there too."""

    @property
    def nbytes(self) -> int:
        """What it takes where it lies."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def T(self) -> Iterator[NDArray[Any]]:  # noqa: N802 -- numpy's name
        """The columns, each fetched when it is asked for."""
        return (self.column(place) for place in range(self.shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        del copy
        return np.asarray(self.rows(slice(0, len(self))), dtype=dtype)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, tuple):
            return self.rows(key) if isinstance(key, slice) else self.take(np.asarray(key))
        rows, columns = key
        if rows != slice(None):
            raise TypeError("of some rows all columns are read")
        if isinstance(columns, int | np.integer):
            return self.column(int(columns))
        if isinstance(columns, slice):
            places = range(*columns.indices(self.shape[1]))
            return np.stack([self.column(place) for place in places], axis=1)
        return self.derive([int(place) for place in np.arange(self.shape[1])[columns]])

    @abstractmethod
    def column(self, place: int) -> NDArray[Any]:
        """Fetch a column; (n,)."""

    @abstractmethod
    def rows(self, some: slice) -> NDArray[Any]:
        """Fetch rows that follow each other; (m, d)."""

    @abstractmethod
    def take(self, places: NDArray[Any]) -> NDArray[Any]:
        """Fetch the rows at some places, in their order; (m, d)."""

    @abstractmethod
    def keep(self, mask: NDArray[np.bool_]) -> Parted:
        """Return the rows of a mask, in their order, where they lie."""

    @abstractmethod
    def derive(self, columns: Sequence[int | NDArray[Any]]) -> Parted:
        """Return a matrix of these columns: own ones by place, others given, (n, k) each."""

    @abstractmethod
    def map_rows(self, width: int, of: Callable[[NDArray[Any], Space], NDArray[Any]]) -> Parted:
        """Return what `of` makes of some rows and where they lie, (m, width), each row by itself; it lies
        there."""

    @abstractmethod
    def map_blocks(self, table: Table, rows: Rows, size: int, of: Callable[[Table], Made]) -> Iterator[Made]:
        """Yield what each block of so many rows of a table gives, whose features this is, in their order."""

    @abstractmethod
    def map_subjects(self, table: Table, size: int, of: Callable[[Table], Made]) -> Iterator[Made]:
        """Yield what each block of whole subjects gives; where blocks end depends on the parts."""
