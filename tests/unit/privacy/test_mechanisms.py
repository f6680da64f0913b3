"""Lattice noise: its distribution, its lattice, and what the sensitivity is declared for."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.privacy.mechanisms import (
    STD_STEPS,
    Lattice,
    Secret,
    add_noise,
    discrete_gaussian,
    integer_sum,
)


def normal_cdf(x: float) -> float:
    return 0.5 * (1.0 + math.erf(x / math.sqrt(2.0)))


def test_the_noise_is_gaussian_with_the_declared_deviation() -> None:
    drawn = np.sort(discrete_gaussian(200_000, random.Random(3).randbytes) / STD_STEPS)
    expected = np.array([normal_cdf(x) for x in drawn])
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is the 0.1 % point; the seed is fixed.
    assert np.max(np.abs(expected - np.arange(1, drawn.size + 1) / drawn.size)) < 1.95 / math.sqrt(drawn.size)
    assert drawn.std() == pytest.approx(1.0, abs=0.01)
    assert abs(drawn.mean()) < 0.01


def test_the_low_bits_of_the_noise_are_uniform() -> None:
    drawn = discrete_gaussian(64_000, random.Random(4).randbytes)
    counts = np.bincount(drawn & 63, minlength=64)
    chi_square = float(np.sum((counts - 1000.0) ** 2 / 1000.0))
    assert chi_square < 120  # 63 degrees of freedom: the 0.001 % point is 124


def test_both_signs_and_the_joints_of_the_bands_are_even() -> None:
    drawn = discrete_gaussian(200_000, random.Random(5).randbytes) / STD_STEPS
    assert abs(np.mean(drawn > 0) - 0.5) < 0.005
    edges = np.arange(0, 4.25, 0.25)
    observed = np.histogram(np.abs(drawn), edges)[0] / drawn.size
    expected = [2 * (normal_cdf(b) - normal_cdf(a)) for a, b in itertools.pairwise(edges)]
    assert np.max(np.abs(observed - expected)) < 0.005


def test_a_released_value_lies_on_the_lattice() -> None:
    total = np.random.default_rng(1).normal(size=50) * 100
    released = add_noise(total, 1.0, 3.0, random.Random(1).randbytes)
    step = Lattice.of(1.0, 3.0, 50).step
    assert np.array_equal(released, np.rint(released / step) * step)
    assert not np.array_equal(released, total)


def test_the_deviation_is_multiplier_times_sensitivity_and_barely_more() -> None:
    lattice = Lattice.of(2.0, 15.0, 489)
    assert 30.0 < lattice.std < 30.0 * 1.0001
    assert lattice.std == lattice.step * STD_STEPS


def test_rounding_moves_neighbours_apart_by_less_than_the_slack() -> None:
    rng = np.random.default_rng(2)
    dimensions, clipping = 200, 1.0
    lattice = Lattice.of(clipping, 5.0, dimensions)
    for _ in range(50):
        total = rng.normal(size=dimensions) * 10.0 ** rng.uniform(-3, 8)
        one = rng.normal(size=dimensions)
        one *= clipping / np.linalg.norm(one)
        still = np.zeros(dimensions, dtype=np.int64)
        difference = lattice.release(total + one, still) - lattice.release(total, still)
        # What the noise is scaled to: std / multiplier.
        assert np.linalg.norm(difference) <= lattice.std / 5.0


def test_noise_comes_from_the_operating_system_unless_a_test_says_otherwise() -> None:
    zeros = np.zeros(8)
    assert not np.array_equal(add_noise(zeros, 1.0, 1.0), add_noise(zeros, 1.0, 1.0))
    same = [add_noise(zeros, 1.0, 1.0, random.Random(9).randbytes) for _ in range(2)]
    assert np.array_equal(same[0], same[1])


@pytest.mark.parametrize(
    ("sum_", "steps"), [(math.nan, 0), (math.inf, 1 << 52), (-math.inf, -1 << 52), (-1e300, -1 << 52)]
)
def test_whatever_a_sum_is_it_is_released(sum_: float, steps: int) -> None:
    lattice, noise = Lattice.of(1.0, 1.0, 2), np.array([5, -7])
    assert lattice.release(np.array([0.0, sum_]), noise).tolist() == [
        5 * lattice.step,
        (steps - 7) * lattice.step,
    ]
    assert np.all(np.isfinite(add_noise(np.array([sum_, sum_]), 1.0, 1e-2)))


@given(
    st.lists(st.integers(-(2**50), 2**50), min_size=1, max_size=20),
    st.floats(1e-2, 1e3),
    st.floats(1e-6, 1e6),
)
def test_the_door_finds_the_very_integers_that_were_summed(
    steps: list[int], multiplier: float, sensitivity: float
) -> None:
    integers, still = np.array(steps), np.zeros(len(steps), dtype=np.int64)
    lattice = Lattice.of(sensitivity, multiplier, len(steps))
    released = lattice.release(lattice.total(integers), still)
    assert released.tobytes() == lattice.release_steps(integers, still).tobytes()
    assert np.array_equal(np.rint(lattice.total(integers) / lattice.step), integers)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), st.floats(1e-2, 1e3))
def test_sums_beyond_all_use_saturate_and_are_found_within_one_step(
    steps: list[int], multiplier: float
) -> None:
    lattice = Lattice.of(1.0, multiplier, len(steps))
    kept = np.clip(np.array(steps), -(2**52), 2**52)
    found = np.rint(lattice.total(np.array(steps)) / lattice.step)
    assert np.max(np.abs(found - kept)) <= 1.0


def test_sums_of_integers_are_exact_for_more_subjects_than_a_double_holds() -> None:
    steps = np.full((2, (1 << 20) + 3), float((1 << 32) - 1))
    steps[1, ::2] *= -1
    assert integer_sum(steps).tolist() == [((1 << 20) + 3) * ((1 << 32) - 1), 1 - (1 << 32)]


@pytest.mark.parametrize(
    ("sensitivity", "multiplier"),
    [(0.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (1.0, math.inf), (1e-300, 1.0), (1.0, 1e-3)],
)
def test_refuses_noise_that_would_protect_nothing(sensitivity: float, multiplier: float) -> None:
    with pytest.raises(FederatedError) as caught:
        Lattice.of(sensitivity, multiplier, 3)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_refuses_noise_whose_slack_would_outgrow_it() -> None:
    with pytest.raises(FederatedError) as caught:
        Lattice.of(1.0, 1e5, 1_000_000)
    assert caught.value.code is ErrorCode.PROGRAM_LIMIT


def test_a_poisson_sample_takes_each_subject_at_the_rate() -> None:
    secret = Secret(random.Random(6).randbytes)
    taken = [secret.poisson_sample(10_000, 0.27) for _ in range(20)]
    sizes = [int(one.sum()) for one in taken]
    assert np.mean(sizes) == pytest.approx(2700, abs=40)
    assert len(set(sizes)) > 5
    assert not np.array_equal(taken[0], taken[1])
    assert bool(secret.poisson_sample(7, 1.0).all())


def test_two_computations_never_share_their_secret() -> None:
    assert not np.array_equal(Secret().poisson_sample(1000, 0.5), Secret().poisson_sample(1000, 0.5))
