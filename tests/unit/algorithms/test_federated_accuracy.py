"""Federated averaging over uneven nodes reaches what pooled training reaches, in one process."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from heliosdb.aggregation import SumGathering, WeightedGathering
from heliosdb.aggregation.fedavg import FEDAVG
from heliosdb.algorithms import Table, derive_rng, held_out
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, LinearModel
from heliosdb.algorithms.private_measuring import read_evaluation
from heliosdb.algorithms.summary import summarise
from heliosdb.algorithms.works import EvaluateWork, StatisticsWork, TrainWork
from heliosdb.domain.ids import NodeName
from heliosdb.domain.settings import NoSettings
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Scaling
from heliosdb.domain.update import Total, Update
from heliosdb.domain.vector import Contribution, Vector

RUN = UUID(int=7)


def cancer() -> tuple[np.ndarray, np.ndarray]:
    features, target = load_breast_cancer(return_X_y=True)
    return features, target.astype(float)


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    features, progression = load_diabetes(return_X_y=True, scaled=False)
    return features[:, [0, 3, 4, 2]], (progression > np.median(progression)).astype(float)


def split_unevenly(rows: int, nodes: int, seed: int) -> list[np.ndarray]:
    """Shares of 1 : 2 : 3 …"""
    shares = np.cumsum(np.arange(1, nodes + 1)) / sum(range(1, nodes + 1))
    return np.split(np.random.default_rng(seed).permutation(rows), (shares[:-1] * rows).astype(int))


def gathered(gathering: SumGathering, answers: list[Contribution]) -> Total:
    for number, answer in enumerate(answers):
        gathering.take(Update(NodeName(f"node_{number}"), answer.vector, answer.weight))
    return gathering.result()


def federate(
    model: LinearModel, tables: list[Table], *, rounds: int, epochs: int, learning_rate: float
) -> tuple[Scaling, Vector]:
    work, width = (
        StatisticsWork(model.name, None, classes=0 if model.scales_target else 2),
        tables[0].features.shape[1],
    )
    columns = [f"feature_{i}" for i in range(width)]
    counted = gathered(SumGathering(work.size(width)), [statistics(t, work) for t in tables])
    scaling = summarise(counted.vector, work, columns, counted.nodes).scaling
    parameters = np.zeros(width + 1)
    task = TrainWork(model.name, scaling, epochs, 32, learning_rate, classes=0 if model.scales_target else 2)
    for round in range(1, rounds + 1):
        answers = [
            model.train(t, parameters, task, derive_rng(1, round, f"node_{i}", b""))
            for i, t in enumerate(tables)
        ]
        moved = gathered(WeightedGathering(parameters.size), answers)
        parameters, _ = FEDAVG.combine(parameters, NO_STATE, moved, NoSettings())
    return scaling, parameters


def tables_of(
    features: np.ndarray, target: np.ndarray, nodes: int, seed: int
) -> tuple[list[Table], np.ndarray]:
    apart = held_out([str(i).encode() for i in range(target.size)], 0.3, bytes([seed + 1]))
    parts = split_unevenly(target.size, nodes, seed)
    return [Table.from_rows(features[p], target[p], np.arange(p.size), apart[p]) for p in parts], apart


@pytest.mark.parametrize("data", [cancer, diabetes])
@pytest.mark.parametrize(("nodes", "seed"), [(3, 0), (4, 1), (5, 2)])
def test_federated_auc_is_within_a_hundredth_of_pooled_training(
    data: Callable[[], tuple[np.ndarray, np.ndarray]], nodes: int, seed: int
) -> None:
    features, target = data()
    tables, apart = tables_of(features, target, nodes, seed)
    scaling, parameters = federate(LOGISTIC_REGRESSION, tables, rounds=20, epochs=2, learning_rate=0.05)
    scores = (features[apart] - scaling.means) / scaling.scales @ parameters[:-1] + parameters[-1]
    scaler = StandardScaler().fit(features[~apart])
    pooled = LogisticRegression(max_iter=5000).fit(scaler.transform(features[~apart]), target[~apart])
    expected = roc_auc_score(target[apart], pooled.decision_function(scaler.transform(features[apart])))
    assert roc_auc_score(target[apart], scores) >= expected - 0.01


def test_federated_accuracy_is_that_of_the_same_model_on_pooled_rows() -> None:
    features, target = diabetes()
    tables, apart = tables_of(features, target, 3, 0)
    scaling, parameters = federate(LOGISTIC_REGRESSION, tables, rounds=20, epochs=2, learning_rate=0.05)
    model, work = LOGISTIC_REGRESSION, EvaluateWork("logistic_regression", scaling, None, classes=2)
    measured = gathered(SumGathering(work.size), [model.evaluate(t, parameters, work) for t in tables])
    read = read_evaluation(measured.vector, work, 3)
    scores = (features[apart] - scaling.means) / scaling.scales @ parameters[:-1] + parameters[-1]
    assert read.figures.accuracy == pytest.approx(((scores > 0) == (target[apart] > 0.5)).mean())
    assert read.count == apart.sum()
    assert read.figures.loss is not None
    assert read.figures.loss < np.log(2)


def test_federated_regression_reaches_the_pooled_r_squared() -> None:
    features, target = load_diabetes(return_X_y=True, scaled=False)
    tables, apart = tables_of(features, target, 4, 3)
    scaling, parameters = federate(LINEAR_REGRESSION, tables, rounds=50, epochs=2, learning_rate=0.01)
    scores = (features[apart] - scaling.means) / scaling.scales @ parameters[:-1] + parameters[-1]
    predicted = scaling.target_mean + scaling.target_scale * scores
    pooled = LinearRegression().fit(features[~apart], target[~apart])
    expected = r2_score(target[apart], pooled.predict(features[apart]))
    assert r2_score(target[apart], predicted) >= expected - 0.02


def test_a_run_is_the_same_to_the_bit_every_time() -> None:
    features, target = diabetes()
    tables, _ = tables_of(features, target, 3, 0)
    runs = [
        federate(LOGISTIC_REGRESSION, tables, rounds=5, epochs=2, learning_rate=0.05)[1].tobytes()
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
