"""Case weights, offsets and penalties, as statsmodels and scikit-learn have them on the pooled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import ElasticNet, LogisticRegression, PoissonRegressor, Ridge

from heliosdb.domain.errors import ErrorCode, FederatedError
from tests.support.pooled import Played, make_run, make_tables, play

NAMES = ("a", "b", "c")


def make_inputs(rows: int = 600, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.normal(size=rows), rng.exponential(2.0, rows), rng.random(rows) < 0.2]) * 1.0


def score_of(inputs: np.ndarray) -> np.ndarray:
    return -0.4 + inputs @ [0.9, -0.3, 0.7]


def make_target(algorithm: str, inputs: np.ndarray, shift: Any = 0.0) -> np.ndarray:
    rng, score = np.random.default_rng(1), score_of(inputs) + shift
    if algorithm == "logistic_regression":
        return (rng.random(score.size) < 1 / (1 + np.exp(-score))).astype(float)
    if algorithm == "poisson_regression":
        return rng.poisson(np.exp(score)).astype(float)
    return 50.0 + 8.0 * score + rng.normal(0.0, 3.0, score.size)


FAMILIES = {
    "logistic_regression": sm.families.Binomial(),
    "linear_regression": sm.families.Gaussian(),
    "poisson_regression": sm.families.Poisson(),
}


def agree(found: Played, oracle: Any) -> None:
    assert found.findings.ended is not None
    assert found.findings.ended.converged
    assert found.rounds <= 12
    np.testing.assert_allclose(found.column("estimate"), oracle.params, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.column("std_error"), oracle.bse, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("algorithm", FAMILIES)
@pytest.mark.parametrize("nodes", [2, 5])
def test_weights_count_rows_so_many_times(algorithm: str, nodes: int) -> None:
    inputs = make_inputs()
    target, weights = make_target(algorithm, inputs), np.random.default_rng(2).uniform(0.2, 5.0, len(inputs))
    run = make_run(algorithm, NAMES, weights="w", roles=(("weights", "w"),))
    found = play(run, make_tables(inputs, target, nodes, weights=weights))
    model = sm.GLM(target, sm.add_constant(inputs), family=FAMILIES[algorithm], var_weights=weights)
    agree(found, model.fit(tol=1e-14, maxiter=100))


@pytest.mark.parametrize("algorithm", FAMILIES)
@pytest.mark.parametrize("level", [0.0, 11.0, -7.0])
def test_an_offset_is_added_to_every_score(algorithm: str, level: float) -> None:
    if algorithm == "logistic_regression" and level:
        level = np.sign(level)
    inputs = make_inputs()
    offset = level + np.random.default_rng(3).normal(0.0, 0.5, len(inputs))
    target = make_target(algorithm, inputs, shift=offset - level)
    run = make_run(algorithm, NAMES, offset="o", roles=(("offset", "o"),))
    found = play(run, make_tables(inputs, target, 3, offset=offset))
    model = sm.GLM(target, sm.add_constant(inputs), family=FAMILIES[algorithm], offset=offset)
    agree(found, model.fit(tol=1e-14, maxiter=100))


def test_a_weight_that_is_not_more_than_0_is_refused_without_its_value() -> None:
    inputs = make_inputs(100)
    weights = np.where(np.arange(100) == 7, -3.25, 1.0)
    run = make_run("linear_regression", NAMES, weights="w", roles=(("weights", "w"),))
    with pytest.raises(FederatedError, match="more than 0") as caught:
        play(run, make_tables(inputs, inputs[:, 0], 2, weights=weights))
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "3.25" not in str(caught.value)


def scaled(inputs: np.ndarray) -> np.ndarray:
    return (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)


def own_slopes(found: Played, inputs: np.ndarray, target_scale: float = 1.0) -> np.ndarray:
    """The coefficients of scaled inputs."""
    return found.column("estimate")[1:] * inputs.std(axis=0) / target_scale


@pytest.mark.parametrize("penalty", [1e-3, 0.3])
def test_ridge_is_that_of_scikit_learn_on_scaled_inputs(penalty: float) -> None:
    inputs = make_inputs()
    n, x = len(inputs), scaled(inputs)

    target = make_target("linear_regression", inputs)
    found = play(make_run("linear_regression", NAMES, penalty=penalty), make_tables(inputs, target, 4))
    expected = Ridge(alpha=n * penalty).fit(x, target).coef_
    np.testing.assert_allclose(own_slopes(found, inputs), expected, rtol=1e-8)
    assert np.isnan(found.column("std_error")).all()
    assert "penalty" in found.coefficients["reason"]

    target = make_target("logistic_regression", inputs)
    found = play(make_run("logistic_regression", NAMES, penalty=penalty), make_tables(inputs, target, 4))
    oracle = LogisticRegression(C=1.0 / (n * penalty), tol=1e-12, solver="newton-cholesky", max_iter=500)
    np.testing.assert_allclose(own_slopes(found, inputs), oracle.fit(x, target).coef_[0], rtol=1e-7)

    target = make_target("poisson_regression", inputs)
    found = play(make_run("poisson_regression", NAMES, penalty=penalty), make_tables(inputs, target, 4))
    oracle = PoissonRegressor(alpha=penalty, tol=1e-12, solver="newton-cholesky", max_iter=500)
    np.testing.assert_allclose(own_slopes(found, inputs), oracle.fit(x, target).coef_, rtol=1e-7)


@pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
def test_the_elastic_net_is_that_of_scikit_learn(l1_ratio: float) -> None:
    inputs = make_inputs()
    target = make_target("linear_regression", inputs)
    run = make_run("linear_regression", NAMES, penalty=0.1, l1_ratio=l1_ratio)
    found = play(run, make_tables(inputs, target, 3))
    unit = target.std()
    oracle = ElasticNet(alpha=0.1, l1_ratio=l1_ratio, tol=1e-14, max_iter=100_000)
    expected = oracle.fit(scaled(inputs), (target - target.mean()) / unit).coef_
    np.testing.assert_allclose(own_slopes(found, inputs, unit), expected, rtol=1e-8, atol=1e-10)


def test_the_lasso_sets_estimates_of_a_logistic_model_to_0() -> None:
    inputs = np.column_stack([make_inputs(), np.random.default_rng(9).normal(size=(600, 2))])
    target, n = make_target("logistic_regression", inputs[:, :3]), 600
    run = make_run("logistic_regression", (*NAMES, "d", "e"), penalty=0.02, l1_ratio=1.0)
    found = play(run, make_tables(inputs, target, 3))
    assert found.rounds <= 12
    oracle = LogisticRegression(
        C=1.0 / (n * 0.02), l1_ratio=1.0, solver="saga", tol=1e-12, max_iter=200_000
    ).fit(scaled(inputs), target)
    expected = oracle.coef_[0]
    assert (expected == 0.0).any()
    np.testing.assert_allclose(own_slopes(found, inputs), expected, rtol=1e-5, atol=1e-7)
    assert ((own_slopes(found, inputs) == 0.0) == (expected == 0.0)).all()


@pytest.mark.parametrize("l1_ratio", [0.0, 0.7])
def test_descent_comes_to_the_same_penalised_estimate(l1_ratio: float) -> None:
    inputs = make_inputs()
    target = make_target("logistic_regression", inputs)
    options = {
        "penalty": 0.05,
        "l1_ratio": l1_ratio,
        "local_epochs": 1,
        "batch_size": 600,
        "learning_rate": 0.5,
    }
    tables = make_tables(inputs, target, 1)
    exact = play(make_run("logistic_regression", NAMES, **options), tables)
    slow = play(make_run("logistic_regression", NAMES, **options, optimizer="sgd", rounds=300), tables)
    np.testing.assert_allclose(own_slopes(slow, inputs), own_slopes(exact, inputs), atol=1e-3)
