"""What was made faster in reading a table gives what the plain forms of it give."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.node.datasets import _order
from heliosdb.node.disclosure import _count_distinct, _differs


@pytest.mark.parametrize("last", ([5, 3, 1, 4], [2, 2, 1, 1], [0, 0, 0, 0], []))
def test_rows_are_ordered_as_by_lexsort(last: list[int]) -> None:
    first = np.arange(len(last), dtype=np.int64)[::-1].copy()
    keys = [first, np.array(last, dtype=np.int64)]

    assert np.array_equal(_order(keys), np.lexsort(keys))


@pytest.mark.parametrize("codes", ([], [7], [7, 7, 7], [3, 1, 3, 2]))
def test_different_numbers_are_counted(codes: list[int]) -> None:
    assert _count_distinct(np.array(codes, dtype=np.int64)) == len(set(codes))


@pytest.mark.parametrize(
    "cells",
    (
        [],
        [1.0],
        [np.nan, np.nan],
        [1.0, np.nan],
        [2.0, 1.0, 1.0, np.nan, np.nan],
        [2.0, 2.0, 1.0, 1.0, 3.0],
        [np.nan, np.nan, 1.0],
        [np.inf, -np.inf, np.inf, np.nan],
        [0.0, -0.0, 1.0],
    ),
)
def test_rows_that_differ_from_the_most_frequent_value_are_those_of_numpy(cells: list[float]) -> None:
    column = np.array(cells)
    values, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    expected = place != int(np.argmax(counts)) if values.size else np.zeros(0, dtype=np.bool_)

    found = _differs(column)

    # As many others, and of the same rows wherever the most frequent value is one alone.
    assert found.sum() == expected.sum()
    if (counts == counts.max(initial=0)).sum() <= 1:
        assert np.array_equal(found, expected)
