"""Clipping: the bound holds for every vector, and no column knows of another."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heliosdb.privacy.clipping import BLOCK, clip_steps, column_norms, fold

STEPS = arrays(
    np.int64, st.tuples(st.integers(1, 9), st.integers(0, 9)), elements=st.integers(-(2**62), 2**62)
)


@given(STEPS, st.floats(1.0, 2.0**31))
def test_no_subject_is_longer_than_the_bound_but_for_one_rounding(steps: np.ndarray, bound: float) -> None:
    clipped = clip_steps(steps, bound)
    assert np.array_equal(clipped, np.rint(clipped))
    assert np.all(np.linalg.norm(clipped, axis=0) <= bound + math.sqrt(len(steps)) / 2 + 2.0**-13)


def test_a_short_vector_is_left_as_it_is_and_a_long_one_keeps_its_direction() -> None:
    clipped = clip_steps(np.array([[3, 3000, 0], [4, 4000, 0]]), 500.0)
    assert clipped.tolist() == [[3.0, 300.0, 0.0], [4.0, 400.0, 0.0]]


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_a_column_s_sum_and_norm_are_its_own_to_the_last_bit(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-18, 18, size=(rows, columns))
    together, norms = fold(values.copy()), column_norms(values)
    for column in range(columns):
        alone = np.ascontiguousarray(values[:, column : column + 1])
        assert fold(alone.copy()).tobytes() == together[column].tobytes()
        assert column_norms(alone).tobytes() == norms[column].tobytes()


def test_the_fold_is_the_sum() -> None:
    for rows in range(1, 20):
        values = np.arange(3.0 * rows).reshape(rows, 3)
        expected = values.sum(axis=0)
        assert np.array_equal(fold(values), expected)


def test_norms_across_blocks_are_those_within_one() -> None:
    values = np.random.default_rng(1).normal(size=(3, 2 * BLOCK + 5))
    shifted = column_norms(np.ascontiguousarray(values[:, 7:]))
    assert np.array_equal(column_norms(values)[7:], shifted)
    assert np.allclose(shifted, np.linalg.norm(values[:, 7:], axis=0))
