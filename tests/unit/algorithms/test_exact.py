"""Sums of doubles without rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.algorithms.exact import exact_moments, read_moments, resolved
from heliosdb.algorithms.layout import COLUMN_DIGITS, DIGIT_BITS

DOUBLES = st.lists(st.floats(width=64), max_size=40)


@given(DOUBLES, DOUBLES)
def test_the_digits_of_two_nodes_add_up_to_the_exact_sums_of_what_each_resolves(
    one: list[float], other: list[float]
) -> None:
    blocks = [exact_moments(np.array(values, dtype=float)) for values in (one, other)]
    assert all(
        block.shape == (COLUMN_DIGITS,) and np.all(np.abs(block) < 2.0**DIGIT_BITS) for block in blocks
    )
    found = read_moments(blocks[0] + blocks[1])
    finite = [
        Fraction(value)
        for values in (one, other)
        for value in resolved(np.array([value for value in values if math.isfinite(value)])).tolist()
    ]
    assert found.count == len(finite)
    assert Fraction(found.values, 2**1074) == sum(finite)
    assert Fraction(found.squares, 2**2148) == sum(value**2 for value in finite)
    assert found.are_possible()
    if finite and len(set(finite)) == 1:
        assert (found.mean(), found.deviation()) == (float(finite[0]), 0.0)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_values_are_resolved_to_half_of_the_last_bit_of_the_largest(given: list[float]) -> None:
    values = np.array(given)
    found = resolved(values)
    largest = max(map(abs, given))
    assert all(
        abs(Fraction(a) - Fraction(b)) <= Fraction(largest) / 2**54
        for a, b in zip(found.tolist(), given, strict=True)
    )
    at_the_top = np.abs(values) == largest
    assert np.array_equal(found[at_the_top], values[at_the_top])
    assert (len(set(found.tolist())) == 1) == (len(set(values.tolist())) == 1)
    assert np.array_equal(resolved(found), found)


@pytest.mark.parametrize("secret", [3.14159e-40, -2.5e-20, 5e-324, 1.0 / 3.0 * 2.0**-60])
def test_no_value_stands_below_the_last_bits_of_all_others(secret: float) -> None:
    values = np.random.default_rng(4).uniform(0.01, 1.0, size=200)
    values[77] = secret
    without = values.copy()
    without[77] = 0.0
    assert exact_moments(values).tobytes() == exact_moments(without).tobytes()


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
