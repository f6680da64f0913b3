"""A report under a budget: what noise leaves of its figures, and that their standard errors say so."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from uuid import UUID

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, confusion_matrix, f1_score, roc_auc_score

from heliosdb.algorithms import Table
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION
from heliosdb.algorithms.private_curves import Noised, rising, roc
from heliosdb.algorithms.private_figures import (
    Told,
    private_deviation,
    private_report_fault,
    read_private_report,
)
from heliosdb.algorithms.private_layout import CELLS, PrivateLayout
from heliosdb.algorithms.private_measuring import RowScores, ScoresRows
from heliosdb.algorithms.private_report import report_privately
from heliosdb.algorithms.reference_points import reference_points
from heliosdb.algorithms.works import PrivateReportWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey
from heliosdb.domain.vector import ClippedSum, Matrix, Vector
from heliosdb.privacy.mechanisms import Entropy, add_noise

TINY = 0.01
NAMES = ("a", "b", "c")
SCALING = Scaling((0.0,) * 3, (1.0,) * 3, 0.0, 1.0)


def entropy(seed: int) -> Entropy:
    """Bytes that are the same in every run of a test."""
    numbers = count()

    def draw(size: int) -> bytes:
        return hashlib.shake_256(f"{seed} {next(numbers)}".encode()).digest(size)

    return draw


def rows(n: int, seed: int = 0, *, a_subject: int = 1, classes: int = 2) -> Table:
    """Of which the first feature says most, the second little and the third nothing."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3))
    score = 2.0 * features[:, 0] + 0.5 * features[:, 1]
    if classes == 2:
        target = (rng.random(n) < 1.0 / (1.0 + np.exp(-score))).astype(float)
    elif classes == 0:
        target = (score + rng.normal(size=n)) / SPREAD
    else:
        target = np.clip(np.floor(score + 0.3 * rng.normal(size=n) + classes / 2), 0, classes - 1)
    return Table(features, target, np.arange(n) // a_subject, np.ones(n, dtype=bool))


def task_of(classes: int, parameters: Vector, noise: float, encoding: Encoding | None = None) -> Task:
    algorithm = "logistic_regression" if classes else "linear_regression"
    work = PrivateReportWork(algorithm, SCALING, noise, classes=classes)
    key = TaskKey(
        WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 1, StepName("report"), NodeName("n")
    )
    return Task(
        key,
        Reading(None, NAMES, "t", 0.2, 1),
        work.to_work(PrivateLayout(classes, 3).size),
        SCALING,
        make_state(parameters=parameters),
        Budget(1.0, 1e-5),
        encoding=encoding,
    )


PARAMETERS = np.array([2.0, 0.5, 0.0, 0.0])
SPREAD = math.sqrt(5.25)
"""Of a target that is a number, before it is scaled."""


def answer(table: Table, classes: int, noise: float, parameters: Vector = PARAMETERS) -> Vector:
    method = LOGISTIC_REGRESSION if classes else LINEAR_REGRESSION
    made = report_privately(method, table, task_of(classes, parameters, noise))
    assert isinstance(made.guard, ClippedSum) and made.weight == 1.0
    return made.vector


def told(vector: Vector, classes: int, noise: float, *, seed: int | None = None, nodes: int = 1) -> Told:
    layout = PrivateLayout(classes, 3)
    if seed is not None:
        vector = add_noise(vector, layout.sensitivity, noise, entropy(seed))
    labels = tuple(map(str, range(classes)))
    return read_private_report(layout, vector, private_deviation(layout, noise, nodes), labels, NAMES, 1.0)


def test_with_hardly_any_noise_the_figures_are_those_of_the_rows() -> None:
    table = rows(20_000)
    found = told(answer(table, 2, TINY), 2, TINY, seed=0).figures

    score, positive = table.features @ PARAMETERS[:3], table.target > 0.5
    chances = 1.0 / (1.0 + np.exp(-score))
    assert found["subjects"] == 20_000
    # Within cells pairs count half: a little less than the area of the rows.
    assert found["auc"] == pytest.approx(roc_auc_score(positive, score), abs=0.006)
    assert found["accuracy"] == pytest.approx(np.mean((score > 0) == positive), abs=1e-3)
    assert found["f1_score"] == pytest.approx(f1_score(positive, score > 0), abs=1e-3)
    assert found["brier"] == pytest.approx(brier_score_loss(positive, chances), abs=2e-3)
    counts = confusion_matrix(score > 0, positive)
    assert np.abs(np.array(found["confusion"]["counts"]) - counts).max() <= 1
    assert found["calibration_error"] < 0.02
    growths = {name: growth for name, growth, _ in found["importance"]}
    assert next(iter(growths)) == "a" and growths["a"] > 5 * growths["b"] > 0.0
    assert growths["c"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("noise", [3.0, 6.0, 10.0])
def test_the_area_and_its_standard_error_are_those_of_repeated_noise_and_samples(noise: float) -> None:
    many = rows(200_000, seed=99)
    true = roc_auc_score(many.target, many.features @ PARAMETERS[:3])
    off, errors = [], []
    for seed in range(150):
        found = told(answer(rows(1_500, seed), 2, noise), 2, noise, seed=seed).figures
        off.append(found["auc"] - true)
        errors.append(found["auc_std_error"])
    typical = math.sqrt(np.mean(np.square(errors)))
    # What the cells lose is a few thousandths; chance three errors of a mean of 150.
    assert abs(np.mean(off)) < 0.006 + 3.0 * typical / math.sqrt(150)
    assert 0.6 * typical < np.std(off) < 1.2 * typical
    assert np.mean(np.abs(off) < 2.0 * np.array(errors)) >= 0.9


def test_every_figure_has_an_error_that_holds_and_none_is_shown_that_is_of_no_use() -> None:
    names = ("accuracy", "precision", "recall", "f1_score", "brier", "auc")
    exact = told(answer(rows(200_000, 99), 2, TINY), 2, TINY, seed=1).figures
    inside = dict.fromkeys(names, 0)
    for seed in range(100):
        found = told(answer(rows(1_500, seed), 2, 10.0), 2, 10.0, seed=seed).figures
        for name in names:
            assert found[f"{name}_std_error"] <= 0.1
            inside[name] += abs(found[name] - exact[name]) < 2.0 * found[f"{name}_std_error"]
    assert min(inside.values()) >= 90, inside

    drowned = told(answer(rows(100), 2, 100.0), 2, 100.0, seed=3)
    assert drowned.figures.keys() == {"noised", "subjects", "subjects_std_error"}
    assert drowned.notes == ("the report withholds all figures: privacy noise would leave them no use",)


def confusion_of(classes: int) -> Matrix:
    """Chances of predicted (rows) and actual class; of two, the second is a tenth of the rows."""
    if classes == 2:
        return np.array([[0.86, 0.05], [0.04, 0.05]])
    actual = np.linspace(1.0, 2.0, classes)
    chances = np.full((classes, classes), 0.4 / (classes - 1)) + np.eye(classes) * (0.6 - 0.4 / (classes - 1))
    weighted: Matrix = chances * (actual / actual.sum())
    return weighted


def f1_of(chances: Matrix) -> float:
    each: Vector = 2.0 * np.diag(chances) / (chances.sum(axis=0) + chances.sum(axis=1))
    return float(each[1] if len(each) == 2 else each.mean())


@pytest.mark.parametrize("deviation", [0.1, 4.0])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_standard_error_of_f1_is_that_of_repeated_noise_and_samples(
    classes: int, deviation: float
) -> None:
    """A hit counts twice in F1, and a row of one class that is taken for another is in the F1 of both."""
    rng, chances = np.random.default_rng(classes), confusion_of(classes)
    layout, off, errors = PrivateLayout(classes, 0), [], []
    for _ in range(600):
        counts = rng.multinomial(2_000, chances.ravel()).reshape(chances.shape).astype(float)
        if classes == 2:
            # Of scores far from 0, so that cells say the predicted class.
            counts = np.concatenate([counts[:1].T, np.zeros((2, CELLS - 2)), counts[1:].T], axis=1)
        vector = counts.ravel() + rng.normal(scale=deviation, size=counts.size)
        found = read_private_report(layout, vector, deviation, tuple(map(str, range(classes))), (), 1.0)
        off.append(found.figures["f1_score"] - f1_of(chances))
        errors.append(found.figures["f1_score_std_error"])
    typical = math.sqrt(np.mean(np.square(errors)))
    assert np.std(off) == pytest.approx(typical, rel=0.08)
    # Chance is three errors of a share of 600.
    assert 0.928 <= np.mean(np.abs(off) < 2.0 * np.array(errors)) <= 0.98


def test_rows_of_one_subject_count_as_parts_of_one() -> None:
    table = rows(4_000)
    many = replace(table, subjects=np.concatenate([np.zeros(2_000, dtype=int), np.arange(1, 2_001)]))
    found = told(answer(many, 2, TINY), 2, TINY, seed=0).figures

    assert found["subjects"] == 2_001


def test_of_a_number_errors_are_in_its_units() -> None:
    table = rows(20_000, classes=0)
    found = told(answer(table, 0, TINY, PARAMETERS / SPREAD), 0, TINY, seed=0).figures

    off = table.features @ PARAMETERS[:3] / SPREAD - table.target
    assert found["mae"] == pytest.approx(np.abs(off).mean(), rel=0.02)
    assert found["rmse"] == pytest.approx(math.sqrt(np.square(off).mean()), rel=0.05)
    assert found["r2"] == pytest.approx(1.0 - np.square(off).mean() / table.target.var(), abs=0.05)
    assert {"mae_std_error", "rmse_std_error", "r2_std_error"} <= found.keys()
    assert [name for name, *_ in found["importance"]] == ["a", "b", "c"]


def test_of_several_classes_the_confusion_matrix_is_told() -> None:
    table = rows(20_000, classes=4)
    parameters = np.random.default_rng(1).normal(size=(3, 4))
    found = told(answer(table, 4, TINY, parameters), 4, TINY, seed=0).figures

    scores = np.column_stack([np.zeros(20_000), table.features @ parameters[:, :3].T + parameters[:, 3]])
    predicted = scores.argmax(axis=1)
    counts = confusion_matrix(predicted, table.target, labels=range(4))
    assert np.abs(np.array(found["confusion"]["counts"]) - counts).max() <= 1
    assert found["accuracy"] == pytest.approx(np.mean(predicted == table.target), abs=1e-3)
    assert found["f1_score"] == pytest.approx(f1_score(table.target, predicted, average="macro"), abs=2e-3)


@dataclass
class Hostile:
    """Scores that are no numbers, or as large as there are."""

    classes: int

    def private_scores(self, task: Task) -> RowScores:
        """Of several classes a column each."""
        del task

        def scores_of(features: Matrix) -> Matrix:
            with np.errstate(over="ignore", invalid="ignore"):
                one = features[:, 0] * 1e308 * 1e5 - features[:, 1] * 1e300 * 1e200
            return one if self.classes <= 2 else np.stack([one, -one, features[:, 2]], axis=1)

        return scores_of


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_whatever_scores_a_model_gives_a_subject_adds_its_own_and_no_more(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rows(40, seed, a_subject=int(rng.integers(1, 5)))
    values = [math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0]
    table.features[rng.random((40, 3)) < 0.4] = rng.choice(values)
    table.target[:10] = rng.choice([7.0, -3.0, 0.5, 1e300], size=10)
    layout = PrivateLayout(classes, 3)
    method: ScoresRows = Hostile(classes)
    task = task_of(classes, PARAMETERS, 2.0)

    def sent(kept: np.ndarray) -> Vector:
        return report_privately(method, table.where(kept), task).vector

    whole = sent(np.ones(40, dtype=bool))
    for subject in np.unique(table.subjects):
        theirs = table.subjects == subject
        own = sent(theirs)
        step = private_deviation(layout, 2.0, 1) / (1 << 24)
        assert np.array_equal(np.rint(whole / step), np.rint(own / step) + np.rint(sent(~theirs) / step))
        assert np.linalg.norm(own) <= layout.sensitivity * (1.0 + 1e-6)


def test_a_feature_is_replaced_by_points_of_what_was_released_of_it() -> None:
    columns = (
        ColumnEncoding("a", missing_indicator=True),
        ColumnEncoding("b", ColumnKind.CATEGORY, "indicators", levels=("x", "y", "z")),
        ColumnEncoding("c", ColumnKind.BOOLEAN),
    )
    task = replace(
        task_of(2, PARAMETERS, 1.0, Encoding(columns, ("0", "1"))),
        scaling=Scaling((10.0, 0.0, 0.3, 0.3, 0.25), (2.0, 1.0, 1.0, 1.0, 1.0)),
    )
    number, category, flag = reference_points(task)

    assert (number.inputs, category.inputs, flag.inputs) == (slice(0, 2), slice(2, 4), slice(4, 5))
    assert number.values[:, 0].mean() == pytest.approx(10.0) and not number.values[:, 1].any()
    assert category.values.tolist() == [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    assert (flag.values.tolist(), flag.weights.tolist()) == ([[0.0], [1.0]], [0.75, 0.25])
    assert all(points.weights.sum() == pytest.approx(1.0) for points in (number, category, flag))


@pytest.mark.parametrize("seed", range(5))
def test_curves_rise_as_isotonic_regression_has_them(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=25) + np.linspace(0, 2, 25)
    known = IsotonicRegression().fit_transform(np.arange(25), values)

    assert rising(values) == pytest.approx(known)


def test_a_curve_has_both_ends_and_errors_between_them() -> None:
    counts = np.random.default_rng(0).uniform(10, 50, size=(2, CELLS))
    curve = roc(Noised(counts, 2.0))

    assert curve[0] == [None, 0.0, 0.0, 0.0, 0.0] and curve[-1] == [0.0, 1.0, 1.0, 0.0, 0.0]
    assert all(0.0 < one[3] < 0.1 and 0.0 < one[4] < 0.1 for one in curve[1:-1])


@pytest.mark.parametrize(("change", "fits"), [(lambda v: v, True), (lambda v: v + 1e14, False)])
def test_a_node_cannot_answer_what_no_subjects_have(change: Callable[[Vector], Vector], fits: bool) -> None:
    fault = private_report_fault(PrivateLayout(2, 3), change(answer(rows(100), 2, 5.0)), 5.0)

    assert (fault is None) is fits


@pytest.mark.parametrize("deviation", [0.5, 5.0, 50.0])
def test_a_curve_rises_from_0_to_1_whatever_the_noise(deviation: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        counts = np.vstack([np.linspace(120, 0, 24), np.linspace(0, 120, 24)])
        lines = roc(Noised(counts + deviation * rng.normal(size=counts.shape), deviation))
        for place in (1, 2):
            rates = [line[place] for line in lines]
            assert (rates[0], rates[-1]) == (0.0, 1.0)
            assert rates == sorted(rates)
