"""A table of texts that is summed over nodes reads as the union of what they put in, or not at all."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms.sketch import CELL, MOST_BYTES, read_sketch, sketch

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(
    lambda text: len(text.encode()) <= MOST_BYTES
)
ROWS = st.integers(1, 10**9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(TEXTS, ROWS, max_size=6), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_the_sum_reads_as_every_text_with_all_its_rows(nodes: list[dict[str, int]], salt: int) -> None:
    total = reduce(np.add, [sketch(rows, 384, salt) for rows in nodes])
    expected: dict[str, int] = {}
    for rows in nodes:
        for text, count in rows.items():
            expected[text] = expected.get(text, 0) + count

    assert total.shape == (384 * CELL,)
    assert read_sketch(total, 384, salt) == expected


@pytest.mark.parametrize("texts", [40, 60])
def test_with_two_thirds_as_many_texts_as_cells_it_can_nearly_always_be_read(texts: int) -> None:
    named = {f"level {number}": number + 1 for number in range(texts)}

    read = [read_sketch(sketch(named, 96, salt), 96, salt) for salt in range(200)]

    assert sum(one == named for one in read) >= 160
    assert all(one is None or one == named for one in read)


def test_of_more_texts_than_cells_nothing_is_read() -> None:
    named = {f"level {number}": 1 for number in range(200)}

    assert read_sketch(sketch(named, 96, 0), 96, 0) is None


def test_ten_thousand_nodes_that_name_the_same_are_read_exactly() -> None:
    named = {"ß" * 60: 10**11, "b": 3}

    assert read_sketch(10_000 * sketch(named, 96, 5), 96, 5) == {"ß" * 60: 10**15, "b": 30_000}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_table_that_somebody_changed_reads_as_nothing_or_as_texts(data: st.DataObject) -> None:
    table = sketch(data.draw(st.dictionaries(TEXTS, ROWS, max_size=5)), 12, 1)
    numbers = st.sampled_from([-1.0, 0.5, 1.0, 2.0**31, 2.0**53, 1e300, float("nan"), float("inf")])
    for place in data.draw(st.lists(st.integers(0, table.size - 1), min_size=1, max_size=4)):
        table[place] = data.draw(numbers)

    read = read_sketch(table, 12, 1)

    assert read is None or all(len(text.encode()) <= MOST_BYTES for text in read)
