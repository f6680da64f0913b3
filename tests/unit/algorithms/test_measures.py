"""Figures are what they say: right without noise, within their standard errors with it, withheld beyond use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, precision_score, r2_score, recall_score

from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, LinearModel
from heliosdb.algorithms.measures import CLASSIFICATION, REGRESSION, Evaluation, Measure
from heliosdb.algorithms.private_measuring import read_evaluation
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import EvaluateWork
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import ClippedSum, Vector
from heliosdb.privacy.mechanisms import Lattice, add_noise
from heliosdb.privacy.plan import CLASSIFICATION_NOISE, REGRESSION_NOISE

ONE = Scaling((0.0,), (1.0,))
SEEDS = range(20)
Numbers = np.ndarray


def held_out(features: Vector, target: Vector) -> Table:
    rows = np.arange(target.size)
    return Table.from_rows(features.reshape(-1, 1), target, rows, np.ones(target.size, dtype=bool))


def plain(model: LinearModel, table: Table, parameters: list[float], scaling: Scaling = ONE) -> Evaluation:
    work = EvaluateWork(model.name, scaling, None, classes=0 if model.scales_target else 2)
    return read_evaluation(model.evaluate(table, np.array(parameters), work).vector, work, 1)


def private(
    model: LinearModel, tables: list[Table], parameters: list[float], noise: float, scaling: Scaling = ONE
) -> Evaluation:
    """What nodes release, with the noise of the release door."""
    work, total = (
        EvaluateWork(model.name, scaling, noise, classes=0 if model.scales_target else 2),
        np.zeros(model.measure.boxes.size),
    )
    for table in tables:
        made = model.evaluate(table, np.array(parameters), work)
        assert isinstance(made.guard, ClippedSum)
        total += add_noise(made.vector, made.guard.sensitivity, noise)
    return read_evaluation(total, work, len(tables))


def classes(rows: int, seed: int, shift: float = 0.0) -> Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    return held_out(x, (rng.random(rows) < 1 / (1 + np.exp(-2.5 * x - shift))).astype(float))


def numbers(rows: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    # Variance 1, of which .59 is explained.
    return held_out(x, math.sqrt(0.59) * x + math.sqrt(0.41) * rng.normal(size=rows))


# Without noise.


def test_figures_of_classes_are_those_of_scikit_learn() -> None:
    table, parameters = classes(400, 1, -1.0), [1.5, -1.0]
    found = plain(LOGISTIC_REGRESSION, table, parameters).figures
    scores = table.features[:, 0] * 1.5 - 1.0
    predicted, rate = scores > 0, table.target.mean()
    assert found.loss == pytest.approx(log_loss(table.target, 1 / (1 + np.exp(-scores))))
    assert found.accuracy == (predicted == table.target).mean()
    assert found.precision == pytest.approx(precision_score(table.target, predicted))
    assert found.recall == pytest.approx(recall_score(table.target, predicted))
    assert found.f1_score == pytest.approx(f1_score(table.target, predicted))
    assert found.base_loss == pytest.approx(log_loss(table.target, np.full(400, rate)))
    assert found.start_loss == pytest.approx(math.log(2))
    assert found.rmse is None


def test_figures_of_classes_that_are_not_defined_are_none() -> None:
    none = held_out(np.zeros(10), np.zeros(10))
    found = plain(LOGISTIC_REGRESSION, none, [0.0, -1.0]).figures
    assert (found.precision, found.recall, found.f1_score) == (None, None, None)
    # The base rate is never quite 0: half a row counts as positive.
    assert found.base_loss == pytest.approx(-0.05 * math.log(0.05) - 0.95 * math.log(0.95))
    missed = held_out(np.zeros(10), np.ones(10))
    found = plain(LOGISTIC_REGRESSION, missed, [0.0, -1.0]).figures
    assert (found.precision, found.recall, found.f1_score) == (None, 0.0, 0.0)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (40.0, 7.0), (1e3, 1e3)])
def test_r_squared_is_about_the_mean_of_the_held_out_rows_whatever_the_scaling(
    mean: float, scale: float
) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=1000)
    target = 39.0 + 1.2 * x + rng.normal(size=1000)
    scaling = Scaling((0.0,), (1.0,), mean, scale)
    found = plain(
        LINEAR_REGRESSION, held_out(x, target), [1.2 / scale, (39.0 - mean) / scale], scaling
    ).figures
    assert found.accuracy == pytest.approx(r2_score(target, 39.0 + 1.2 * x), abs=1e-6)
    assert found.loss == pytest.approx(np.mean((target - 39.0 - 1.2 * x) ** 2))
    assert found.rmse == pytest.approx(math.sqrt(np.mean((target - 39.0 - 1.2 * x) ** 2)))
    assert (found.precision, found.recall, found.f1_score) == (None, None, None)


def test_r_squared_of_targets_that_do_not_vary_is_not_defined() -> None:
    found = plain(LINEAR_REGRESSION, held_out(np.arange(9.0), np.full(9, 7.0)), [0.0, 6.0]).figures
    assert (found.loss, found.accuracy, found.accuracy_error, found.base_loss) == (1.0, None, None, None)


def test_the_worst_model_there_may_be_has_figures_and_no_overflow() -> None:
    table, scaling = (
        held_out(np.array([1e6, -1e6]), np.array([1.0, 2.0])),
        Scaling((0.0,), (1.0,), 0.0, 1e150),
    )
    found = plain(LINEAR_REGRESSION, table, [1e9, 0.0], scaling).figures
    assert found.loss is not None
    assert math.isfinite(found.loss)
    assert found.loss_error is not None
    assert math.isfinite(found.loss_error)


# Standard errors.


Case = tuple[LinearModel, Callable[[int, int], Table], list[float], tuple[float, float]]
CASES: list[Case] = [
    (LOGISTIC_REGRESSION, classes, [2.5, 0.0], (0.0, 0.0)),
    (LINEAR_REGRESSION, numbers, [math.sqrt(0.59), 0.0], (0.41, 0.59)),
]


def expected(case: Case) -> tuple[float, float]:
    """Loss and accuracy over so many rows that nothing is left to chance."""
    model, make, parameters, known = case
    if known[0]:
        return known
    found = plain(model, make(1_000_000, 99), parameters).figures
    assert found.loss is not None
    assert found.accuracy is not None
    return found.loss, found.accuracy


def share_within(figures: list[tuple[float | None, float | None]], truth: float) -> float:
    """Of the figures, how many lie within two errors of the truth."""
    hits = [
        abs(one - truth) <= 2.0 * error for one, error in figures if one is not None and error is not None
    ]
    assert len(hits) >= 0.75 * len(figures)
    return sum(hits) / len(hits)


@pytest.mark.parametrize("case", CASES, ids=["classes", "numbers"])
@pytest.mark.parametrize("rows", [100, 400])
def test_without_noise_two_errors_hold_the_figures_of_other_rows(case: Case, rows: int) -> None:
    model, make, parameters, _ = case
    loss, accuracy = expected(case)
    found = [plain(model, make(rows, seed), parameters).figures for seed in range(200)]
    assert share_within([(one.loss, one.loss_error) for one in found], loss) >= 0.9
    assert share_within([(one.accuracy, one.accuracy_error) for one in found], accuracy) >= 0.9


@pytest.mark.parametrize("case", CASES, ids=["classes", "numbers"])
@pytest.mark.parametrize("noise", [2.0, 15.0])
def test_with_noise_two_errors_hold_the_figures(case: Case, noise: float) -> None:
    """Three nodes of 470 held-out subjects: at most as noisy as an epsilon of 3 over 50 rounds."""
    model, make, parameters, _ = case
    noise = noise if model is LOGISTIC_REGRESSION else noise / 4.0
    loss, accuracy = expected(case)
    found = [
        private(model, [make(470, 3 * seed + node) for node in range(3)], parameters, noise).figures
        for seed in range(100)
    ]
    assert share_within([(one.loss, one.loss_error) for one in found], loss) >= 0.9
    assert share_within([(one.accuracy, one.accuracy_error) for one in found], accuracy) >= 0.9


def test_the_error_is_not_much_larger_than_the_spread() -> None:
    """Ten times too large an error would hold the truth as well."""
    tables = [classes(470, node) for node in range(3)]
    found = [private(LOGISTIC_REGRESSION, tables, [2.5, 0.0], 15.0).figures for _ in range(100)]
    known = [(one.accuracy, one.accuracy_error) for one in found if one.accuracy is not None]
    assert all(error is not None for _, error in known)
    spread = float(np.std([accuracy for accuracy, _ in known]))
    assert np.median([error for _, error in known if error is not None]) == pytest.approx(spread, rel=0.6)


@pytest.mark.parametrize("model", [LOGISTIC_REGRESSION, LINEAR_REGRESSION])
def test_a_figure_that_noise_leaves_no_use_is_withheld_with_the_reason(model: LinearModel) -> None:
    tables = [classes(50, node) if model is LOGISTIC_REGRESSION else numbers(50, node) for node in range(3)]
    for _ in SEEDS:
        found = private(model, tables, [1.0, 0.0], 100.0)
        assert (found.figures.loss, found.figures.accuracy) == (None, None)
        assert (found.figures.loss_error, found.figures.accuracy_error) == (None, None)
        assert found.notes
        assert all("standard error" in note or "no count" in note for note in found.notes)


def test_where_a_private_scaling_is_far_too_wide_r_squared_is_withheld_and_not_all_but_one() -> None:
    """Weeks of gestation, 39 with a spread of 1.9, under a scaling of 48 with a spread of 7."""
    rng = np.random.default_rng(12)
    scaling, known = Scaling((0.0,), (1.0,), 48.0, 6.8), 0
    tables = []
    for _ in range(3):
        x = rng.normal(size=400)
        tables.append(held_out(x, 39.0 + 1.44 * x + 1.2 * rng.normal(size=400)))
    parameters = [1.44 / 6.8, -9.0 / 6.8]
    for _ in range(100):
        found = private(LINEAR_REGRESSION, tables, parameters, 10.0, scaling).figures
        known += found.accuracy is not None and abs(found.accuracy - 0.59) > 3.0 * (
            found.accuracy_error or 0.0
        )
    assert known <= 3
    # Where the noise leaves it to be seen, it is what it is.
    found = private(LINEAR_REGRESSION, tables, parameters, 0.02, scaling).figures
    assert found.accuracy == pytest.approx(0.59, abs=0.06)


# What one subject adds.


def test_the_declared_sensitivities_are_those_of_the_boxes_corners() -> None:
    for measure, declared in ((CLASSIFICATION, CLASSIFICATION_NOISE), (REGRESSION, REGRESSION_NOISE)):
        corners = itertools.product(*((box.lower, box.upper) for box in measure.boxes.boxes))
        lengths = [
            float(np.linalg.norm(measure.boxes.coordinates(np.array(one).reshape(-1, 1)))) for one in corners
        ]
        assert max(lengths) == pytest.approx(measure.boxes.sensitivity, rel=1e-12)
        assert measure.boxes.sensitivity == pytest.approx(declared.sensitivity, rel=1e-12)


ugly = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -2.9, 2.9, 1e6, 1e300])


@given(st.sampled_from([CLASSIFICATION, REGRESSION]), st.lists(ugly, min_size=3, max_size=3))
def test_no_means_whatever_are_longer_than_the_sensitivity(measure: Measure, means: list[float]) -> None:
    boxes = measure.boxes
    coordinates = boxes.coordinates(np.array(means[: boxes.size - 1]).reshape(-1, 1))
    assert float(np.linalg.norm(coordinates)) <= boxes.sensitivity * (1.0 + 1e-12)


@pytest.mark.parametrize("model", [LOGISTIC_REGRESSION, LINEAR_REGRESSION])
@given(
    st.lists(st.tuples(ugly, ugly), min_size=1, max_size=6),
    st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)),
    st.sampled_from([Scaling((0.0,), (1.0,)), Scaling((1e150,), (1e-150,), -1e150, 1e-150)]),
)
def test_one_subject_of_any_rows_adds_no_more_than_the_noise_covers(
    model: LinearModel, rows: list[tuple[float, float]], parameters: tuple[float, float], scaling: Scaling
) -> None:
    features, target = (np.array(column) for column in zip(*rows, strict=True))
    table = Table.from_rows(
        features.reshape(-1, 1), target, np.zeros(len(rows), dtype=np.int64), np.ones(len(rows), dtype=bool)
    )
    work = EvaluateWork(model.name, scaling, 5.0, classes=0 if model.scales_target else 2)
    made = model.evaluate(table, np.array(parameters), work)
    assert isinstance(made.guard, ClippedSum)
    covered = Lattice.of(made.guard.sensitivity, 5.0, work.size).std / 5.0
    assert float(np.linalg.norm(made.vector)) <= covered
