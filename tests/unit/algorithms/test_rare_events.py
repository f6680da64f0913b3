"""A rare event does not stop a run before it has learned: losses are beside that of the base rate."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.private_measuring import read_evaluation
from heliosdb.algorithms.sgd import derive_rng
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import EvaluateWork, TrainWork
from heliosdb.domain.convergence import Measured, Trace, converged, measured
from heliosdb.domain.ids import RoundNumber
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Vector

NODES, ROWS, ROUNDS = 3, 8_000, 300
WORK = {"local_epochs": 1, "batch_size": 32, "learning_rate": 0.1}


def make_tables(seed: int) -> list[Table]:
    """One in a hundred is positive."""
    rng = np.random.default_rng(seed)
    tables = []
    for _ in range(NODES):
        x = rng.normal(size=ROWS)
        target = (rng.random(ROWS) < 1 / (1 + np.exp(5.1 - x))).astype(float)
        rows = np.arange(ROWS)
        tables.append(Table.from_rows(x.reshape(-1, 1), target, rows, rows % 5 == 0))
    return tables


def learn(tables: list[Table], threshold: float, *, relative: bool) -> tuple[Vector, int]:
    """Rounds of federated averaging until the losses say that it has converged."""
    scaling = Scaling((0.0,), (1.0,))
    work = TrainWork("logistic_regression", scaling, **WORK, classes=2)  # type: ignore[arg-type]  # a test's shorthand
    asked, parameters = EvaluateWork("logistic_regression", scaling, None, classes=2), np.zeros(2)
    trace: Trace = ()
    for number in range(1, ROUNDS + 1):
        rngs = (derive_rng(1, number, str(node), b"secret") for node in range(NODES))
        moved = [
            LOGISTIC_REGRESSION.train(table, parameters, work, rng).vector
            for table, rng in zip(tables, rngs, strict=True)
        ]
        parameters = parameters + np.mean(moved, axis=0)
        sums = sum(LOGISTIC_REGRESSION.evaluate(table, parameters, asked).vector for table in tables)
        figures = read_evaluation(np.asarray(sums), asked, NODES).figures
        assert figures.loss is not None
        one = Measured(RoundNumber(number), figures.loss)
        trace += measured(RoundNumber(number), figures, noised=False) if relative else (one,)
        if converged(trace, threshold, 10):
            break
    return parameters, number


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_event_s_coefficient_is_that_of_the_pooled_rows_when_the_run_stops(seed: int) -> None:
    tables = make_tables(seed)
    pooled = [table.training() for table in tables]
    features = np.concatenate([table.features for table in pooled])
    target = np.concatenate([table.target for table in pooled])
    assert 0.005 < target.mean() < 0.02
    expected = LogisticRegression(C=np.inf).fit(features, target).coef_[0, 0]

    parameters, stopped = learn(tables, 0.001, relative=True)
    early, too_soon = learn(tables, 0.001, relative=False)

    assert parameters[0] == pytest.approx(expected, rel=0.1)
    # What a threshold in units of the loss does: it stops before.
    assert too_soon < stopped
    assert abs(early[0] - expected) > abs(parameters[0] - expected)
