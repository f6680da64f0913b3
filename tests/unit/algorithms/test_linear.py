"""Linear models: gradients, determinism, evaluation sums, and errors that reveal nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms import algorithm, derive_rng
from heliosdb.algorithms.families import log_loss, sigmoid
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, LinearModel, scale_inputs
from heliosdb.algorithms.measures import LOSS_CAP
from heliosdb.algorithms.private_measuring import read_evaluation
from heliosdb.algorithms.sgd import batches
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import EvaluateWork, PrivateTraining, TrainWork
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import ClippedSum, Plain
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.privacy.mechanisms import Lattice, Secret

UNIT = Scaling((0.0, 0.0), (1.0, 1.0))
RUN = UUID(int=7)


def table(rows: int = 60, *, seed: int = 0, held_out: int = 0, per_subject: int = 1) -> Table:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 2))
    target = (features @ [2.0, -1.0] + rng.normal(size=rows) > 0).astype(float)
    subjects = np.arange(rows) // per_subject
    return Table.from_rows(features, target, subjects, subjects < held_out)


def train_work(name: str = "logistic_regression", **given: float) -> TrainWork:
    values = {"local_epochs": 2, "batch_size": 16, "learning_rate": 0.1} | given
    return TrainWork(name, UNIT, **values, classes=0 if name == "linear_regression" else 2)  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize("model", [LOGISTIC_REGRESSION, LINEAR_REGRESSION])
def test_the_residual_is_the_derivative_of_the_loss(model: LinearModel) -> None:
    scores, targets = np.linspace(-4, 4, 17), np.tile([0.0, 1.0], 9)[:17]
    step = 1e-6
    slope = (model.loss(scores + step, targets) - model.loss(scores - step, targets)) / (2 * step)
    assert np.allclose(slope, model.residual(scores, targets), atol=1e-8)


def test_loss_and_probability_are_stable_far_out() -> None:
    scores = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    assert sigmoid(scores).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert log_loss(scores, np.ones(5)).tolist() == [1e4, 800.0, math.log(2.0), 0.0, 0.0]


def test_one_full_batch_is_one_gradient_step() -> None:
    data = table()
    work = train_work(local_epochs=1, batch_size=1000, learning_rate=0.5)
    start = np.array([0.3, -0.1, 0.2])
    answer = LOGISTIC_REGRESSION.train(data, start, work, derive_rng(1, 1, "a", b""))
    inputs = scale_inputs(data.features, UNIT)
    gradient = inputs.T @ (sigmoid(inputs @ start) - data.target) / data.rows
    assert np.allclose(answer.vector, -0.5 * gradient)
    assert answer.guard == Plain()


def test_training_is_the_same_to_the_bit_for_the_same_seed_and_else_differs() -> None:
    start = np.zeros(3)

    def trained(seed: int = 1, round: int = 1, node: str = "a") -> bytes:
        rng = derive_rng(seed, round, node, b"")
        return LOGISTIC_REGRESSION.train(table(), start, train_work(), rng).vector.tobytes()

    assert trained() == trained()
    assert len({trained(), trained(seed=2), trained(round=2), trained(node="b")}) == 4


def test_training_sees_no_held_out_row_and_weighs_by_the_others() -> None:
    data = table(held_out=20)
    spoiled = Table(
        np.where(data.held_out[:, None], 1e9, data.features), data.target, data.subjects, data.held_out
    )
    rngs = [derive_rng(1, 1, "a", b"") for _ in range(2)]
    one = LOGISTIC_REGRESSION.train(data, np.zeros(3), train_work(), rngs[0])
    other = LOGISTIC_REGRESSION.train(spoiled, np.zeros(3), train_work(), rngs[1])
    assert one.vector.tobytes() == other.vector.tobytes()
    assert one.weight == 40.0


def test_a_missing_value_counts_as_the_mean() -> None:
    scaling = Scaling((5.0, 0.0), (2.0, 1.0))
    inputs = scale_inputs(np.array([[math.nan, 1.0], [5.0, math.inf], [9.0, -math.inf]]), scaling)
    assert inputs.tolist() == [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [2.0, 0.0, 1.0]]


def test_diverging_training_is_an_error_that_names_the_way_out() -> None:
    work = train_work("linear_regression", learning_rate=1e200, local_epochs=5)
    with pytest.raises(FederatedError) as caught:
        LINEAR_REGRESSION.train(table(), np.zeros(3), work, derive_rng(1, 1, "a", b""))
    assert caught.value.code is ErrorCode.UPDATE_REJECTED
    assert "learning_rate" in str(caught.value.hint)


def test_no_row_to_train_on_is_an_error() -> None:
    with pytest.raises(FederatedError) as caught:
        LOGISTIC_REGRESSION.train(table(4, held_out=4), np.zeros(3), train_work(), derive_rng(1, 1, "a", b""))
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_target_that_is_no_class_is_refused_without_its_value() -> None:
    data = Table.from_rows(np.zeros((2, 1)), np.array([0.0, 41.5]), np.arange(2), np.zeros(2, dtype=bool))
    with pytest.raises(FederatedError) as caught:
        LOGISTIC_REGRESSION.check_target(data, 2)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "41" not in f"{caught.value.message}{caught.value.detail}{caught.value.hint}"
    LINEAR_REGRESSION.check_target(data, 0)


def test_under_a_budget_a_class_beyond_the_two_counts_as_the_nearer() -> None:
    data = table(20, held_out=10)
    moved = replace(data, target=np.where(data.target > 0.5, 7.0, -3.0))
    work, parameters = EvaluateWork("logistic_regression", UNIT, 2.0, classes=2), np.array([0.5, -0.25, 0.1])
    answers = [LOGISTIC_REGRESSION.evaluate(rows, parameters, work).vector for rows in (data, moved)]
    assert answers[0].tobytes() == answers[1].tobytes()
    entropies = [np.random.default_rng(3).bytes for _ in range(2)]
    private = replace(train_work(), privacy=PrivateTraining(1.0, 1.0, 0.5, 3, expected_subjects=10.0))
    trained = [
        LOGISTIC_REGRESSION.train(
            rows, parameters, private, derive_rng(1, 1, "a", b""), Secret(entropy)
        ).vector
        for rows, entropy in zip((data, moved), entropies, strict=True)
    ]
    assert trained[0].tobytes() == trained[1].tobytes()


def test_evaluation_sums_are_of_the_held_out_rows() -> None:
    data, parameters = table(held_out=25), np.array([1.0, -0.5, 0.1])
    work = EvaluateWork("logistic_regression", UNIT, None, classes=2)
    answer = LOGISTIC_REGRESSION.evaluate(data, parameters, work)
    scores = scale_inputs(data.features[:25], UNIT) @ parameters
    probabilities, target = 1 / (1 + np.exp(-scores)), data.target[:25]
    losses = -(target * np.log(probabilities) + (1 - target) * np.log(1 - probabilities))
    read = read_evaluation(answer.vector, work, 1)
    assert read.figures.loss == pytest.approx(losses.mean())
    assert read.figures.accuracy == pytest.approx(((probabilities > 0.5) == target).mean())
    assert read.count == answer.weight == 25.0


def test_r_squared_of_a_regression_is_about_the_mean_of_the_held_out_rows() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(500, 2))
    target = 100 + 20 * (features @ [1.0, 2.0]) + rng.normal(size=500) * 20
    data = Table.from_rows(features, target, np.arange(500), np.ones(500, dtype=bool))
    residual = target - 100.0 - 20 * (features @ [1.0, 2.0])
    for mean, scale in ((float(target.mean()), float(target.std())), (-500.0, 700.0)):
        work = EvaluateWork(
            "linear_regression", Scaling((0.0, 0.0), (1.0, 1.0), mean, scale), None, classes=0
        )
        parameters = np.array([20.0, 40.0, 100.0 - mean]) / scale
        answer = LINEAR_REGRESSION.evaluate(data, parameters, work)
        found = read_evaluation(answer.vector, work, 1).figures
        assert found.accuracy == pytest.approx(
            1 - (residual**2).sum() / ((target - target.mean()) ** 2).sum()
        )
        assert found.loss == pytest.approx((residual**2).mean())
        assert found.rmse == pytest.approx(math.sqrt((residual**2).mean()))
        assert found.base_loss == pytest.approx(target.var())


@pytest.mark.parametrize("model", [LOGISTIC_REGRESSION, LINEAR_REGRESSION])
def test_private_sums_read_back_to_the_subjects_means(model: LinearModel) -> None:
    data, parameters = table(900, held_out=200, per_subject=3), np.array([0.4, -0.2, 0.0])
    private = EvaluateWork(model.name, UNIT, 0.01, classes=0 if model.scales_target else 2)
    answer = model.evaluate(data, parameters, private)
    read = read_evaluation(answer.vector, private, 1)
    plain = EvaluateWork(model.name, UNIT, None, classes=0 if model.scales_target else 2)
    expected = read_evaluation(model.evaluate(data, parameters, plain).vector, plain, 1)
    # Every subject has three rows and no loss reaches the cap, so both ways of counting agree, up to a
    # rounding to the lattice.
    assert read.figures.loss == pytest.approx(expected.figures.loss, rel=1e-5)
    assert read.figures.accuracy == pytest.approx(expected.figures.accuracy, abs=1e-5)
    assert read.count == pytest.approx(200.0)
    assert isinstance(answer.guard, ClippedSum)
    assert answer.weight == 1.0


@pytest.mark.parametrize("model", [LOGISTIC_REGRESSION, LINEAR_REGRESSION])
@pytest.mark.parametrize("parameters", [[0.0, 0.0, 0.0], [1e3, -1e3, 50.0], [1e308, 1e308, 0.0]])
def test_one_subject_moves_a_private_evaluation_by_no_more_than_declared(
    model: LinearModel, parameters: list[float]
) -> None:
    data = table(60, held_out=10, per_subject=6)
    work = EvaluateWork(model.name, UNIT, 5.0, classes=0 if model.scales_target else 2)
    whole = model.evaluate(data, np.array(parameters), work)
    assert isinstance(whole.guard, ClippedSum)
    for subject in range(10):
        keep = data.subjects != subject
        without = Table(data.features[keep], data.target[keep], data.subjects[keep], data.held_out[keep])
        moved = whole.vector - model.evaluate(without, np.array(parameters), work).vector
        # What the noise covers: the sensitivity and the slack for rounding.
        assert np.linalg.norm(moved) <= Lattice.of(whole.guard.sensitivity, 5.0, work.size).std / 5.0


def test_the_loss_of_one_subject_is_capped() -> None:
    data = Table.from_rows(np.array([[1.0, 0.0]] * 2), np.zeros(2), np.arange(2), np.ones(2, dtype=bool))
    work = EvaluateWork("logistic_regression", UNIT, 0.01, classes=2)
    answer = LOGISTIC_REGRESSION.evaluate(data, np.array([1e6, 0.0, 0.0]), work)
    read = read_evaluation(answer.vector, work, 1)
    assert read.figures.loss == pytest.approx(LOSS_CAP, abs=1e-5)


@pytest.mark.parametrize("noise", [None, 5.0])
def test_an_evaluation_of_nobody_has_no_figures(noise: float | None) -> None:
    work = EvaluateWork("logistic_regression", UNIT, noise, classes=2)
    answer = LOGISTIC_REGRESSION.evaluate(table(), np.zeros(3), work)
    read = read_evaluation(answer.vector, work, 1)
    assert (read.figures.loss, read.figures.accuracy, read.count) == (None, None, 0.0)
    assert answer.weight == 1.0


def test_noise_cannot_push_an_accuracy_out_of_its_range() -> None:
    work = EvaluateWork("logistic_regression", UNIT, 0.01, classes=2)
    read = read_evaluation(np.array([-90.0, 90.0, 40.0]), work, 1)
    assert (read.figures.loss, read.figures.accuracy) == (0.0, 1.0)


def test_the_registry_knows_the_built_algorithms_and_never_overwrites() -> None:
    assert {"linear_regression", "logistic_regression"} <= set(ALGORITHMS.names())
    assert algorithm("Logistic_Regression") is LOGISTIC_REGRESSION
    with pytest.raises(ValueError, match="registered already"):
        ALGORITHMS.register(LOGISTIC_REGRESSION.name, LOGISTIC_REGRESSION)
    with pytest.raises(FederatedError) as caught:
        algorithm("oracle")
    assert caught.value.code is ErrorCode.NOT_SUPPORTED


@given(st.integers(1, 500), st.integers(1, 100))
def test_no_step_is_over_fewer_rows_than_a_batch_and_every_row_is_in_one(rows: int, batch_size: int) -> None:
    found = list(batches(rows, batch_size))
    sizes = [stop - start for start, stop in found]
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])]
    assert found[-1][1] == rows
    assert min(sizes) >= min(rows, batch_size)
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_training_is_a_secret_of_the_node() -> None:
    """Updates of many seeds over known batches are equations for single rows."""
    orders = {tuple(derive_rng(1, 1, "a", secret).permutation(30)) for secret in (b"one", b"other")}
    assert len(orders) == 2
