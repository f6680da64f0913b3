"""Newton steps under a budget: what they find where noise is small, and what noise leaves of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from heliosdb.algorithms.coefficients import NOISED
from heliosdb.domain.run import Run
from tests.support.pooled import Played, make_run, make_tables, play
from tests.support.runs import with_policy

NAMES = ("a", "b", "c")
RANGES = (("a", -8.0, 8.0), ("b", 0.0, 30.0), ("c", 0.0, 1.0))


def make_rows(name: str, rows: int = 3_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = np.column_stack(
        [rng.normal(size=rows), rng.exponential(2.0, rows), (rng.random(rows) < 0.3) * 1.0]
    )
    score = 0.8 * inputs[:, 0] - 0.3 * inputs[:, 1] + 0.6 * inputs[:, 2]
    target = {
        "logistic_regression": lambda: (rng.random(rows) < 1 / (1 + np.exp(-score))) * 1.0,
        "linear_regression": lambda: 70.0 + 12.0 * score + rng.normal(0.0, 10.0, rows),
        "poisson_regression": lambda: rng.poisson(np.exp(0.5 * score + 1.0)) * 1.0,
    }[name]()
    return inputs, target


def run_of(name: str, budget: float | None, **options: Any) -> Run:
    run = make_run(name, NAMES, **{"rounds": 3} | options)
    return run if budget is None else with_policy(run, privacy_budget=budget, clipping_threshold=20.0)


def slopes(found: Played) -> np.ndarray:
    return found.column("estimate")[1:]


@pytest.mark.parametrize("name", ["logistic_regression", "linear_regression", "poisson_regression"])
@pytest.mark.parametrize("nodes", [1, 4])
def test_where_noise_is_next_to_nothing_they_find_what_plain_steps_find(name: str, nodes: int) -> None:
    inputs, target = make_rows(name)
    tables = make_tables(inputs, target, nodes)
    plain = play(run_of(name, None, rounds=30), tables)
    found = play(run_of(name, 1e6), tables)
    np.testing.assert_allclose(slopes(found), slopes(plain), rtol=0.06, atol=0.01)


def make_survivors(rows: int = 6_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    inputs = np.column_stack(
        [rng.normal(size=rows), rng.uniform(0.0, 3.0, rows), (rng.random(rows) < 0.3) * 1.0]
    )
    waited = rng.weibull(1.4, rows) * np.exp(-inputs @ [0.6, -0.4, 0.8] / 1.4) * 8.0
    left = rng.uniform(0.0, 24.0, rows)
    return inputs, np.minimum(waited, left), (waited <= left) * 1.0


@pytest.mark.parametrize("nodes", [1, 4])
def test_hazards_of_intervals_come_to_the_partial_likelihood_s_estimate(nodes: int) -> None:
    inputs, times, events = make_survivors()
    run = run_of("cox_regression", 1e6, event="died", roles=(("event", "died"),))
    found = play(run, make_tables(inputs, times, nodes, event=events))
    oracle = sm.PHReg(times, inputs, status=events, ties="breslow").fit(disp=0)
    np.testing.assert_allclose(found.column("estimate"), oracle.params, atol=0.06)
    assert found.coefficients["reason"] == NOISED
    assert np.isnan(found.column("std_error")).all()
