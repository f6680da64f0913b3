"""Sums over rows, part by part.

What always holds: a table's parts are the same wherever it lies and whoever computes them (`table.BLOCK`),
and what they give is added in their order. So a part may be computed elsewhere, and a table that does not fit
into memory leads to the same bits as one that does. Whole numbers may be added in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import TypeVar

from heliosdb.algorithms.table import PartedBlocks, Table

T = TypeVar("T")


def sum_parts(parts: Iterable[Table], of: Callable[[Table], T], plus: Callable[[T, T], T]) -> T:
    """Add what each part gives, in their order; there is at least one part.

    of: holds no table and nothing secret, for where rows lie with workers it travels to them.
    """
    given = parts.map(of) if isinstance(parts, PartedBlocks) else map(of, parts)
    return reduce(plus, given)
