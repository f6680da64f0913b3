"""The accountant against the reference tables, and what a ledger and a plan rely on."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.domain.bounds import NOISE_MULTIPLIER
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.privacy import accountant, renyi
from heliosdb.privacy.accountant import Accountant, calibrate, epsilon, pld_epsilon, renyi_epsilon, spending
from heliosdb.privacy.renyi import ORDERS, curve
from heliosdb.privacy.special import special

REFERENCE = [
    (0.01, 1.1, 1000, 1e-5, 1.71177, 1.51537),
    (0.01, 1.1, 10000, 1e-5, 5.63201, 5.19262),
    (0.1, 1.0, 100, 1e-5, 7.90385, 7.04660),
    (1.0, 1.0, 1, 1e-5, 4.72851, 4.37718),
    (1.0, 4.0, 50, 1e-5, 9.23496, 8.59587),
    (1.0, 5.0, 10, 1e-6, 3.13109, 2.92160),
]


@pytest.mark.parametrize(("q", "sigma", "steps", "delta", "renyi", "tight"), REFERENCE)
def test_reproduces_the_reference_table(
    q: float, sigma: float, steps: int, delta: float, renyi: float, tight: float
) -> None:
    releases = [Mechanism(sigma, q, steps)]
    assert pld_epsilon(releases, delta) == pytest.approx(tight, abs=1e-3)
    assert renyi_epsilon(releases, delta) == pytest.approx(renyi, abs=1e-3)
    if q == 1.0:
        assert epsilon(releases, delta) == pytest.approx(pld_epsilon(releases, delta), rel=1e-6)
    else:
        assert epsilon(releases, delta) == renyi_epsilon(releases, delta)


@pytest.mark.parametrize(
    ("per_round", "rounds", "tight"),
    [(0.01, 50, 0.04141), (0.1, 50, 0.51436), (1.0, 10, 2.68836), (1.0, 100, 10.39388)],
)
def test_rounds_by_the_textbook_noise_cost_what_the_table_says(
    per_round: float, rounds: int, tight: float
) -> None:
    sigma = math.sqrt(2.0 * math.log(1.25 / 1e-5)) / per_round
    assert epsilon([Mechanism(sigma)] * rounds, 1e-5) == pytest.approx(tight, abs=1e-3)


def test_a_budget_of_a_half_allows_about_4750_rounds_of_a_hundredth() -> None:
    sigma = math.sqrt(2.0 * math.log(1.25 / 1e-5)) / 0.01
    assert (
        epsilon([Mechanism(sigma, steps=4740)], 1e-5) <= 0.5 < epsilon([Mechanism(sigma, steps=4760)], 1e-5)
    )


def test_noise_for_a_total_of_one_over_fifty_rounds() -> None:
    assert calibrate(lambda s: [Mechanism(s)] * 50, Budget(1.0, 1e-5)) == pytest.approx(26.380, rel=1e-3)


def test_noise_above_epsilon_eight_is_more_than_the_textbook_gives() -> None:
    assert calibrate(lambda s: [Mechanism(s)], Budget(10.0, 1e-5)) == pytest.approx(0.4999, rel=1e-3)


@pytest.mark.parametrize("budget", [0.5, 8.0])
def test_calibration_stays_under_the_budget_and_wastes_little_of_it(budget: float) -> None:
    already = [Mechanism(14.07)]

    def make(sigma: float) -> list[Mechanism]:
        return [Mechanism(sigma, 0.27, 1000)]

    sigma = calibrate(make, Budget(budget, 1e-5), already)
    assert 0.997 * budget < epsilon([*already, *make(sigma)], 1e-5) <= budget


def test_calibration_refuses_a_budget_that_is_spent() -> None:
    with pytest.raises(FederatedError) as caught:
        calibrate(lambda s: [Mechanism(s)], Budget(0.5, 1e-5), [Mechanism(5.0)])
    assert caught.value.code is ErrorCode.BUDGET_EXHAUSTED


def test_the_order_and_the_portions_of_releases_do_not_change_a_bit_of_the_answer() -> None:
    releases = [Mechanism(15.0), Mechanism(40.0), *[Mechanism(69.0, 0.27, 20)] * 10, Mechanism(50.0, 0.1, 3)]
    shuffled = releases.copy()
    random.Random(1).shuffle(shuffled)
    portions = [Mechanism(69.0, 0.27, 200), Mechanism(50.0, 0.1, 3), Mechanism(40.0), Mechanism(15.0)]
    ledger = Accountant(1e-5)
    for release in shuffled:
        ledger.epsilon(release)
        ledger.add(release)
    assert ledger.epsilon() == epsilon(releases, 1e-5) == epsilon(portions, 1e-5)


def test_a_ledger_fits_every_round_of_its_plan_and_no_more() -> None:
    statistics = Mechanism(14.07)
    sigma = calibrate(lambda s: [Mechanism(s, 0.27, 20 * 5)], Budget(0.5, 1e-5), [statistics])
    ledger = Accountant(1e-5, [statistics])
    for _ in range(5):
        assert ledger.fits(0.5, Mechanism(sigma, 0.27, 20))
        ledger.add(Mechanism(sigma, 0.27, 20))
    assert not ledger.fits(0.5, Mechanism(sigma, 0.27, 20))


def test_asking_does_not_count_as_releasing() -> None:
    ledger = Accountant(1e-5, [Mechanism(10.0)])
    before = ledger.epsilon()
    assert ledger.epsilon(Mechanism(10.0)) > before
    assert ledger.epsilon() == before
    assert list(ledger.releases()) == [Mechanism(10.0)]


def test_nothing_released_costs_nothing() -> None:
    shown = spending([], 1e-5)
    assert (shown.epsilon_basic, shown.epsilon_tight) == (0.0, 0.0)


def test_basic_spending_is_the_sum_of_each_release_alone() -> None:
    one, other = Mechanism(20.0), Mechanism(60.0, 0.27, 20)
    shown = spending([one, one, other], 1e-5)
    assert shown.epsilon_basic == pytest.approx(2 * epsilon([one], 1e-5) + epsilon([other], 1e-5))
    assert shown.epsilon_tight < shown.epsilon_basic


def test_more_releases_never_cost_less() -> None:
    costs = [epsilon([Mechanism(30.0, 0.5, steps)], 1e-5) for steps in (1, 2, 5, 10, 50, 100, 1000)]
    assert costs == sorted(costs)


def test_a_loss_too_wide_for_a_distribution_is_still_told_exactly() -> None:
    release = [Mechanism(0.05)]
    assert 200 < epsilon(release, 1e-5) < renyi_epsilon(release, 1e-5) == pld_epsilon(release, 1e-5)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 26.38, 4e3, 1e6])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.09])
def test_one_gaussian_costs_what_its_hockey_stick_divergence_says(sigma: float, delta: float) -> None:
    """Against 50 digits: no less, and no more than rounding."""
    found = epsilon([Mechanism(sigma)], delta)
    with mpmath.workdps(50):
        s = mpmath.mpf(sigma)

        def exceeds(at: float) -> bool:
            e = mpmath.mpf(at)
            return bool(
                mpmath.ncdf(1 / (2 * s) - e * s) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * s) - e * s) > delta
            )

        assert not exceeds(found * (1 + 1e-7))
        assert found == 0.0 or exceeds(found * (1 - 1e-7))


@pytest.mark.parametrize(
    "releases",
    [
        [Mechanism(14.07), Mechanism(69.0, 0.27, 1000)],
        [Mechanism(14.07), Mechanism(69.0, 0.27, 20), Mechanism(1.1, 0.01, 1000)],
        [Mechanism(1000.0, 0.01, 9_999)],
        [Mechanism(1000.0, 0.01, 10_001)],
        [Mechanism(0.8), Mechanism(1e5, 0.5)],
    ],
)
def test_with_a_sampled_release_the_ledger_shows_the_larger_of_both_bounds(releases: list[Mechanism]) -> None:
    assert epsilon(releases, 1e-5) == max(pld_epsilon(releases, 1e-5), renyi_epsilon(releases, 1e-5))
    # Adding steps or releases never lowers the figure, whichever bound showed it before.
    for made in range(len(releases)):
        assert epsilon(releases[:made], 1e-5) <= epsilon(releases, 1e-5)


def test_the_first_sampled_release_on_a_ledger_of_gaussians_costs_at_least_nothing() -> None:
    gaussians = [Mechanism(sigma) for sigma in (12.0, 31.0, 0.9)]
    tiny = Mechanism(1e6, 1e-9)
    alone = epsilon(gaussians, 1e-5)
    assert alone == pytest.approx(pld_epsilon(gaussians, 1e-5), rel=1e-6)
    assert epsilon([*gaussians, tiny], 1e-5) >= alone


@pytest.mark.parametrize(
    ("rate", "sigma"), [(0.01, 1.1), (0.27, 69.0), (1e-6, 0.7), (0.99, 400.0), (0.3, 1e6)]
)
def test_a_curve_is_the_librarys_and_never_below_it(rate: float, sigma: float) -> None:
    from dp_accounting import dp_event
    from dp_accounting.rdp import rdp_privacy_accountant

    reference = rdp_privacy_accountant.RdpAccountant(ORDERS[ORDERS <= 1024])
    reference.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(sigma)))
    ours = curve(rate, sigma)[ORDERS <= 1024]
    assert (ours >= reference._rdp).all()
    assert ours == pytest.approx(reference._rdp, rel=1e-9, abs=1.1e-14)


def test_a_figure_below_a_hundredth_is_not_held_up_by_the_highest_order() -> None:
    sigma = calibrate(lambda s: [Mechanism(s, 0.27, 20)], Budget(1e-3, 1e-5))
    assert 0.99e-3 < epsilon([Mechanism(sigma, 0.27, 20)], 1e-5) <= 1e-3


@pytest.mark.parametrize(("rate", "steps"), [(1.0, 1), (0.27, 1000)])
def test_noise_for_a_budget_beyond_all_bounds_is_the_least_that_a_task_may_ask_for(
    rate: float, steps: int
) -> None:
    assert calibrate(lambda s: [Mechanism(s, rate, steps)], Budget(1e9, 1e-5)) == NOISE_MULTIPLIER.least


def test_very_many_small_steps_are_not_charged_for_the_rounding() -> None:
    release = [Mechanism(1000.0, 0.01, 1_000_000)]
    assert epsilon(release, 1e-5) <= renyi_epsilon(release, 1e-5)


@pytest.mark.parametrize(
    "mechanism",
    [
        Mechanism(0.0),
        Mechanism(-1.0),
        Mechanism(math.nan),
        Mechanism(math.inf),
        Mechanism(1.0, 0.0),
        Mechanism(1.0, 1.1),
        Mechanism(1.0, 0.5, 0),
        Mechanism(0.9e-2),
        Mechanism(1.1e6),
        Mechanism(1.0, 0.9e-9),
    ],
)
def test_refuses_a_mechanism_out_of_range(mechanism: Mechanism) -> None:
    with pytest.raises(FederatedError) as caught:
        epsilon([mechanism], 1e-5)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_ledger_and_a_plan_do_without_the_slow_library() -> None:
    program = (
        "import sys\n"
        "from heliosdb.domain.privacy import Budget, Mechanism\n"
        "from heliosdb.privacy.accountant import calibrate, spending\n"
        "calibrate(lambda s: [Mechanism(s, 0.1, 20)], Budget(1.0, 1e-5))\n"
        "spending([Mechanism(3.0), Mechanism(2.0, 0.1, 20)], 1e-5)\n"
        "sys.exit('dp_accounting' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@given(
    rate=st.floats(1e-6, 1.0, exclude_max=True),
    sigma=st.floats(0.3, 1e4),
    steps=st.integers(1, 10_000),
    delta=st.floats(1e-12, 0.1),
)
@settings(max_examples=60, deadline=None)
def test_what_the_library_says_is_said_without_it_to_the_last_bit(
    rate: float, sigma: float, steps: int, delta: float
) -> None:
    from dp_accounting import dp_event
    from dp_accounting.rdp import rdp_privacy_accountant

    reference = rdp_privacy_accountant.RdpAccountant(renyi._FRACTIONAL)
    reference.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(sigma)))
    ours = [renyi._fractional(rate, sigma, order) for order in renyi._FRACTIONAL]
    assert ours == list(reference._rdp)

    composed = steps * curve(rate, sigma)
    known = np.isfinite(composed)
    told, _ = rdp_privacy_accountant.compute_epsilon(ORDERS[known], composed[known], delta)
    assert renyi.epsilon_at(composed, delta) == told


@pytest.mark.parametrize("sigma", [1.0, 3.0, 30.0])
def test_a_series_is_computed_no_further_than_it_is_read(
    monkeypatch: pytest.MonkeyPatch, sigma: float
) -> None:
    computed: list[int] = []
    gammaln, log_ndtr = special()

    def counted(x: np.ndarray) -> np.ndarray:
        computed.append(np.size(x))
        return log_ndtr(x)

    monkeypatch.setattr(renyi, "special", lambda: (gammaln, counted))
    for order in renyi._FRACTIONAL:
        renyi._fractional(0.05, sigma, order)

    # Of 1,000 terms of either series; in the database server each is a call of Python's.
    assert sum(computed) <= len(renyi._FRACTIONAL) * 2 * 100


def test_one_more_release_costs_the_same_work_however_many_there_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[Mechanism] = []
    monkeypatch.setattr(accountant, "check_mechanism", checked.append)
    long = Accountant(1e-5, [Mechanism(100.0, 0.1, 2)] * 5000)
    checked.clear()
    long.epsilon(Mechanism(100.0))
    long.spending()
    assert len(checked) <= 3
