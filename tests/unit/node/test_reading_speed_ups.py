"""What was made faster in reading a table gives what the plain forms of it give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.node.arranging import _names, _order
from heliosdb.node.disclosure import (
    SMALLEST_CELL,
    _cells,
    _count_distinct,
    _differ_at_a_glance,
    _differs,
    _renumbered,
)


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


_ODD = (
    0.0,
    -0.0,
    1.0,
    1.0 + 2.0**-52,
    5e-324,
    1e-300,
    1e16,
    1e16 + 2.0,
    1e300,
    1.7e308,
    -1.7e308,
    np.nan,
    np.inf,
)


@given(
    st.lists(st.sampled_from(_ODD) | st.floats() | st.floats(1.0, 1.0 + 2.0**-28), min_size=1, max_size=24),
    st.integers(0, 24),
)
def test_a_glance_passes_no_column_in_which_few_differ(cells: list[float], seen: int) -> None:
    column = np.array(cells)

    if _differ_at_a_glance(column, column[:seen]):
        assert np.count_nonzero(_differs(_cells(column))) >= SMALLEST_CELL


@pytest.mark.parametrize("column", ([float(n) for n in range(12)], [0.0, 1.0] * 6, [1.0] * 6 + [np.nan] * 6))
def test_a_glance_passes_a_column_of_many_values(column: list[float]) -> None:
    assert _differ_at_a_glance(np.array(column), np.array(column))


@given(st.lists(st.integers(0, 9)))
def test_groups_are_numbered_as_numpy_does(groups: list[int]) -> None:
    numbers = np.array(groups, dtype=np.int64)

    assert np.array_equal(_renumbered(numbers), np.unique(numbers, return_inverse=True)[1])


@pytest.mark.parametrize("shape", ((0,), (3,), (0, 2), (3, 2)))
def test_names_are_the_bytes_of_codes(shape: tuple[int, ...]) -> None:
    codes = np.arange(np.prod(shape, dtype=int), dtype=np.int64).reshape(shape) * 256

    assert _names(codes) == [code.tobytes() for code in codes]
