"""A step on noisy sums is a number within its bounds whatever the sums are, and is Newton's where noise is small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms.bounded_curvature import CurvatureLayout, Shares
from heliosdb.algorithms.noisy_newton import NoisySums, take_step
from heliosdb.domain.bounds import COEFFICIENT

LAYOUTS = [CurvatureLayout(3, 1, Shares(2.0, 4.0)), CurvatureLayout(2, 4, Shares())]


def made_of(layout: CurvatureLayout, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian of some rows, in the order and with the zeros of the layout."""
    rng = np.random.default_rng(seed)
    hessian = np.zeros((layout.parameters, layout.parameters))
    for cell in range(layout.cells):
        row = np.zeros((20, layout.parameters))
        row[:, : layout.inputs] = rng.normal(size=(20, layout.inputs))
        row[:, layout.inputs + cell] = 1.0
        hessian += row.T @ row
    return rng.normal(size=layout.parameters), hessian


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_rows_write_is_what_is_read(layout: CurvatureLayout) -> None:
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(layout.inputs, 5))
    residuals, weights = rng.normal(size=(layout.cells, 5)), rng.random((layout.cells, 5))
    vectors = layout.row_vectors(columns, residuals, weights, np.ones(5))
    assert vectors.shape == (layout.size, 5)
    gradient, hessian = layout.read(vectors.sum(axis=1))
    inputs = np.concatenate([columns, np.ones((1, 5))]) / layout.length
    p = layout.inputs
    np.testing.assert_allclose(gradient[:p], inputs[:-1] @ residuals.sum(axis=0))
    np.testing.assert_allclose(gradient[p:], residuals.sum(axis=1) / layout.length)
    np.testing.assert_allclose(hessian[:p, :p], (inputs[:-1] * weights.sum(axis=0)) @ inputs[:-1].T)
    np.testing.assert_allclose(hessian[:p, p:], inputs[:-1] @ weights.T / layout.length)
    np.testing.assert_allclose(hessian[p:, p:], np.diag(weights.sum(axis=1)) / layout.length**2)
    # The vector is as long as gradient and Hessian are.
    length = np.hypot(
        np.linalg.norm(gradient * layout.shares.slope), np.linalg.norm(hessian * layout.shares.curvature)
    )
    assert np.linalg.norm(vectors.sum(axis=1)) == pytest.approx(length)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_noise_it_is_newton_s_step(layout: CurvatureLayout) -> None:
    gradient, hessian = made_of(layout, 1)
    found = NoisySums(gradient, hessian, 0.0, 0.0)
    step = take_step(np.zeros(layout.parameters), found, layout, COEFFICIENT, bounded=True)
    expected = -np.linalg.solve(hessian, gradient) / layout.length
    np.testing.assert_allclose(step.parameters, expected, rtol=1e-9)
    assert not step.is_noise


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), noise=st.sampled_from([1e-9, 1.0, 1e6, 1e14]))
def test_a_step_on_noise_alone_is_short_and_within_bounds(seed: int, noise: float) -> None:
    for layout in LAYOUTS:
        rng = np.random.default_rng(seed)
        raw = noise * rng.normal(size=(layout.parameters, layout.parameters))
        found = NoisySums(noise * rng.normal(size=layout.parameters), (raw + raw.T) / 2.0, noise, noise)
        start = rng.choice([COEFFICIENT.least, 0.0, COEFFICIENT.most], size=layout.parameters)
        moved = take_step(start, found, layout, COEFFICIENT, bounded=True).parameters
        assert np.all((moved >= COEFFICIENT.least) & (moved <= COEFFICIENT.most))
        from_zero = take_step(
            np.zeros(layout.parameters), found, layout, COEFFICIENT, bounded=True
        ).parameters
        assert np.linalg.norm(from_zero) < 4.0


def test_noise_alone_is_seldom_taken_for_a_step() -> None:
    layout, taken = LAYOUTS[0], 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        _, hessian = made_of(layout, seed)
        found = NoisySums(rng.normal(size=layout.parameters), 100.0 * hessian, 1.0, 1.0)
        taken += not take_step(np.zeros(layout.parameters), found, layout, COEFFICIENT, bounded=True).is_noise
    # A square of so many normals is above its own mean in less than every second case.
    assert 40 < taken < 110


def test_a_mean_that_is_off_is_put_right_from_the_same_sums() -> None:
    layout = LAYOUTS[1]
    rng = np.random.default_rng(2)
    columns, offsets = rng.normal(size=(2, 50)), rng.random((4, 50))
    counts = rng.poisson(3.0, size=(4, 50)) * 1.0

    def sums_at(raised: float) -> NoisySums:
        means = offsets * np.exp(raised)
        vectors = layout.row_vectors(columns, means - counts, means, np.ones(50))
        return NoisySums.read(vectors.sum(axis=1), layout, 0.0)

    raising = layout.length * layout.intercepts
    shift = sums_at(0.0).shift(raising)
    assert shift == pytest.approx(np.log(counts.sum() / offsets.sum()))
    moved, there = sums_at(0.0).moved_up(shift, raising), sums_at(shift)
    np.testing.assert_allclose(moved.gradient, there.gradient, atol=1e-9)
    np.testing.assert_allclose(moved.hessian, there.hessian, rtol=1e-9)
