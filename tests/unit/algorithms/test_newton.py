"""Newton steps over split tables find what statsmodels finds on the pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from tests.support.pooled import Played, make_run, make_tables, play

NAMES = ("a", "b", "c", "d")
NODES = [2, 5, 20]
MOST_ROUNDS = 12


def make_inputs(rows: int = 900, seed: int = 3) -> np.ndarray:
    """A normal, a skewed, a rare and a large one; rows in an order that makes the first node unlike the others."""
    rng = np.random.default_rng(seed)
    inputs = np.column_stack(
        [
            rng.normal(size=rows),
            rng.exponential(2.0, rows),
            (rng.random(rows) < 0.1).astype(float),
            rng.normal(1e3, 30.0, rows),
        ]
    )
    return inputs[np.argsort(inputs[:, 0])]


def score_of(inputs: np.ndarray) -> np.ndarray:
    return -0.5 + inputs[:, 0] - 0.3 * inputs[:, 1] + 0.8 * inputs[:, 2] + (inputs[:, 3] - 1e3) / 60.0


def centred(inputs: np.ndarray) -> np.ndarray:
    """The design in which the oracle is exact: the large column about 1000."""
    return sm.add_constant(inputs - [0.0, 0.0, 0.0, 1e3])


def compare(found: Played, oracle: object, score: int = 0, exact: float = 1e-8) -> None:
    """Slopes and their errors as they are; the intercept is compared at the centre by the fitted score."""
    for name, expected in (("estimate", oracle.params), ("std_error", oracle.bse)):
        np.testing.assert_allclose(
            found.column(name, score)[1:], np.asarray(expected)[1:], rtol=exact, atol=exact
        )
    np.testing.assert_allclose(
        found.column("p_value", score)[1:], np.asarray(oracle.pvalues)[1:], rtol=1e-6, atol=1e-12
    )
    np.testing.assert_allclose(
        found.column("conf_low", score)[1:], np.asarray(oracle.conf_int())[1:, 0], rtol=1e-7, atol=1e-7
    )
    estimates = found.column("estimate", score)
    np.testing.assert_allclose(
        estimates[0] + 1e3 * estimates[4], np.asarray(oracle.params)[0], rtol=1e-7, atol=1e-8
    )


@pytest.mark.parametrize("nodes", NODES)
def test_logistic_regression_is_that_of_the_pooled_rows(nodes: int) -> None:
    inputs, rng = make_inputs(), np.random.default_rng(0)
    target = (rng.random(inputs.shape[0]) < 1 / (1 + np.exp(-score_of(inputs)))).astype(float)
    found = play(make_run("logistic_regression", NAMES), make_tables(inputs, target, nodes))
    assert found.findings.ended is not None
    assert found.findings.ended.converged
    assert found.rounds <= MOST_ROUNDS
    compare(found, sm.Logit(target, centred(inputs)).fit(disp=0, method="newton", tol=1e-14, maxiter=100))


@pytest.mark.parametrize("nodes", NODES)
def test_linear_regression_is_that_of_the_pooled_rows(nodes: int) -> None:
    inputs, rng = make_inputs(), np.random.default_rng(0)
    target = 7e4 + 12.0 * score_of(inputs) + rng.normal(0.0, 20.0, inputs.shape[0])
    found = play(make_run("linear_regression", NAMES), make_tables(inputs, target, nodes))
    assert found.findings.ended is not None
    assert found.rounds <= 3
    compare(found, sm.OLS(target, centred(inputs)).fit())


@pytest.mark.parametrize("nodes", NODES)
def test_poisson_regression_is_that_of_the_pooled_rows(nodes: int) -> None:
    inputs, rng = make_inputs(), np.random.default_rng(0)
    target = rng.poisson(np.exp(0.5 * score_of(inputs) + 2.0)).astype(float)
    found = play(make_run("poisson_regression", NAMES), make_tables(inputs, target, nodes))
    assert found.findings.ended is not None
    assert found.rounds <= MOST_ROUNDS
    oracle = sm.GLM(target, centred(inputs), family=sm.families.Poisson()).fit(tol=1e-14, maxiter=100)
    compare(found, oracle)


@pytest.mark.parametrize("nodes", NODES)
def test_multinomial_regression_is_that_of_the_pooled_rows(nodes: int) -> None:
    inputs, rng = make_inputs(), np.random.default_rng(0)
    scores = np.column_stack([np.zeros(len(inputs)), score_of(inputs), 0.5 - 0.7 * score_of(inputs)])
    target = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1).astype(float)
    run = make_run("logistic_regression", NAMES)
    found = play(run, make_tables(inputs, target, nodes), classes=("x", "y", "z"))
    assert found.findings.ended is not None
    assert found.rounds <= MOST_ROUNDS
    oracle = sm.MNLogit(target, centred(inputs)).fit(disp=0, method="newton", tol=1e-14, maxiter=100)
    for score in range(2):
        for name, expected in (("estimate", oracle.params), ("std_error", oracle.bse)):
            np.testing.assert_allclose(
                found.column(name, score)[1:], np.asarray(expected)[1:, score], rtol=1e-8, atol=1e-8
            )
