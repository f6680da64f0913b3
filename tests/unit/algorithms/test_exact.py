"""Sums of doubles without rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.algorithms.exact import exact_moments, read_moments
from heliosdb.algorithms.layout import COLUMN_DIGITS, DIGIT_BITS

DOUBLES = st.lists(st.floats(width=64), max_size=40)


@given(DOUBLES, DOUBLES)
def test_the_digits_of_two_nodes_add_up_to_the_exact_sums(one: list[float], other: list[float]) -> None:
    blocks = [exact_moments(np.array(values, dtype=float)) for values in (one, other)]
    assert all(
        block.shape == (COLUMN_DIGITS,) and np.all(np.abs(block) < 2.0**DIGIT_BITS) for block in blocks
    )
    found = read_moments(blocks[0] + blocks[1])
    finite = [Fraction(value) for value in one + other if math.isfinite(value)]
    assert found.count == len(finite)
    assert Fraction(found.values, 2**1074) == sum(finite)
    assert Fraction(found.squares, 2**2148) == sum(value**2 for value in finite)
    assert found.are_possible()
    if finite and len(set(finite)) == 1:
        assert (found.mean(), found.deviation()) == (float(finite[0]), 0.0)


@given(st.permutations(list(range(50))))
def test_order_and_blocks_leave_no_trace(order: list[int]) -> None:
    values = np.random.default_rng(1).normal(size=50) * np.exp2(np.arange(50.0) * 20.0 - 500.0)
    assert exact_moments(values[order]).tobytes() == exact_moments(values).tobytes()


def test_many_values_are_added_in_blocks() -> None:
    values = np.random.default_rng(2).normal(1e9, 1.0, size=40_000)
    found = read_moments(exact_moments(values))
    assert Fraction(found.values, 2**1074) == sum(map(Fraction, values.tolist()))
    assert found.deviation() == pytest.approx(float(np.std(values - 1e9)), rel=1e-9)


def test_what_is_no_double_is_infinite() -> None:
    found = read_moments(exact_moments(np.array([1.7e308, -1.7e308])) * 3.0)
    assert (found.mean(), found.deviation()) == (0.0, 1.7e308)
