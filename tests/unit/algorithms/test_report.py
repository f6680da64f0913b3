"""What a report says of held-out rows that lie at several nodes is what scikit-learn says of all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (
    brier_score_loss,
    confusion_matrix,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    roc_curve,
    root_mean_squared_error,
)

from heliosdb.algorithms import cells, importance
from heliosdb.algorithms.report_figures import Report, read_report, report_fault
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.algorithms.reported import report
from heliosdb.algorithms.table import Table
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.task import Scaling, Task
from heliosdb.domain.vector import Matrix, Vector
from tests.unit.algorithms.test_checks import TRAINING
from tests.unit.algorithms.test_checks import task as some_task

FEATURES = ("x", "y", "z")
LABELS = ("no", "yes")


def sigmoid(scores: Vector) -> Vector:
    return 1.0 / (1.0 + np.exp(-scores))


def task_of(scaling: Scaling, encoding: Encoding | None = None) -> Task:
    return replace(some_task(TRAINING), scaling=scaling, encoding=encoding)


def pooled(
    features: Matrix,
    target: Vector,
    weights: Matrix,
    parts: Sequence[Any],
    classes: int,
    scaling: Scaling | None = None,
    encoding: Encoding | None = None,
) -> Report:
    """The report on rows that lie in so many parts."""
    scaling = scaling or Scaling((0.0,) * features.shape[1], (1.0,) * features.shape[1])
    names = FEATURES if encoding is None else tuple(one.column for one in encoding.columns)
    layout = ReportLayout(classes, len(names), features.shape[1])
    total = np.zeros(layout.size)
    for number, part in enumerate(parts):
        rows = np.arange(len(part))
        table = Table.from_rows(features[part], target[part], rows, np.ones(len(part), dtype=bool))
        vector = report(
            table,
            task_of(scaling, encoding),
            layout,
            lambda inputs: inputs @ weights,
            np.random.default_rng(number),
        )
        assert report_fault(layout, vector) is None
        total += vector
    labels = LABELS if classes == 2 else tuple(map(str, range(classes)))
    found = read_report(layout, total, labels, names, scaling.target_scale)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def classes(rows: int, seed: int, shift: float = 0.0) -> tuple[Matrix, Vector, Vector]:
    rng = np.random.default_rng(seed)
    x, weights = rng.normal(size=(rows, 3)), np.array([1.5, -1.0, 0.0])
    x[:, 0] += shift
    return x, (rng.random(rows) < sigmoid(x @ weights)).astype(float), weights


def split(rows: int, nodes: int) -> list[Any]:
    return np.array_split(np.random.default_rng(5).permutation(rows), nodes)


def by_size(values: Vector, nodes: int) -> list[Any]:
    """Each node has rows of another kind."""
    return np.array_split(np.argsort(values), nodes)


@pytest.mark.parametrize("unlike", [False, True])
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_curves_of_many_rows_are_those_of_the_pooled_ones(unlike: bool, shift: float) -> None:
    x, target, weights = classes(20_000, 1, shift)
    parts = by_size(x[:, 1], 5) if unlike else split(20_000, 5)
    found, chances = pooled(x, target, weights, parts, 2), sigmoid(x @ weights)

    assert found["rows"] == 20_000
    assert found["auc"] == pytest.approx(roc_auc_score(target, chances), abs=1e-4)
    assert found["brier"] == pytest.approx(brier_score_loss(target, chances))
    confusion = confusion_matrix(target, chances > 0.5).T.tolist()
    # A node of which one cell is small tells none of its four.
    assert found["confusion"]["labels"] == list(LABELS)
    told = np.array(found["confusion"]["counts"])
    assert np.all(told <= confusion)
    assert told.sum() >= (20_000 if shift == 0.0 else 10_000)

    false, true, _ = roc_curve(target, chances)
    points = found["roc"]
    assert points[0] == [None, 0.0, 0.0]
    assert points[-1][1:] == [1.0, 1.0]
    assert 50 <= len(points) <= 203
    for threshold, fpr, tpr in points[1:]:
        assert fpr == pytest.approx(float((chances[target == 0] >= threshold).mean()), abs=0.02)
        assert tpr == pytest.approx(float((chances[target == 1] >= threshold).mean()), abs=0.02)
    assert np.trapezoid(true, false) == pytest.approx(
        float(np.trapezoid([one[2] for one in points], [one[1] for one in points])), abs=2e-3
    )


def test_calibration_is_that_of_scikit_learn_where_each_bin_has_rows_enough() -> None:
    x, target, weights = classes(4_000, 2)
    chances = sigmoid(x @ weights)
    found = pooled(x, target, weights, split(4_000, 4), 2)["calibration"]
    observed, predicted = calibration_curve(target, chances, n_bins=10)
    assert [one[0] for one in found] == list(range(1, 11))
    # Where a node has too few rows of a class in a tenth, they are told with those of the next one.
    assert [one[1] for one in found] == pytest.approx(predicted.tolist(), abs=2e-3)
    assert [one[2] for one in found] == pytest.approx(observed.tolist(), abs=2e-2)
    there = np.histogram(chances, np.linspace(0, 1, 11))[0]
    assert np.abs(np.array([one[3] for one in found]) - there).max() <= 4 * 5


def test_the_mean_probability_of_a_bin_lies_in_it_however_few_its_rows_are() -> None:
    for seed in range(10):
        x, target, weights = classes(90, seed)
        found = pooled(x, target, weights, split(90, 3), 2)["calibration"]
        assert sum(one[3] for one in found) == pytest.approx(90, abs=5)
        for number, predicted, observed, count in found:
            assert (count == 0 and predicted is None) or (number - 1) / 10 <= predicted <= number / 10
            assert observed is None or 0.0 <= observed <= 1.0


def test_calibration_keeps_every_sum_and_tells_of_no_rows_where_none_are() -> None:
    """Rare events: each node has but a few rows in the upper bins that are there at all."""
    x, target, weights = classes(1_200, 4, shift=-2.0)
    chances = np.minimum(sigmoid(x @ weights), 0.65)
    scores = np.log(chances / (1.0 - chances))
    found = pooled(scores[:, None] * [1.0, 0.0, 0.0], target, np.array([1.0, 0.0, 0.0]), split(1_200, 3), 2)
    told = np.array([[one or 0.0 for one in row] for row in found["calibration"]])
    assert told[:, 3].sum() == 1_200
    assert (told[:, 3] * told[:, 1]).sum() == pytest.approx(chances.sum(), rel=1e-9)
    assert (told[:, 3] * told[:, 2]).sum() == pytest.approx(target.sum(), rel=1e-9)
    assert told[7:, 3].tolist() == [0.0, 0.0, 0.0]
    there = np.histogram(chances, np.linspace(0.0, 1.0, 11))[0]
    assert np.abs(told[:, 3] - there).max() <= 3 * 4


@pytest.mark.parametrize(("rows", "part"), [(60, 0.9), (120, 0.5), (1000, 0.1)])
def test_of_few_rows_auc_is_off_by_less_than_its_own_error(rows: int, part: float) -> None:
    """Three nodes, at first with as few rows as may be held out at all."""
    for seed in range(20):
        x, target, weights = classes(rows, seed)
        found = pooled(x, target, weights, split(rows, 3), 2)
        true = roc_auc_score(target, x @ weights)
        assert abs(found["auc"] - true) < part * found["auc_std_error"]


def test_auc_of_one_node_is_exact_whatever_its_cells() -> None:
    for seed, rows in enumerate((20, 25, 90)):
        x, target, weights = classes(rows, seed)
        found = pooled(x, target, weights, [np.arange(rows)], 2)
        assert found["auc"] == pytest.approx(roc_auc_score(target, x @ weights), abs=1e-12)


def test_the_error_of_auc_is_its_spread_over_samples() -> None:
    found = [pooled(*classes(400, seed), split(400, 2), 2) for seed in range(100)]
    spread = np.std([one["auc"] for one in found])
    assert np.median([one["auc_std_error"] for one in found]) == pytest.approx(spread, rel=0.3)


def test_where_only_one_class_is_held_out_what_needs_both_is_null() -> None:
    x, _, weights = classes(200, 3)
    for target in (np.zeros(200), np.ones(200)):
        found = pooled(x, target, weights, split(200, 2), 2)
        assert (found["auc"], found["auc_std_error"]) == (None, None)
        absent, there = (2, 1) if target[0] == 0 else (1, 2)
        assert {point[absent] for point in found["roc"]} == {None}
        assert found["roc"][-1][there] == 1.0
        assert found["brier"] == pytest.approx(float(np.mean((sigmoid(x @ weights) - target) ** 2)))


def test_a_node_without_held_out_rows_adds_nothing_and_none_at_all_say_so() -> None:
    x, target, weights = classes(300, 4)
    parts = split(300, 2)
    assert pooled(x, target, weights, [*parts, []], 2) == pooled(x, target, weights, parts, 2)
    assert pooled(x, target, weights, [[], []], 2) == {"rows": 0}


@pytest.mark.parametrize("score", [0.0, 800.0, -800.0])
def test_equal_scores_however_large_are_one_cell(score: float) -> None:
    target = (np.arange(40) % 2).astype(np.float64)
    found = pooled(np.full((40, 3), score), target, np.array([1.0, 0.0, 0.0]), split(40, 2), 2)
    assert found["auc"] == pytest.approx(0.5)
    assert sum(one[3] for one in found["calibration"]) == 40


def test_several_classes_have_the_confusion_matrix_of_the_pooled_rows() -> None:
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=(600, 3)), rng.normal(size=(3, 4)) * 2.0
    chances = np.exp(x @ weights)
    chances /= chances.sum(axis=1, keepdims=True)
    target = np.array([rng.choice(4, p=one) for one in chances]).astype(float)
    found = pooled(x, target, weights, split(600, 3), 4)
    assert found["confusion"]["labels"] == ["0", "1", "2", "3"]
    predicted = chances.argmax(axis=1)
    true, told = confusion_matrix(target, predicted).T, np.array(found["confusion"]["counts"])
    assert np.all((told == true) | (told < true))
    assert told[true >= 40].sum() > 0.9 * true[true >= 40].sum()
    hot = np.eye(4)[target.astype(int)]
    assert found["brier"] == pytest.approx(float(np.square(chances - hot).sum(axis=1).mean()))
    assert "auc" not in found
    assert "roc" not in found


def test_a_class_that_a_node_predicts_of_fewer_than_five_subjects_is_not_told() -> None:
    x, weights = np.zeros((60, 4)), np.eye(4)
    x[:4, 0], x[4:8, 1], x[8:30, 2], x[30:, 3] = 1.0, 1.0, 1.0, 1.0
    target = (np.arange(60) % 4).astype(np.float64)

    def told(rows: NDArray[np.int64]) -> list[int]:
        return [
            sum(one)
            for one in pooled(x[rows], target[rows], weights, [np.arange(len(rows))], 4)["confusion"][
                "counts"
            ]
        ]

    assert told(np.arange(60))[:2] == [0, 0]
    # Of a single class the rows would be what is left of all: another one's are not told either.
    assert told(np.arange(4, 60))[1] == 0
    assert sum(told(np.arange(4, 60))) < 52
    assert told(np.arange(8, 60)) == [0, 0, 22, 30]


@pytest.mark.parametrize("unlike", [False, True])
def test_a_number_has_the_errors_of_the_pooled_rows(unlike: bool) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 3))
    weights, scaling = np.array([1.0, 0.5, 0.0]), Scaling((0.0,) * 3, (1.0,) * 3, 1e6, 12.0)
    predicted = 1e6 + 12.0 * (x @ weights)
    target = predicted + rng.normal(0.0, 5.0, 500)
    parts = by_size(target, 4) if unlike else split(500, 4)
    found = pooled(x, target, weights, parts, 0, scaling)
    assert found["mae"] == pytest.approx(mean_absolute_error(target, predicted))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(target, predicted))
    assert found["r2"] == pytest.approx(r2_score(target, predicted))
    assert not found.keys() & {"accuracy", "auc", "roc", "confusion", "calibration"}


def test_importance_is_that_of_scikit_learn_within_its_error() -> None:
    x, target, weights = classes(3_000, 6)
    model = LogisticRegression()
    model.classes_, model.coef_, model.intercept_ = np.array([0.0, 1.0]), weights[None], np.zeros(1)
    expected = permutation_importance(model, x, target, scoring="neg_log_loss", n_repeats=20, random_state=1)
    found = {
        name: (mean, error)
        for name, mean, error in pooled(x, target, weights, split(3_000, 3), 2)["importance"]
    }
    for number, name in enumerate(FEATURES):
        mean, error = found[name]
        slack = 4.0 * math.hypot(error, float(expected.importances_std[number]) / math.sqrt(20)) + 1e-12
        assert abs(mean - expected.importances_mean[number]) <= slack
    assert found["z"] == (0.0, 0.0)
    assert found["x"][0] > found["y"][0] > 0.1


def test_importance_of_a_number_is_in_the_square_of_its_own_units() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(2_000, 3))
    weights, scaling = np.array([1.0, 0.5, 0.0]), Scaling((0.0,) * 3, (1.0,) * 3, 100.0, 7.0)
    target = 100.0 + 7.0 * (x @ weights)
    model = LinearRegression().fit(x, target)
    expected = permutation_importance(
        model, x, target, scoring="neg_mean_squared_error", n_repeats=20, random_state=1
    )
    found = pooled(x, target, weights, split(2_000, 2), 0, scaling)["importance"]
    assert [one[0] for one in found] == ["x", "y", "z"]
    for (_, mean, _), known in zip(found, expected.importances_mean, strict=True):
        assert mean == pytest.approx(known, rel=0.08, abs=1e-9)


def test_of_very_many_rows_some_are_shuffled_and_the_importance_is_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, target, weights = classes(4_000, 6)
    whole = {one[0]: one for one in pooled(x, target, weights, [np.arange(4_000)], 2)["importance"]}
    monkeypatch.setattr(importance, "MOST_PREDICTIONS", 15_000)
    drawn = {one[0]: one for one in pooled(x, target, weights, [np.arange(4_000)], 2)["importance"]}
    assert drawn != whole
    assert drawn["x"][1] == pytest.approx(whole["x"][1], rel=0.2)


def test_the_inputs_of_one_feature_are_shuffled_together() -> None:
    """Alone neither of two indicators tells the level that the target is."""
    rng = np.random.default_rng(8)
    level = rng.integers(0, 3, 900)
    x = np.column_stack([level == 1, level == 2, rng.normal(size=900)]).astype(float)
    encoding = Encoding(
        (ColumnEncoding("colour", ColumnKind.CATEGORY, "indicators", ("a", "b", "c")), ColumnEncoding("z"))
    )
    target = (level == 1).astype(float)
    found = pooled(x, target, np.array([8.0, -8.0, 0.0]), split(900, 2), 2, encoding=encoding)
    assert [one[0] for one in found["importance"]] == ["colour", "z"]
    assert found["importance"][0][1] > 0.5


# Parts.


def test_parts_hold_five_subjects_each_and_no_edge_is_finer_than_it_has_to_be() -> None:
    rng = np.random.default_rng(9)
    for rows in (0, 3, 9, 10, 11, 40, 1000):
        places = cells.place(2.0 * rng.normal(size=rows))
        starts = cells.cut(places)
        assert starts[0] == 0
        held = np.histogram(places, [*starts, cells.CELLS])[0]
        assert held.min() >= min(5, rows)
        assert held.sum() == rows
        for edge in starts[1:]:
            around = np.sort(np.abs(places - edge))
            # A finer edge than a neighbouring one is where more rows are than a coarser could part.
            assert around.size >= 10


def test_one_row_more_or_less_is_not_seen_where_it_stands() -> None:
    """A lone row far from the others is told with those next to it, where the mean of them all is."""
    scores = np.concatenate([np.linspace(-1.0, 1.0, 50), [7.5]])
    where, chances = cells.place(scores), sigmoid(scores)
    rows, sums = (np.bincount(where, one, minlength=cells.CELLS) for one in (np.ones(51), chances))
    told = cells.tell(np.stack([rows, np.zeros(cells.CELLS), sums]), cells.cut(where))[0]
    assert told.max() < 0.9
    assert told[cells.place(np.array([7.5]))[0]] == 0.0
    assert told.sum() == pytest.approx(51.0)


def test_subjects_of_several_rows_count_once() -> None:
    rows = 40
    features = np.linspace(-3.0, 3.0, rows)[:, None] * np.ones(3)
    subjects = np.arange(rows) // 4
    table = Table.from_rows(features, (subjects % 2).astype(np.float64), subjects, np.ones(rows, dtype=bool))
    layout = ReportLayout(2, 3, 3)
    vector = report(
        table,
        task_of(Scaling((0.0,) * 3, (1.0,) * 3)),
        layout,
        lambda inputs: inputs @ np.array([1.0, 0.0, 0.0]),
        np.random.default_rng(1),
    )
    told = layout.split(vector)["cells"]
    # Ten subjects are two parts of five, each told in the tenth where its mean is; by class as one.
    chances = sigmoid(features[:, 0])
    assert told[2].sum() == pytest.approx(chances.sum())
    rows_of_tenths = told[:2].sum(axis=0).reshape(10, -1).sum(axis=1)
    assert sorted(rows_of_tenths.tolist())[-2:] == pytest.approx([20.0, 20.0])
    assert told[1].sum() == pytest.approx(20.0)


# Outliers.


def outliers_of(column: Vector, subjects: Any = None) -> float:
    features = np.column_stack([column, np.zeros(column.size), np.zeros(column.size)])
    codes = np.arange(column.size) if subjects is None else subjects
    table = Table.from_rows(
        features, (np.arange(column.size) % 2).astype(np.float64), codes, np.zeros(column.size, dtype=bool)
    )
    layout = ReportLayout(2, 3, 3)
    task = task_of(Scaling((0.0,) * 3, (1.0,) * 3))
    vector = report(table, task, layout, lambda inputs: inputs @ np.zeros(3), np.random.default_rng(1))
    return float(layout.split(vector)["outliers"][0])


def test_outliers_are_told_where_they_are_five_subjects_or_more() -> None:
    quiet = np.zeros(50)
    assert outliers_of(quiet) == 0
    assert outliers_of(np.where(np.arange(50) < 4, 9.0, quiet)) == 0
    assert outliers_of(np.where(np.arange(50) < 5, -9.0, quiet)) == 5
    assert outliers_of(np.where(np.arange(50) < 5, 9.0, quiet), np.arange(50) // 5) == 0
    assert outliers_of(np.where(np.arange(50) < 47, 9.0, quiet)) == 0
    assert outliers_of(np.where(np.arange(50) < 5, np.nan, quiet)) == 0


# What no rows have led to.


@pytest.mark.parametrize("classes_", [0, 2, 4])
def test_an_answer_that_no_rows_have_is_refused(classes_: int) -> None:
    x, target, weights = classes(200 if classes_ < 4 else 4_000, 3)
    if classes_ == 4:
        weights = np.random.default_rng(3).normal(size=(3, 4))
        target = (np.arange(4_000) % 4).astype(np.float64)
    layout = ReportLayout(classes_, 3, 3)
    table = Table.from_rows(x, target, np.arange(target.size), np.ones(target.size, dtype=bool))
    task = task_of(Scaling((0.0,) * 3, (1.0,) * 3))
    vector = report(table, task, layout, lambda inputs: inputs @ weights, np.random.default_rng(1))
    assert report_fault(layout, vector) is None
    changes: list[tuple[str, Any, float]] = [
        ("head", 0, 0.5), ("head", 0, -500.0), ("quality", 0, -1e9), ("shuffled", 0, 1.0),
        ("importance", (0, 0), 1e301), ("outliers", 0, 0.5), ("outliers", 0, -1.0),
    ]  # fmt: skip
    if classes_ == 2:
        changes += [("cells", (0, 7), -1.0), ("cells", (1, 7), 3.0), ("cells", (2, 7), 500.0), ("cells", (2, 7), -500.0),
                    ("correction", 0, 1e6), ("correction", 1, 1.0), ("quality", 0, 1e3)]  # fmt: skip
    if classes_ == 4:
        changes += [("confusion", (0, 0), 1.0), ("confusion", (1, 2), -3e3), ("confusion", (1, 2), 0.5)]
    for block, place, by in changes:
        wrong = vector.copy()
        layout.split(wrong)[block][place] += by
        assert report_fault(layout, wrong) is not None, (block, place, by)
    empty = np.zeros(layout.size)
    assert report_fault(layout, empty) is None
    layout.split(empty)["importance"][0, 0] = 1.0
    assert report_fault(layout, empty) is not None
