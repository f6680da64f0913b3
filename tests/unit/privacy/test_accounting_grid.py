"""Figures over a grid of subjects, batches, noise and delta: finite, never negative, monotone in each."""

from __future__ import annotations

import itertools
import math

import pytest

from heliosdb.domain.privacy import Mechanism, Noise
from heliosdb.privacy.accountant import epsilon, pld_epsilon, spending
from heliosdb.privacy.plan import plan_sampling

SUBJECTS, BATCHES = (10, 10_000, 1_000_000), (1, 32, 1024)
NOISES, DELTAS, ROUNDS = (0.3, 1.0, 4.0, 60.0), (1e-9, 1e-5, 1e-2), (1, 10, 200)
KINDS: tuple[Noise, ...] = ("gaussian", "laplacian")


def figure(subjects: int, batch: int, noise: float, delta: float, rounds: int, kind: Noise) -> float:
    """ε of so many rounds of one local epoch each."""
    sampling = plan_sampling(subjects, batch, 1)
    return epsilon([Mechanism(noise, sampling.sampling_rate, sampling.steps * rounds, kind)], delta)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subjects", SUBJECTS)
@pytest.mark.parametrize("batch", BATCHES)
def test_every_figure_of_the_grid_is_a_number_and_moves_the_right_way(
    subjects: int, batch: int, kind: Noise
) -> None:
    grid = {
        point: figure(subjects, batch, *point, kind) for point in itertools.product(NOISES, DELTAS, ROUNDS)
    }
    assert all(math.isfinite(one) and one >= 0.0 for one in grid.values())
    for (noise, delta, rounds), found in grid.items():
        for more in (one for one in NOISES if one > noise):
            assert grid[more, delta, rounds] <= found
        for more in (one for one in DELTAS if one > delta):
            assert grid[noise, more, rounds] <= found
        for more in (one for one in ROUNDS if one > rounds):
            assert grid[noise, delta, more] >= found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", NOISES)
def test_a_larger_sample_costs_more(noise: float, kind: Noise) -> None:
    for steps, delta in itertools.product((1, 100), DELTAS):
        rates = [1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 1.0]
        found = [epsilon([Mechanism(noise, rate, steps, kind)], delta) for rate in rates]
        # Without sampling Gaussians compose exactly, and below what Rényi says of nearly as large a sample.
        sampled = found if kind == "laplacian" else found[:-1]
        assert sampled == sorted(sampled)


@pytest.mark.parametrize("kind", KINDS)
def test_composed_is_never_above_the_sum_nor_below_the_exact_figure(kind: Noise) -> None:
    for noise, rate, steps in ((1.1, 0.01, 100), (4.0, 1.0, 10), (20.0, 0.2, 50)):
        releases = [Mechanism(noise, rate, steps, kind)] * 3
        shown = spending(releases, 1e-5)
        assert shown.epsilon_tight <= shown.epsilon_basic
        assert pld_epsilon(releases, 1e-5) <= shown.epsilon_tight * (1.0 + 1e-4)
