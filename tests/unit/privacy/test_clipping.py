"""Clipping: the bound holds for every vector, however large or broken."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from heliosdb.privacy.clipping import clip_factors, clip_rows


@given(
    arrays(np.float64, (4, 3), elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.floats(1e-3, 1e3),
)
def test_no_row_is_longer_than_the_clipping_norm(vectors: np.ndarray, clipping_norm: float) -> None:
    clipped = clip_rows(vectors, clipping_norm)
    assert np.all(np.isfinite(clipped))
    assert np.all(np.linalg.norm(clipped, axis=1) <= clipping_norm * (1 + 1e-12))


def test_a_short_row_is_left_as_it_is_and_a_long_one_keeps_its_direction() -> None:
    clipped = clip_rows(np.array([[0.3, 0.4], [3.0, 4.0]]), 1.0)
    assert np.array_equal(clipped[0], [0.3, 0.4])
    assert np.allclose(clipped[1], [0.6, 0.8])


def test_factors_for_zero_and_for_what_is_not_finite() -> None:
    assert clip_factors(np.array([0.0, 2.0, np.inf, np.nan]), 1.0).tolist() == [1.0, 0.5, 0.0, 0.0]
