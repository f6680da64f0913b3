"""Laplace noise: its distribution, what it costs, and that no budget is passed by it."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.privacy.accountant import Accountant, calibrate, epsilon, pld_epsilon
from heliosdb.privacy.laplacian import discrete_laplace, laplace_curve, pure_epsilon
from heliosdb.privacy.mechanisms import STD_STEPS, Lattice, Secret, add_noise
from heliosdb.privacy.plan import (
    CLASSIFICATION_NOISE,
    SamplingPlan,
    TrainingRequest,
    plan_statistics,
    plan_training,
    split_statistics,
)
from heliosdb.privacy.renyi import ORDERS


def laplace(multiplier: float, rate: float = 1.0, steps: int = 1) -> Mechanism:
    return Mechanism(multiplier, rate, steps, "laplacian")


def test_the_noise_has_the_declared_scale_on_both_sides() -> None:
    drawn = discrete_laplace(200_000, random.Random(3).randbytes) / STD_STEPS
    # 64 cells of equal mass: 63 degrees of freedom, of which the 0.001 % point is 124; the seed is fixed.
    signed = np.sign(drawn) * -np.expm1(-np.abs(drawn))
    counts = np.histogram(signed, np.linspace(-1.0, 1.0, 65))[0]
    expected = drawn.size / 64
    assert float(np.sum((counts - expected) ** 2 / expected)) < 124
    assert np.abs(drawn).mean() == pytest.approx(1.0, abs=0.01)
    assert abs(drawn.mean()) < 0.02


def test_the_low_bits_of_the_noise_are_uniform() -> None:
    drawn = discrete_laplace(64_000, random.Random(4).randbytes)
    counts = np.bincount(drawn & 63, minlength=64)
    assert float(np.sum((counts - 1000.0) ** 2 / 1000.0)) < 120


def test_every_value_of_an_answer_gets_its_own_noise_on_the_lattice() -> None:
    total, lattice = np.zeros(300), Lattice.of(1.0, 2.0, 300, "laplacian")
    one, other = (add_noise(total, 1.0, 2.0, noise="laplacian") for _ in range(2))
    assert np.all(one != other)
    assert np.unique(one).size == 300
    assert np.array_equal(one, np.rint(one / lattice.step) * lattice.step)
    assert lattice.std == pytest.approx(math.sqrt(2.0) * 2.0, rel=1e-3)


def test_noise_and_samples_of_a_computation_come_from_its_own_secret() -> None:
    one, other = Secret(random.Random(1).randbytes), Secret(random.Random(2).randbytes)
    assert not np.array_equal(one.noise((5, 3), "laplacian"), other.noise((5, 3), "laplacian"))


def test_rounding_is_covered_in_l1_norm() -> None:
    multiplier, dimensions = 50.0, 1000
    lattice = Lattice.of(1.0, multiplier, dimensions, "laplacian")
    # A subject's vector of norm 1, rounded, and all that finding the integers again can move.
    assert 1.0 / lattice.step + 2.5 * dimensions < STD_STEPS / multiplier


def test_refuses_noise_whose_slack_would_outgrow_it() -> None:
    with pytest.raises(FederatedError) as raised:
        Lattice.of(1.0, 1000.0, 100_000, "laplacian")
    assert raised.value.code is ErrorCode.PROGRAM_LIMIT


@pytest.mark.parametrize("multiplier", [0.05, 0.5, 1.0, 3.0, 40.0])
def test_a_curve_bounds_the_divergence_on_the_lattice(multiplier: float) -> None:
    """Summed out for a coarser lattice, whose own factor is larger: 1 + 1/t with t = 2^10."""
    t, orders = 1 << 10, np.array([2.0, 2.5, 7.0, 32.0])
    shift = max(1, round(t / multiplier))
    x = np.arange(-60 * t, 60 * t + shift)
    logs = [-np.abs(x - centre) / t for centre in (0, shift)]
    mass = np.logaddexp.reduce(logs[0])
    found = [np.logaddexp.reduce(a * logs[0] + (1 - a) * logs[1] - mass) / (a - 1) for a in orders]
    bound = laplace_curve(1.0, t / shift, orders)
    assert np.all(np.array(found) <= bound * (1.0 + 1.0 / t) + 1e-12)
    assert np.all(bound <= np.array(found) * (1.0 + 1e-3) + 1e-12)


def test_coordinates_that_move_together_cost_no_more_than_one_that_moves_as_far() -> None:
    whole = laplace_curve(1.0, 1.0, ORDERS)
    parts = laplace_curve(1.0, 4.0, ORDERS) + 2.0 * laplace_curve(1.0, 8.0 / 3.0, ORDERS)
    assert np.all(parts <= whole * (1.0 + 1e-9))


@pytest.mark.parametrize(
    ("releases", "basic"),
    [
        ([laplace(1.0)], 1.0),
        ([laplace(0.25)], 4.0),
        ([laplace(10.0, steps=20)], 2.0),
        ([laplace(100.0, steps=500)], 5.0),
        ([laplace(1.0, 0.01, 100)], 100 * math.log1p(0.01 * math.expm1(1.0))),
    ],
)
def test_a_ledger_shows_at_most_the_sum_and_at_least_what_distributions_say(
    releases: list[Mechanism], basic: float
) -> None:
    found = epsilon(releases, 1e-5)
    assert found <= basic * (1.0 + 1e-12)
    assert pld_epsilon(releases, 1e-5) <= found * (1.0 + 1e-4)


def test_many_small_releases_cost_far_less_than_their_sum() -> None:
    assert epsilon([laplace(100.0, steps=500)], 1e-5) < 1.2


def test_beside_gaussians_the_pure_epsilon_is_added_at_most() -> None:
    gaussians, laplacians = [Mechanism(2.0)] * 3, [laplace(2.0)]
    together = epsilon([*gaussians, *laplacians], 1e-5)
    assert epsilon(gaussians, 1e-5) < together <= epsilon(gaussians, 1e-5) + 0.5 + 1e-12
    sampled = [Mechanism(1.1, 0.01, 1000)]
    assert epsilon(sampled, 1e-5) < epsilon([*sampled, *laplacians], 1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            Mechanism,
            st.sampled_from([0.05, 0.7, 3.0, 40.0, 500.0]),
            st.sampled_from([1e-4, 0.01, 0.3, 1.0]),
            st.integers(1, 2000),
            st.sampled_from(["gaussian", "laplacian"]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([1e-9, 1e-5, 1e-2]),
)
def test_whatever_is_mixed_one_more_release_never_costs_less(releases: list[Mechanism], delta: float) -> None:
    figures = [Accountant(delta).epsilon(*releases[:count]) for count in range(len(releases) + 1)]
    assert all(one <= other * (1.0 + 1e-12) for one, other in itertools.pairwise(figures))
    assert all(math.isfinite(one) and one >= 0.0 for one in figures)
    assert Accountant(delta).epsilon(*reversed(releases)) == figures[-1]


@pytest.mark.parametrize("rate", [1.0, 0.3, 1e-4])
def test_a_sample_of_nearly_nobody_costs_nearly_nothing(rate: float) -> None:
    assert pure_epsilon(rate, 0.5) <= 2.0
    assert pure_epsilon(rate, 0.5) == pytest.approx(math.log(1.0 + rate * (math.exp(2.0) - 1.0)))
    assert math.isfinite(pure_epsilon(rate, 0.001))


@pytest.mark.parametrize("budget", [Budget(0.5, 1e-5), Budget(4.0, 1e-6), Budget(20.0, 1e-5)])
def test_calibration_stays_under_the_budget_and_wastes_little_of_it(budget: Budget) -> None:
    sigma = calibrate(lambda one: [laplace(one, 0.1, 300)], budget, [Mechanism(30.0)])
    spent = epsilon([Mechanism(30.0), laplace(sigma, 0.1, 300)], budget.delta)
    assert budget.epsilon * 0.995 < spent <= budget.epsilon


@pytest.mark.parametrize("budget", [Budget(0.5, 1e-5), Budget(8.0, 1e-5)])
def test_a_whole_run_spends_the_budget_and_not_more(budget: Budget) -> None:
    round_0 = split_statistics(plan_statistics(budget, (), "laplacian"), (1 / 3, 1 / 3, 1 / 3))
    assert sum(1.0 / one.noise_multiplier for one in round_0) == pytest.approx(budget.epsilon / 3, rel=1e-3)
    request = TrainingRequest(20, SamplingPlan(0.1, 10), 2, 1e6, 3, CLASSIFICATION_NOISE, noise="laplacian")
    made = plan_training(budget, round_0, request)
    assert made.evaluation_noise_multiplier is not None
    run = [
        *round_0,
        *[laplace(made.evaluation_noise_multiplier)] * 2,
        *[laplace(made.noise_multiplier, 0.1, 10)] * 20,
    ]
    assert budget.epsilon * 0.99 < epsilon(run, budget.delta) <= budget.epsilon
    assert epsilon(run, budget.delta) == made.epsilon
