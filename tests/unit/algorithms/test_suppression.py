"""Cells that are withheld: what somebody who knows all totals can find out about them, by going through all
tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms.suppression import withheld

LEAST = 3


def fits(counts: np.ndarray, hidden: np.ndarray) -> Iterator[np.ndarray]:
    """Every table of whole numbers with the same totals and the same told cells."""
    places = np.argwhere(hidden).tolist()

    def fill(table: np.ndarray, left: int) -> Iterator[np.ndarray]:
        across, down = counts.sum(axis=1) - table.sum(axis=1), counts.sum(axis=0) - table.sum(axis=0)
        if left == len(places):
            if not across.any() and not down.any():
                yield table
            return
        row, column = places[left]
        for value in range(int(min(across[row], down[column])) + 1):
            further = table.copy()
            further[row, column] = value
            yield from fill(further, left + 1)

    return fill(np.where(hidden, 0.0, counts), 0)


tables = st.integers(2, 3).flatmap(
    lambda rows: st.integers(2, 3).flatmap(
        lambda columns: st.lists(
            st.lists(st.integers(0, 4), min_size=columns, max_size=columns), min_size=rows, max_size=rows
        )
    )
)


@settings(max_examples=40, deadline=None)
@given(tables)
def test_no_withheld_cell_follows_from_totals_and_told_cells(table: list[list[int]]) -> None:
    counts = np.array(table, dtype=np.float64)
    hidden = withheld(counts, counts, LEAST)
    assert not ((counts > 0) & (counts < LEAST) & ~hidden).any()
    if hidden.any() and not hidden.all():
        possible = np.stack(list(fits(counts, hidden)))
        width = possible.max(axis=0) - possible.min(axis=0)
        assert (width[hidden] >= LEAST - 1).all()


def test_a_table_without_small_cells_is_told_whole() -> None:
    counts = np.array([[30.0, 0.0], [7.0, 12.0]])
    assert not withheld(counts, counts, 5).any()


def test_one_small_cell_takes_others_with_it_and_leaves_the_rest() -> None:
    counts = np.array([[40.0, 2.0, 30.0], [20.0, 50.0, 9.0], [11.0, 10.0, 60.0], [8.0, 7.0, 90.0]])
    hidden = withheld(counts, counts, 5)
    assert hidden[0, 1]
    assert hidden.sum() == 4
    assert hidden.any(axis=1).sum() == hidden.any(axis=0).sum() == 2


def test_many_rows_of_few_subjects_are_a_small_cell() -> None:
    counts = np.array([[40.0, 30.0], [50.0, 60.0]])
    assert withheld(counts, np.array([[40.0, 1.0], [50.0, 60.0]]), 5).all()


@pytest.mark.parametrize("least", [1, 0])
def test_the_rule_can_be_off(least: int) -> None:
    counts = np.array([[1.0, 2.0], [0.0, 1.0]])
    assert not withheld(counts, counts, least).any()
