"""Sums in any order: the same bits, near the exact sum, whatever the magnitudes."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.aggregation import summation
from heliosdb.aggregation.summation import CHUNK, MOST_ADDITIONS, ExactSum

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SIGNED = st.sampled_from([1.0, -1.0])
# Across the whole range of exponents, which `floats` seldom visits, and at the borders between two bins.
SCATTERED = st.builds(math.ldexp, st.floats(-1.0, 1.0), st.integers(-1080, 1023))
AT_BORDERS = st.builds(
    lambda bin, off, ulps, sign: (
        sign * max(0.0, math.ldexp(1.0, 42 * bin - 1023 + off) * (1 + ulps * 2.0**-52))
    ),
    st.integers(0, 47),
    st.integers(-2, 2),
    st.integers(-2, 2),
    SIGNED,
)
HALVES = st.builds(
    lambda bin, n, sign: sign * math.ldexp(n + 0.5, 42 * bin - 1022),
    st.integers(1, 46),
    st.integers(0, 9),
    SIGNED,
)
TERMS = st.lists(
    st.one_of(FINITE, SCATTERED, AT_BORDERS, HALVES, st.just(0.0), st.just(-0.0)), min_size=1, max_size=24
)


def added(terms: list[float], coefficient: float = 1.0) -> float:
    total = ExactSum(1)
    for term in terms:
        total.add(np.array([term]), coefficient)
    return float(total.total()[0])


def bits(value: float) -> bytes:
    return np.float64(value).tobytes()


@settings(max_examples=200, deadline=None)
@given(TERMS, st.randoms(use_true_random=False), st.sampled_from([1.0, 3.0, 1e12, 1e-5]))
def test_the_order_does_not_change_a_bit(
    terms: list[float], shuffle: random.Random, coefficient: float
) -> None:
    expected = added(terms, coefficient)
    for _ in range(4):
        shuffle.shuffle(terms)
        assert bits(added(terms, coefficient)) == bits(expected)


@settings(max_examples=200, deadline=None)
@given(TERMS)
def test_it_is_near_the_exact_sum(terms: list[float]) -> None:
    exact = sum(map(Fraction, terms))
    largest = max(map(abs, map(Fraction, terms)))

    found = added(terms)

    limit = Fraction(2) ** 1024
    if abs(exact) >= limit - Fraction(2) ** 970:
        assert math.isinf(found) or abs(found) > 1.79e308
        return
    rounding = max(abs(exact) * Fraction(2) ** -52, Fraction(2) ** -1074)
    assert abs(Fraction(found) - exact) <= rounding + len(terms) * largest * Fraction(2) ** -84


@settings(deadline=None)
@given(TERMS, TERMS)
def test_what_cancels_leaves_the_rest(terms: list[float], rest: list[float]) -> None:
    within = [value for value in rest if 1e-3 < abs(value) < 1e3]
    moderate = [value for value in terms if abs(value) < 1e6]
    mixed = [*moderate, *within, *(-value for value in moderate)]

    assert added(mixed or [0.0]) == pytest.approx(math.fsum(within), rel=1e-12, abs=1e-15)


def test_one_term_comes_out_as_it_went_in() -> None:
    for term in (5e-324, -5e-324, 2.2e-308, 1.0, -0.1, 1e-300, 1.7976931348623157e308, math.pi * 1e100):
        assert added([term]) == term


def test_zeros_of_either_sign_add_up_to_zero() -> None:
    assert bits(added([-0.0, -0.0])) == bits(added([0.0, -0.0])) == bits(0.0)


def test_sums_beyond_the_largest_number_are_infinite_in_any_order() -> None:
    large = 1.7e308
    assert added([large, large]) == added([-1.0, large, large]) == math.inf
    # Where the true sum is a number, no order overflows on the way.
    assert added([large, large, -large]) == added([-large, large, large]) == large


def test_products_beyond_the_largest_number_are_infinite_in_any_order() -> None:
    assert added([1e300, 1.0], 1e12) == added([1.0, 1e300], 1e12) == math.inf
    assert math.isnan(added([1e300, 1.0, -1e300], 1e12))
    assert math.isnan(added([1e300, -1e300, 1.0], 1e12))
    total = ExactSum(3)
    total.add(np.array([1.0, 1e300, -2.0]), 1e12)
    assert total.total().tolist() == [1e12, math.inf, -2e12]


def test_long_vectors_are_added_place_by_place_whatever_their_order() -> None:
    rng = np.random.default_rng(7)
    size = 2 * CHUNK + 17
    vectors = [rng.normal(size=size) * 10.0 ** rng.uniform(-30, 30, size=size) for _ in range(9)]
    forward, backward = ExactSum(size), ExactSum(size)
    for one, other in zip(vectors, reversed(vectors), strict=True):
        forward.add(one, 3.0)
        backward.add(other, 3.0)

    found = forward.total()

    assert found.tobytes() == backward.total().tobytes()
    for place in (0, 5, CHUNK - 1, CHUNK, size - 1):
        terms = [3.0 * float(vector[place]) for vector in vectors]
        assert found[place] == pytest.approx(math.fsum(terms), rel=1e-15, abs=max(map(abs, terms)) * 1e-23)
        assert bits(found[place]) == bits(added([float(vector[place]) for vector in vectors], 3.0))


def test_a_total_may_be_asked_for_between_additions() -> None:
    total = ExactSum(1)
    seen = []
    for term in (1.0, 1e30, -1e30, 2.0**-40):
        total.add(np.array([term]))
        seen.append(float(total.total()[0]))
    assert seen[0] == 1.0
    assert seen[1] == 1e30
    assert bits(seen[-1]) == bits(added([2.0**-40, -1e30, 1.0, 1e30]))


def test_a_vector_of_single_precision_is_multiplied_in_double() -> None:
    total = ExactSum(2)
    total.add(np.array([0.1, 3e38], dtype=np.float32), 10.0)
    assert total.total().tolist() == [float(np.float32(0.1)) * 10.0, float(np.float32(3e38)) * 10.0]


def test_bins_have_room_for_as_many_additions_as_there_may_be() -> None:
    """The largest slices that there are, as often as may be, set at once instead of one by one."""
    total = ExactSum(2)
    term = math.nextafter(math.ldexp(1.0, 42 * 25 + 41 - 1022), 0.0)
    total.add(np.array([term, -term]))
    total._bins *= MOST_ADDITIONS  # type: ignore[misc]
    total._additions = MOST_ADDITIONS
    assert total.total().tolist() == [term * MOST_ADDITIONS, -term * MOST_ADDITIONS]
    with pytest.raises(OverflowError):
        total.add(np.array([term, term]))


def test_it_takes_no_vector_of_another_size_and_changes_none() -> None:
    total = ExactSum(2)
    for foreign in (np.zeros(3), np.zeros((1, 2)), np.zeros(1)):
        with pytest.raises(ValueError, match="shape"):
            total.add(foreign)
    vector = np.array([1.5, -2.5])
    vector.flags.writeable = False
    total.add(vector, 2.0)
    assert vector.tolist() == [1.5, -2.5]


def test_a_sum_of_no_places_is_empty() -> None:
    total = ExactSum(0)
    total.add(np.empty(0))
    assert total.total().shape == (0,)


def test_memory_does_not_grow_with_the_number_of_terms() -> None:
    total = ExactSum(1000)
    before = sum(array.nbytes for array in (total._bins, total._anchors))
    for term in range(50):
        total.add(np.full(1000, 10.0**term))
    assert sum(array.nbytes for array in (total._bins, total._anchors)) == before == 25 * 1000
    assert summation._BINS * 42 >= 2046
