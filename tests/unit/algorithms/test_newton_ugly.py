"""Newton steps on data that statisticians meet: collinear, constant, separated, huge, tiny, missing."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from heliosdb.algorithms import Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from tests.support.pooled import make_run, make_tables, play


def uniform(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns))


@pytest.mark.parametrize("algorithm", ["linear_regression", "logistic_regression", "poisson_regression"])
def test_collinear_inputs_are_named(algorithm: str) -> None:
    inputs = uniform(300, 4)
    inputs[:, 3] = 1e6 - 3.0 * inputs[:, 0] + 0.001 * inputs[:, 2]
    target = (inputs[:, 0] > 0).astype(float)
    target[::7] = 1.0 - target[::7]
    with pytest.raises(FederatedError) as caught:
        play(make_run(algorithm, ("age", "b", "c", "twice")), make_tables(inputs, target, 3))
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert caught.value.message.startswith("the inputs are collinear: ")
    assert "age" in caught.value.message
    assert "twice" in caught.value.message
    assert " b" not in caught.value.message.replace(" because", "")


def test_collinear_inputs_are_no_error_under_a_penalty() -> None:
    inputs = uniform(300, 2)
    inputs = np.column_stack([inputs, inputs[:, 0]])
    target = inputs[:, 0] + 0.1 * uniform(300, 1, 1)[:, 0]
    found = play(
        make_run("linear_regression", ("a", "b", "twice"), penalty=0.1), make_tables(inputs, target, 3)
    )
    estimates = found.column("estimate")
    np.testing.assert_allclose(estimates[1], estimates[3], rtol=1e-8)


def test_a_constant_input_has_no_estimate_and_the_others_have() -> None:
    inputs = uniform(300, 2)
    inputs[:, 1] = 7.0
    target = inputs[:, 0] + 0.5 * uniform(300, 1, 1)[:, 0]
    found = play(make_run("linear_regression", ("a", "same")), make_tables(inputs, target, 3))
    assert found.findings.ended is not None
    oracle = sm.OLS(target, sm.add_constant(inputs[:, 0])).fit()
    assert np.isnan(found.column("estimate")[2])
    assert np.isnan(found.column("std_error")[2])
    np.testing.assert_allclose(found.column("estimate")[:2], oracle.params, rtol=1e-8)
    np.testing.assert_allclose(found.column("std_error")[:2], oracle.bse, rtol=1e-8)


@pytest.mark.parametrize("nodes", [2, 5])
def test_complete_separation_ends_with_finite_estimates_and_says_so(nodes: int) -> None:
    inputs = uniform(400, 2)
    target = (inputs[:, 0] > 0.3).astype(float)
    found = play(make_run("logistic_regression", ("a", "b")), make_tables(inputs, target, nodes))
    assert found.findings.ended is not None
    assert not found.findings.ended.converged
    assert found.findings.ended.reason.startswith("separation: the estimates of a grow without end")
    assert np.isfinite(found.column("estimate")).all()
    assert np.isnan(found.column("std_error")).all()
    assert found.coefficients["reason"] == found.findings.ended.reason


@pytest.mark.parametrize("algorithm", ["logistic_regression", "poisson_regression"])
def test_a_level_in_which_nothing_happens_is_separated_and_named(algorithm: str) -> None:
    rng = np.random.default_rng(4)
    inputs = np.column_stack([rng.normal(size=500), rng.random(500) < 0.04]).astype(float)
    target = ((rng.random(500) < 0.4) & (inputs[:, 1] == 0)).astype(float)
    found = play(make_run(algorithm, ("a", "rare")), make_tables(inputs, target, 3))
    assert found.findings.ended is not None
    assert found.findings.ended.reason.startswith("separation: the estimates of rare grow without end")
    assert np.isfinite(found.column("estimate")).all()


def test_rare_events_are_no_separation() -> None:
    rng = np.random.default_rng(6)
    inputs = rng.normal(size=(4_000, 2))
    target = (rng.random(4_000) < 1 / (1 + np.exp(5.5 - inputs[:, 0]))).astype(float)
    assert 10 < target.sum() < 60
    found = play(make_run("logistic_regression", ("a", "b")), make_tables(inputs, target, 5))
    assert found.findings.ended is not None
    assert found.findings.ended.converged
    assert found.rounds <= 12
    oracle = sm.Logit(target, sm.add_constant(inputs)).fit(disp=0, method="newton", tol=1e-14, maxiter=100)
    np.testing.assert_allclose(found.column("estimate"), oracle.params, rtol=1e-8)
    np.testing.assert_allclose(found.column("std_error"), oracle.bse, rtol=1e-8)


def test_huge_means_and_tiny_spreads_lose_nothing() -> None:
    rng = np.random.default_rng(8)
    base = rng.integers(-4, 5, size=(500, 2)).astype(float)
    inputs = base * [2.0**-20, 2.0**40] + [2.0**24, -(2.0**60)]  # exact: the spreads are there to the bit
    target = (rng.random(500) < 1 / (1 + np.exp(-0.3 * base[:, 0]))).astype(float)
    found = play(make_run("logistic_regression", ("a", "b")), make_tables(inputs, target, 3))
    oracle = sm.Logit(target, sm.add_constant(base)).fit(disp=0, method="newton", tol=1e-14, maxiter=100)
    units = np.array([2.0**-20, 2.0**40])
    np.testing.assert_allclose(found.column("estimate")[1:] * units, oracle.params[1:], rtol=1e-8)
    np.testing.assert_allclose(found.column("std_error")[1:] * units, oracle.bse[1:], rtol=1e-8)


def test_what_is_missing_is_the_pooled_mean() -> None:
    rng = np.random.default_rng(9)
    inputs = rng.normal(10.0, 3.0, size=(400, 2))
    target = inputs[:, 0] + rng.normal(size=400)
    holes = inputs.copy()
    holes[rng.random((400, 2)) < 0.1] = np.nan
    holes[:3, 0] = [np.inf, -np.inf, np.nan]
    found = play(make_run("linear_regression", ("a", "b")), make_tables(holes, target, 3))
    finite = np.where(np.isfinite(holes), holes, np.nan)
    filled = np.where(np.isnan(finite), np.nanmean(finite, axis=0), finite)
    oracle = sm.OLS(target, sm.add_constant(filled)).fit()
    np.testing.assert_allclose(found.column("estimate"), oracle.params, rtol=1e-8)
    np.testing.assert_allclose(found.column("std_error"), oracle.bse, rtol=1e-8)


def test_a_target_that_is_met_exactly_is_no_division_by_0() -> None:
    inputs = uniform(200, 2)
    found = play(make_run("linear_regression", ("a", "b")), make_tables(inputs, 3.0 + 2.0 * inputs[:, 0], 3))
    assert found.findings.ended is not None
    np.testing.assert_allclose(found.column("estimate"), [3.0, 2.0, 0.0], atol=1e-9)


def test_a_target_that_is_the_same_in_every_row_has_estimates_and_no_errors() -> None:
    inputs = uniform(200, 2)
    inputs[:, 1] = 7.0
    found = play(make_run("linear_regression", ("a", "same")), make_tables(inputs, np.full(200, 5.0), 3))
    assert found.findings.ended is not None
    np.testing.assert_array_equal(found.column("estimate"), [5.0, 0.0, np.nan])
    assert np.isnan(found.column("std_error")).all()
    assert found.coefficients["reason"].startswith("the model fits every row that was trained on exactly")


def test_counts_that_are_all_0_are_refused() -> None:
    inputs = uniform(100, 1)
    with pytest.raises(FederatedError, match="0 in every row"):
        play(make_run("poisson_regression", ("a",)), make_tables(inputs, np.zeros(100), 2))


def test_a_step_that_overshoots_is_halved() -> None:
    # From 0, the first Newton step of such counts lands where the mean is far too large.
    rng = np.random.default_rng(11)
    inputs = rng.normal(size=(300, 1)) ** 3
    target = rng.poisson(np.exp(np.clip(1.2 * inputs[:, 0], -5.0, 6.0))).astype(float)
    found = play(make_run("poisson_regression", ("a",)), make_tables(inputs, target, 3))
    assert found.findings.ended is not None
    assert found.findings.ended.converged
    oracle = sm.GLM(target, sm.add_constant(inputs), family=sm.families.Poisson()).fit(tol=1e-14, maxiter=200)
    np.testing.assert_allclose(found.column("estimate"), oracle.params, rtol=1e-8)


@pytest.mark.parametrize("algorithm", ["logistic_regression", "poisson_regression"])
def test_a_long_way_to_the_estimate_is_no_separation(algorithm: str) -> None:
    """A long tail holds the first steps back: each of several is nearly as long as the one before."""
    rng = np.random.default_rng(13)
    inputs = np.exp(3.0 * rng.normal(size=(1_000, 1)))
    counts = rng.poisson(0.4, 1_000).astype(float)
    target = counts.clip(0, 1) if algorithm == "logistic_regression" else counts
    found = play(make_run(algorithm, ("income",)), make_tables(inputs, target, 3))
    assert found.findings.ended is not None
    assert found.findings.ended.converged, found.findings.ended.reason
    family = sm.families.Binomial() if algorithm == "logistic_regression" else sm.families.Poisson()
    oracle = sm.GLM(target, sm.add_constant(inputs / 1e3), family=family).fit(tol=1e-14, maxiter=300)
    np.testing.assert_allclose(found.column("estimate") * [1.0, 1e3], oracle.params, rtol=1e-6)
    # The oracle takes its errors one iteration before its estimates.
    np.testing.assert_allclose(found.column("std_error") * [1.0, 1e3], oracle.bse, rtol=1e-4)


@pytest.mark.parametrize("algorithm", ["linear_regression", "logistic_regression"])
def test_units_whose_squares_are_no_numbers_have_estimates_and_errors(algorithm: str) -> None:
    rng = np.random.default_rng(3)
    units = np.array([2.0**660, 2.0**-660, 1.0])
    base = rng.normal([1.0, 0.0, 0.0], size=(300, 3))
    score = base @ [0.5, -0.5, 1.0] + rng.logistic(size=300)
    linear = algorithm == "linear_regression"
    scale = 2.0**340 if linear else 1.0
    target = score * scale if linear else (score > 0).astype(float)
    found = play(make_run(algorithm, ("vast", "minute", "c")), make_tables(base * units, target, 3))
    design = sm.add_constant(base)
    oracle = sm.OLS(score, design).fit() if linear else sm.Logit(target, design).fit(disp=0, tol=1e-14)
    own = np.r_[1.0, units] / scale
    for name, expected in (("estimate", oracle.params), ("std_error", oracle.bse)):
        np.testing.assert_allclose(found.column(name) * own, expected, rtol=1e-6)
    np.testing.assert_allclose(found.column("p_value"), oracle.pvalues, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("classes", [(), ("0", "1"), ("0", "1", "2")])
def test_an_input_that_varies_in_held_out_rows_alone_has_no_estimate(classes: tuple[str, ...]) -> None:
    """A rare level may be in one fold as a whole: that is no collinearity to end a fold by."""
    rng = np.random.default_rng(5)
    inputs = np.column_stack([rng.normal(size=300), np.arange(300) < 6]).astype(float)
    score = inputs[:, 0] + rng.normal(size=300)
    target = np.digitize(score, [0.0, 1.0][: len(classes) - 1]).astype(float) if classes else score
    held_out = np.arange(300) % 5 == 0
    held_out[:6] = True
    whole = Table.from_rows(inputs, target, np.arange(300), held_out)
    parts = [whole.where(np.arange(300) % 3 == place) for place in range(3)]
    algorithm = "logistic_regression" if classes else "linear_regression"
    found = play(make_run(algorithm, ("a", "rare"), validation_split=0.2), parts, classes)
    assert found.findings.ended is not None
    assert found.findings.ended.converged
    kept = ~held_out
    alone = play(make_run(algorithm, ("a",)), make_tables(inputs[kept, :1], target[kept], 3), classes)
    for score_number in range(max(1, len(classes) - 1)):
        estimates = found.column("estimate", score_number)
        assert np.isnan(estimates[2])
        for name in ("estimate", "std_error"):
            np.testing.assert_allclose(
                found.column(name, score_number)[:2], alone.column(name, score_number), rtol=1e-8
            )
