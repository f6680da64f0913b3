"""The convergence rule: flat or rising runs stop; slow, noisy or short ones do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heliosdb.domain.convergence import converged


def test_a_flat_loss_has_converged() -> None:
    assert converged([0.5] * 20, 0.001, 10)


def test_a_rising_loss_has_converged() -> None:
    assert converged([0.5 + 0.01 * i for i in range(20)], 0.001, 10)


def test_slow_but_steady_progress_goes_on() -> None:
    assert not converged([0.5 - 0.0005 * i for i in range(20)], 0.001, 10)


def test_progress_well_below_the_threshold_stops() -> None:
    assert converged([0.5 - 0.00001 * i for i in range(20)], 0.001, 10)


def test_one_slow_round_stops_nothing() -> None:
    losses = [0.9**i for i in range(20)]
    losses[-1] = losses[-2]
    assert not converged(losses, 0.001, 10)


def test_one_lucky_round_does_not_keep_a_flat_run_going_for_ever() -> None:
    losses = [0.5] * 5 + [0.4] + [0.5] * 30
    assert converged(losses, 0.001, 10)


@pytest.mark.parametrize("seed", range(20))
def test_noise_far_above_the_threshold_never_looks_like_convergence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    falling = [0.7 - 0.002 * i + float(e) for i, e in enumerate(rng.normal(0, 0.01, 20))]
    assert not converged(falling, 0.001, 10)


@pytest.mark.parametrize("seed", range(20))
def test_a_flat_loss_with_little_noise_has_converged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert converged([0.5 + float(e) for e in rng.normal(0, 0.0003, 20)], 0.001, 10)


def test_fewer_than_twice_the_patience_is_too_early() -> None:
    assert not converged([0.5] * 19, 0.001, 10)
    assert not converged([], 0.001, 1)


def test_rounds_without_an_evaluation_are_passed_over() -> None:
    sparse = [0.5 if i % 5 == 0 else None for i in range(20)]
    assert converged(sparse, 0.001, 2)
    assert not converged(sparse, 0.001, 3)
    assert not converged([None] * 100, 0.001, 3)


def test_only_the_last_evaluations_count() -> None:
    assert converged([5.0, 3.0, 1.0] + [0.5] * 6, 0.001, 3)


def test_patience_of_one_compares_two_losses() -> None:
    assert converged([0.5, 0.4995], 0.001, 1)
    assert not converged([0.5, 0.49], 0.001, 1)


@pytest.mark.parametrize("large", [1e120, 1e154, 1.7e308])
def test_losses_near_the_largest_double_are_compared_as_others_are(large: float) -> None:
    assert converged([large] * 6, 0.001, 3)
    assert not converged([large] * 3 + [0.5] * 3, 0.001, 3)
    assert not converged([large, 0.5, large, 0.25, large, 0.5], 0.001, 3)
    assert converged([0.5, large], 0.001, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_not_convergence(bad: float) -> None:
    assert not converged([*([0.5] * 19), bad], 0.001, 10)


def test_patience_below_one_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="patience"):
        converged([0.5], 0.001, 0)
