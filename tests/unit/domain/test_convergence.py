"""What losses say: flat runs stop; slow, noisy or short ones do not; what goes away is told from what is good."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.domain.convergence import (
    Measured,
    Trace,
    best_round,
    converged,
    diverged,
    ended_diverged,
    measured,
    risen,
)
from heliosdb.domain.events import Figures
from heliosdb.domain.ids import RoundNumber


def traced(losses: list[float], *, error: float = 0.0, noise: float = 0.0) -> Trace:
    return tuple(Measured(RoundNumber(place), loss, error, noise) for place, loss in enumerate(losses, 1))


def test_losses_are_in_parts_of_the_base_rate_s() -> None:
    figures = Figures(0.03, 0.99, loss_error=0.006, base_loss=0.06)

    assert measured(RoundNumber(4), figures, noised=False) == (Measured(RoundNumber(4), 0.5, 0.1, 0.0),)
    assert measured(RoundNumber(4), figures, noised=True) == (Measured(RoundNumber(4), 0.5, 0.1, 0.1),)
    assert measured(RoundNumber(4), Figures(7.0, None), noised=False) == (
        Measured(RoundNumber(4), 7.0, has_base=False),
    )
    assert measured(RoundNumber(4), Figures(None, 0.9), noised=True) == ()
    assert measured(RoundNumber(4), None, noised=True) == ()


def test_a_flat_loss_has_converged() -> None:
    assert converged(traced([0.5] * 20), 0.001, 10)


def test_a_rising_loss_has_not_converged_but_risen() -> None:
    rising = traced([0.5] + [0.5 + 0.01 * i for i in range(19)])
    assert not converged(rising, 0.001, 10)
    assert risen(rising, 0.001, 10)


def test_a_flat_loss_above_its_best_has_not_converged_but_risen() -> None:
    above = traced([0.3] + [0.5] * 20)
    assert not converged(above, 0.001, 10)
    assert risen(above, 0.001, 10)


def test_slow_but_steady_progress_goes_on() -> None:
    assert not converged(traced([0.5 - 0.0005 * i for i in range(20)]), 0.001, 10)


def test_progress_well_below_the_threshold_stops() -> None:
    assert converged(traced([0.5 - 0.00001 * i for i in range(20)]), 0.001, 10)


def test_one_slow_round_stops_nothing() -> None:
    losses = [0.9**i for i in range(20)]
    losses[-1] = losses[-2]
    assert not converged(traced(losses), 0.001, 10)


def test_one_lucky_round_does_not_keep_a_flat_run_going_for_ever() -> None:
    losses = traced([0.5] * 5 + [0.4] + [0.5] * 30)
    assert converged(losses, 0.001, 10) or risen(losses, 0.001, 10)


@pytest.mark.parametrize("seed", range(20))
def test_noise_far_above_the_threshold_never_looks_like_convergence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    falling = traced([0.7 - 0.002 * i + float(e) for i, e in enumerate(rng.normal(0, 0.01, 20))], noise=0.01)
    assert not converged(falling, 0.001, 10)
    assert not risen(falling, 0.001, 10)
    assert not diverged(falling, 10)


@pytest.mark.parametrize("seed", range(20))
def test_a_flat_loss_with_little_noise_has_converged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert converged(traced([0.5 + float(e) for e in rng.normal(0, 0.0003, 20)]), 0.001, 10)


def test_fewer_than_twice_the_patience_is_too_early() -> None:
    assert not converged(traced([0.5] * 19), 0.001, 10)
    assert not converged((), 0.001, 1)
    assert not risen((), 0.001, 1)
    assert not diverged((), 1)


def test_only_the_last_evaluations_count() -> None:
    assert converged(traced([5.0, 3.0, 1.0] + [0.5] * 6), 0.001, 3)


def test_patience_of_one_compares_two_losses() -> None:
    assert converged(traced([0.5, 0.4995]), 0.001, 1)
    assert not converged(traced([0.5, 0.49]), 0.001, 1)


@pytest.mark.parametrize("large", [1e120, 1e154, 1.7e308])
def test_losses_near_the_largest_double_are_compared_as_others_are(large: float) -> None:
    assert converged(traced([large] * 6), 0.001, 3)
    assert not converged(traced([large] * 3 + [0.5] * 3), 0.001, 3)
    assert not converged(traced([large, 0.5, large, 0.25, large, 0.5]), 0.001, 3)
    assert diverged(traced([0.5, large]), 1)
    assert diverged(traced([0.5, *np.geomspace(2.0, large, 9).tolist()]), 5)
    assert risen(traced([0.5, large]), 0.001, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_not_convergence_but_divergence(bad: float) -> None:
    losses = traced([*([0.5] * 19), bad])
    assert not converged(losses, 0.001, 10)
    assert diverged(losses, 10)
    best = best_round(losses)
    assert best is not None
    assert best.round == 19
    assert best_round(traced([bad])) is None


def test_patience_below_one_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="patience"):
        converged(traced([0.5]), 0.001, 0)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_goes_away_has_diverged_and_never_converged(seed: int) -> None:
    """As logistic regression does at a learning rate of 300: best .45, then about 2.15 of .66."""
    rng = np.random.default_rng(seed)
    losses = [0.45, *(2.15 + rng.normal(0, 0.3, 49))]
    trace = traced([float(loss) / 0.66 for loss in losses], error=0.05)
    said = [diverged(trace[:count], 10) for count in range(1, 51)]
    assert 10 <= said.index(True) <= 13
    assert not any(converged(trace[:count], 0.001, 10) for count in range(1, 51))


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_finds_nothing_or_learns_slowly_has_not_diverged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # No signal: losses about the base rate's, which the held-out rows know to two parts in a hundred.
    nothing = traced([1.01 + float(e) for e in rng.normal(0, 0.01, 40)], error=0.02)
    # A rare event: from a coin's loss, many times the base rate's, down.
    rare = tuple(
        Measured(RoundNumber(i), 1.0 + 11.0 * 0.97**i + float(e), start=12.5)
        for i, e in enumerate(rng.normal(0, 0.001, 40))
    )
    for count in range(1, 41):
        assert not diverged(nothing[:count], 10)
        assert not diverged(rare[:count], 10)
    assert not ended_diverged(rare, 10)


def test_a_model_without_signal_whose_rows_all_have_nearly_a_coins_loss_is_not_gone() -> None:
    # The rows' losses hardly differ, so the standard error is next to nothing.
    crept = traced([1.001, 1.003], error=1e-5)
    assert not ended_diverged(crept, 10)
    assert not diverged(crept * 5, 10)


def test_a_run_that_ends_before_the_patience_is_judged_by_its_second_half() -> None:
    gone = traced([0.5, 0.6, 3.0, 9.0])
    assert not diverged(gone, 10)
    assert ended_diverged(gone, 10)
    # What is worse than the model with which training began is of no use, though it was on its way back.
    assert ended_diverged(traced([3.0]), 10)
    assert not diverged(traced([9.0, 3.0, 2.0]), 3)
    assert ended_diverged(traced([9.0, 3.0, 2.0]), 10)
    assert not ended_diverged((), 10)
    # A few rows that are wrong by far: the loss is many times the base rate's, and as a sample says little.
    assert ended_diverged(traced([6.0, 9.0, 7.0], error=4.0), 10)
    assert not ended_diverged(traced([6.0, 9.0, 7.0], error=4.0, noise=4.0), 10)
    assert not ended_diverged((Measured(RoundNumber(1), 9.0, start=12.0),), 10)


@pytest.mark.parametrize("seed", range(20))
def test_a_run_that_is_never_better_than_its_beginning_has_diverged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trace = traced([float(loss) for loss in 7.0 + rng.normal(0, 0.5, 50)], error=0.2)
    said = [diverged(trace[:count], 10) for count in range(1, 51)]
    assert said.index(True) <= 12
    assert ended_diverged(trace, 10)


def test_the_best_round_is_the_last_of_the_least_losses() -> None:
    best = best_round(traced([0.5, 0.25, 0.375, 0.25, 0.5]))
    assert best is not None
    assert best.round == 4


def test_under_noise_a_later_round_is_best_unless_an_earlier_one_is_clearly_better() -> None:
    for later, expected in ((0.31, 3), (0.39, 2)):
        best = best_round(traced([0.5, 0.25, later], noise=0.03))
        assert best is not None
        # Two errors of the difference of two losses are 0.085.
        assert best.round == expected


losses = st.lists(st.floats(0.0, 3.0) | st.just(1.0), min_size=1, max_size=12)


@given(losses, st.sampled_from([0.0, 0.1, 0.5]))
def test_the_best_round_is_the_last_one_or_what_it_was_before(given: list[float], noise: float) -> None:
    """So of all states before only that one has to be kept."""
    trace = traced(given, noise=noise)
    for count in range(2, len(trace) + 1):
        now, before = best_round(trace[:count]), best_round(trace[: count - 1])
        assert now in (trace[count - 1], before)
