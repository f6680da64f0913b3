"""Fixed point: sums without rounding, masks that leave no trace, and what does not fit."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heliosdb.privacy.ring import (
    FRACTIONS,
    MOST_WIDE,
    NARROW,
    WIDE,
    AnyRing,
    Ring,
    Word,
    add,
    ring_for,
    subtract,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SMALL = st.floats(min_value=-(2.0**59), max_value=2.0**59)


def summed(ring: AnyRing, *vectors: np.ndarray) -> np.ndarray:
    total = np.zeros(vectors[0].size * ring.limbs, dtype=np.uint64)
    for vector in vectors:
        add(total, ring.encode(vector), ring.limbs)
    return ring.decode(total)


def nearest(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@given(arrays(np.float64, 7, elements=FINITE), arrays(np.float64, 7, elements=FINITE))
def test_wide_numbers_add_up_without_rounding(one: np.ndarray, other: np.ndarray) -> None:
    exact = [nearest(Fraction(float(a)) + Fraction(float(b))) for a, b in zip(one, other, strict=True)]
    assert summed(WIDE, one, other).tolist() == exact


@given(arrays(np.float64, 5, elements=SMALL), arrays(np.float64, 5, elements=SMALL))
def test_narrow_numbers_add_up_to_half_a_unit_each(one: np.ndarray, other: np.ndarray) -> None:
    found = summed(NARROW, one, other)
    for a, b, c in zip(one, other, found, strict=True):
        exact = Fraction(float(a)) + Fraction(float(b))
        assert abs(Fraction(float(c)) - exact) <= Fraction(1, 2**64) + abs(exact) / 2**52


@given(st.data(), st.sampled_from([FRACTIONS[0], 30, FRACTIONS[-1]]), st.integers(2, 5))
def test_numbers_of_one_word_add_up_to_half_a_unit_each(
    data: st.DataObject, fraction: int, terms: int
) -> None:
    ring = Word(fraction)
    most = ring.largest(terms)
    vectors = [data.draw(arrays(np.float64, 5, elements=st.floats(-most, most))) for _ in range(terms)]
    for number, found in enumerate(summed(ring, *vectors)):
        exact = sum(Fraction(float(vector[number])) for vector in vectors)
        assert (
            abs(Fraction(float(found)) - exact) <= Fraction(terms, 2 ** (fraction + 1)) + abs(exact) / 2**52
        )


@pytest.mark.parametrize("fraction", [FRACTIONS[0], 40, FRACTIONS[-1]])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_largest_numbers_of_one_word_do_not_wrap_around(fraction: int, sign: float) -> None:
    ring = Word(fraction)
    vectors = [np.full(3, sign * ring.largest(7)) for _ in range(7)]
    np.testing.assert_allclose(summed(ring, *vectors), 7 * vectors[0], rtol=1e-15)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 2.0**-65, -(2.0**-65), 5e-324, 2.0**-64, -0.75, 2.0**59])
def test_a_narrow_number_is_the_nearest_multiple_of_its_unit(value: float) -> None:
    (found,) = NARROW.decode(NARROW.encode(np.array([value])))
    assert Fraction(float(found)) == round(Fraction(value) * 2**64) * Fraction(1, 2**64)


@pytest.mark.parametrize("ring", [WIDE, NARROW, Word(40)])
def test_a_mask_that_is_taken_away_again_leaves_no_trace(ring: Ring) -> None:
    rng = np.random.default_rng(1)
    words = ring.encode(rng.normal(size=50) * 10.0 ** rng.integers(-9, 9, size=50))
    masked = np.array(words)
    masks = [rng.integers(0, 2**64, size=words.size, dtype=np.uint64) for _ in range(5)]
    masks += [np.full(words.size, 2**64 - 1, dtype=np.uint64), np.zeros(words.size, dtype=np.uint64)]
    for one in masks:
        add(masked, one, ring.limbs)
    assert (masked != words).any()
    for one in masks:
        subtract(masked, one, ring.limbs)
    assert (masked == words).all()


def test_the_largest_values_of_all_do_not_wrap_around() -> None:
    for nodes in (3, 100, 1000):
        most = NARROW.largest(nodes)
        total = summed(NARROW, *[np.array([most, -most])] * nodes)
        assert total.tolist() == pytest.approx([most * nodes, -most * nodes])
    assert WIDE.largest(1000) == np.inf


def test_every_double_is_its_own_in_the_wide_ring() -> None:
    values = np.array([1.7976931348623157e308, -1.7976931348623157e308, 5e-324, -5e-324, 0.0, 0.1, -1e-300])
    assert WIDE.decode(WIDE.encode(values)).tolist() == values.tolist()


def test_short_vectors_are_wide() -> None:
    assert (ring_for(MOST_WIDE), ring_for(MOST_WIDE + 1)) == (WIDE, NARROW)
