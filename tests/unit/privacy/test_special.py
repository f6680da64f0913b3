"""The two functions of accounting without scipy: equal to scipy's wherever accounting asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import gammaln, log_ndtr

from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.privacy import gaussian, renyi, special
from heliosdb.privacy.accountant import Accountant, calibrate


def test_where_scipy_is_installed_its_functions_answer() -> None:
    assert special.special() == (gammaln, log_ndtr)


def test_the_tail_is_scipys() -> None:
    points = np.concatenate([np.linspace(-60.0, 12.0, 1_441), -np.logspace(2, 6, 40), [0.0, -25.0, 40.0]])
    np.testing.assert_allclose(special.plain_log_ndtr(points), log_ndtr(points), rtol=1e-10, atol=1e-300)
    assert special.plain_log_ndtr(-1.5) == pytest.approx(log_ndtr(-1.5), rel=1e-12)


def test_the_logarithm_of_gamma_is_scipys() -> None:
    points = np.concatenate([np.linspace(-999.9, 2_000.0, 1_501), [0.0, -3.0, 1.0, 2.0, 1e5]])
    np.testing.assert_allclose(special.plain_gammaln(points), gammaln(points), rtol=1e-10, atol=1e-10)
    assert special.plain_gammaln(10.5) == pytest.approx(gammaln(10.5), rel=1e-12)


@pytest.mark.parametrize(("rate", "sigma"), [(0.01, 1.0), (0.1, 2.0), (0.5, 0.4), (1e-4, 0.5), (0.9, 300.0)])
def test_a_series_is_the_same_to_the_bit_however_many_terms_are_made_at_once(
    rate: float, sigma: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks = renyi.curve.__wrapped__(rate, sigma)
    monkeypatch.setattr(renyi, "_BLOCK", 1_000)
    assert renyi.curve.__wrapped__(rate, sigma).tobytes() == in_blocks.tobytes()


@pytest.fixture
def without_scipy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Accounting as in the database's server, which remembers nothing of before."""
    plain = special.plain_gammaln, special.plain_log_ndtr
    for module in (gaussian, renyi):
        monkeypatch.setattr(module, "special", lambda: plain)
    caches = (gaussian.gaussian_epsilon, renyi.curve)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


RELEASES = (Mechanism(1.1, 0.01, 1_000), Mechanism(4.0, 1.0, 3), Mechanism(0.7, 0.2, 5))


def test_epsilon_without_scipy_is_the_ledgers(request: pytest.FixtureRequest) -> None:
    budget = Budget(2.0, 1e-5)

    def figures() -> list[float]:
        costs = [Accountant(1e-5).epsilon(one) for one in RELEASES]
        sigma = calibrate(lambda sigma: [Mechanism(sigma, 0.05, 60)], budget, [Mechanism(20.0)])
        return [*costs, Accountant(1e-5).epsilon(*RELEASES), sigma]

    known = figures()
    request.getfixturevalue("without_scipy")
    assert figures() == pytest.approx(known, rel=1e-9)
