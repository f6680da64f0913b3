"""Trees are those of a slow reference that looks at one row and one split at a time; and as good as scikit-learn's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score

from heliosdb.algorithms.trees import growing
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.leaves import BoostingLearner
from heliosdb.scoring.players import Players
from heliosdb.scoring.shapley import prepare_explanation
from heliosdb.scoring.tree_shapley import has_covers
from tests.unit.algorithms.trees.federation import Grown, encoded, grow, make_course, split, table

OPTIONS: dict[str, Any] = {"trees": 5, "max_depth": 3, "min_rows_per_leaf": 4, "bins": 8, "rounds": 2}


@dataclass
class Node:
    """A node of the reference's tree, of rows by their numbers."""

    rows: list[int]
    value: float
    split: tuple[int, Any, bool] | None = None
    children: tuple[Node, Node] | None = None


def bins_of(x: np.ndarray, edges: list[np.ndarray]) -> list[list[int | None]]:
    """Each row's bin of each input, one value at a time; None: it is missing."""
    return [
        [None if math.isnan(v) else sum(1 for edge in edges[j] if edge < v) for j, v in enumerate(row)]
        for row in x
    ]


def best_split(
    node: Node, bins: Any, first: Any, second: Any, edges: Any, levels: dict[int, int], least: int
) -> Any:
    """The best split, every candidate tried by adding up rows."""

    def sums(rows: list[int]) -> tuple[int, float, float]:
        return len(rows), float(sum(second[i] for i in rows)), float(sum(first[i] for i in rows))

    def worth(s: tuple[int, float, float]) -> float:
        return s[2] * s[2] / s[1]

    best: Any = None
    whole = sums(node.rows)
    for j in range(len(edges)):
        missing = [i for i in node.rows if bins[i][j] is None]
        order = list(range(len(edges[j]) + 1))
        if j in levels:
            groups = {b: [i for i in node.rows if bins[i][j] == b] for b in order}
            rate = {b: (sums(g)[2] / sums(g)[1] if g else math.inf) for b, g in groups.items()}
            order.sort(key=lambda b: rate[b])
        for count in range(1, len(order)):
            for missing_left in (False, True):
                left_bins = set(order[:count])
                left = [i for i in node.rows if bins[i][j] in left_bins] + (missing if missing_left else [])
                right = sorted(set(node.rows) - set(left))
                if min(len(left), len(right)) < least:
                    continue
                a, b = sums(left), sums(right)
                gain = worth(a) + worth(b) - worth(whole)
                if gain > 1e-10 * (worth(a) + worth(b)) and (best is None or gain > best[0]):
                    side = missing_left if missing else len(left) >= len(right)
                    best = (gain, j, left_bins, side, left, right)
    return best


def reference(
    x: np.ndarray, y: np.ndarray, edges: list[np.ndarray], levels: dict[int, int], rate: float
) -> np.ndarray:
    """Scores of boosting on two classes, grown row by row."""
    bins, unit = bins_of(x, edges), 2.0**30
    scores = np.full(len(y), math.log((y.sum() + 0.5) / (len(y) - y.sum() + 0.5)))
    for _ in range(OPTIONS["trees"]):
        p = 0.5 * (1.0 + np.tanh(0.5 * scores))
        first, second = np.rint((p - y) * unit), np.rint(p * (1 - p) * unit)
        level = [Node(list(range(len(y))), 0.0)]
        level[0].value = -first.sum() / second.sum() * rate
        for _ in range(OPTIONS["max_depth"]):
            below = []
            for node in level:
                found = best_split(node, bins, first, second, edges, levels, OPTIONS["min_rows_per_leaf"])
                if found is None or len(node.rows) < 2 * OPTIONS["min_rows_per_leaf"]:
                    scores[node.rows] += node.value
                    continue
                for rows in found[4:]:
                    value = -sum(first[i] for i in rows) / sum(second[i] for i in rows) * rate
                    below.append(Node(sorted(rows), value))
            level = below
        for node in level:
            scores[node.rows] += node.value
    return scores


@pytest.mark.parametrize("levels", [{}, {2: 6}], ids=["numbers", "a category"])
def test_trees_are_those_of_a_reference_that_tries_every_split_row_by_row(levels: dict[int, int]) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(90, 3))
    x[:, 1] = rng.integers(0, 3, 90)
    x[:, 2] = rng.integers(0, 6, 90)
    y = (x[:, 0] + np.array([1.5, -2, 0.5, 2, -1, 0])[x[:, 2].astype(int)] + rng.normal(size=90) > 0).astype(
        float
    )
    x[rng.random(x.shape) < 0.15] = np.nan
    course = make_course("gradient_boosting", 3, learning_rate=0.5, **OPTIONS)

    found = grow(course, split(table(x, y), 3), encoded(3, 2, levels))

    edges = np.split(found.state["edges"], np.cumsum(found.state["n_edges"])[:-1])
    expected = reference(x, y, edges, levels, 0.5)
    np.testing.assert_allclose(found.score(x), 1.0 / (1.0 + np.exp(-expected)), rtol=1e-13)
    assert (found.state["feature"] == 2).any()


def halves(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    chosen = np.random.default_rng(11).random(len(y)) < 0.5
    return x[chosen], y[chosen], x[~chosen], y[~chosen]


def trained(name: str, x: np.ndarray, y: np.ndarray, classes: int, **options: Any) -> Grown:
    course = make_course(name, x.shape[1], **({"rounds": 20} | options))
    return grow(course, split(table(x, y), 3), encoded(x.shape[1], classes))


def test_two_classes_are_told_as_well_as_by_scikit_learn() -> None:
    x, y, new, truth = halves(*load_breast_cancer(return_X_y=True))
    boosted = trained(
        "gradient_boosting", x, y, 2, trees=60, max_depth=4, learning_rate=0.1, min_rows_per_leaf=10
    )
    forest = trained("random_forest", x, y, 2, trees=60, max_depth=6, min_rows_per_leaf=1)

    theirs = HistGradientBoostingClassifier(
        max_iter=60,
        max_depth=4,
        learning_rate=0.1,
        min_samples_leaf=10,
        max_leaf_nodes=None,
        early_stopping=False,
    ).fit(x, y)
    wood = RandomForestClassifier(60, max_depth=6, random_state=1).fit(x, y)
    assert (
        roc_auc_score(truth, boosted.score(new))
        >= roc_auc_score(truth, theirs.predict_proba(new)[:, 1]) - 0.004
    )
    assert (
        roc_auc_score(truth, forest.score(new)) >= roc_auc_score(truth, wood.predict_proba(new)[:, 1]) - 0.004
    )


def test_a_number_is_predicted_as_well_as_by_scikit_learn() -> None:
    x, y, new, truth = halves(*load_diabetes(return_X_y=True))
    boosted = trained("gradient_boosting", x, y, 0, trees=40, max_depth=3, learning_rate=0.1)
    forest = trained("random_forest", x, y, 0, trees=60, max_depth=6, min_rows_per_leaf=5)

    theirs = HistGradientBoostingRegressor(
        max_iter=40, max_depth=3, learning_rate=0.1, max_leaf_nodes=None
    ).fit(x, y)
    wood = RandomForestRegressor(60, max_depth=6, min_samples_leaf=5, random_state=1, max_features=1 / 3).fit(
        x, y
    )
    assert r2_score(truth, boosted.score(new)) >= r2_score(truth, theirs.predict(new)) - 0.03
    assert r2_score(truth, forest.score(new)) >= r2_score(truth, wood.predict(new)) - 0.03


def test_three_classes_are_told_and_their_probabilities_add_up() -> None:
    x, y, new, truth = halves(*load_wine(return_X_y=True))
    for name, more in (("gradient_boosting", {"learning_rate": 0.2}), ("random_forest", {})):
        found = trained(name, x, y, 3, trees=20, max_depth=3, min_rows_per_leaf=3, **more).score(new)
        assert found.shape == (len(new), 3)
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
        assert accuracy_score(truth, found.argmax(axis=1)) > 0.9


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_figures_over_held_out_rows_are_those_of_the_predictions(name: str, classes: int) -> None:
    x, y = load_wine(return_X_y=True)
    y = np.minimum(y, 1) if classes == 2 else (x[:, 0] * 10 if classes == 0 else y)
    held_out = np.arange(len(y)) % 3 == 0
    course = make_course(name, 13, trees=10, rounds=1, max_depth=3, min_rows_per_leaf=5, validation_split=0.3)

    found = grow(course, split(table(x, y, held_out), 3), encoded(13, classes))

    (figures,) = (one for one in found.figures if one is not None)
    predicted, truth = found.score(x[held_out]), y[held_out]
    if classes == 0:
        assert figures.accuracy == pytest.approx(r2_score(truth, predicted), rel=1e-9)
        assert figures.rmse == pytest.approx(np.sqrt(np.mean(np.square(truth - predicted))), rel=1e-9)
    elif classes == 2:
        assert figures.accuracy == pytest.approx(np.mean((predicted > 0.5) == truth))
        assert figures.loss == pytest.approx(log_loss(truth, predicted), rel=1e-9)
    else:
        assert figures.accuracy == pytest.approx(np.mean(predicted.argmax(axis=1) == truth))
        assert figures.loss == pytest.approx(log_loss(truth, predicted), rel=1e-9)


def test_what_is_not_enough_to_split_is_a_single_leaf() -> None:
    x, y = np.arange(30.0)[:, None], np.repeat([0.0, 1.0], 15)
    for name in ("random_forest", "gradient_boosting"):
        found = grow(make_course(name, 1, trees=2, rounds=1), [table(x, y)])
        assert found.state["feature"].tolist() == [-1, -1]
        assert found.score(x) == pytest.approx(np.full(30, 0.5), abs=0.2)


def test_sums_that_a_node_makes_up_within_bounds_do_not_make_leaves_that_no_task_may_carry() -> None:
    learner = BoostingLearner(2, 10)
    sums = np.array([[1e12], [0.0], [-1e12 * 2**10]])
    assert not learner.fault(sums)

    trees = (
        Trees.empty(1, 0).with_roots(1).with_values(np.array([0]), learner.values(sums)).closed(np.array([0]))
    )

    assert Trees.read(trees.to_arrays(), 1, np.array([4]), np.array([False])).values.tolist() == [[1e9]]


def test_a_coordinator_asks_no_more_at_once_than_a_node_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(300, 3))
    rows = [table(x, x[:, 0] * x[:, 1] > 0)]
    whole = grow(make_course("random_forest", 3, **OPTIONS), rows)
    monkeypatch.setattr(growing, "MOST_PADDED", 3 * 2 * 10)

    found = grow(make_course("random_forest", 3, **OPTIONS), rows)

    np.testing.assert_array_equal(found.score(x), whole.score(x))


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
def test_what_went_to_each_node_is_kept_with_the_model_and_explains_it(name: str) -> None:
    rng = np.random.default_rng(8)
    features = rng.normal(size=(300, 3))
    target = (features[:, 0] + rng.normal(size=300) > 0).astype(float)
    grown = grow(make_course(name, 3, **OPTIONS), split(table(features, target), 3), encoded(3, 2))
    made = grown.prediction
    inner = made.arrays["feature"] >= 0
    left, cover = made.arrays["left"][inner], made.arrays["cover"]
    assert has_covers(made.arrays)
    # With one subject a row no node leaves a branch, so sums of children are those of their parent.
    below = (made.arrays["cover"][inner] > 0).nonzero()[0]
    np.testing.assert_array_equal((cover[left] + cover[left + 1])[below], cover[inner][below])
    explain = prepare_explanation(made.kind, made.content, made.arrays, Players(np.arange(3), 3))
    found = explain(features[:20], None)
    told = found.base + found.contributions.sum(axis=2)
    shares = grown.score(features[:20])
    expected = np.log(shares / (1 - shares)) if name == "gradient_boosting" else shares
    np.testing.assert_allclose(told[:, 0], expected, atol=1e-9)
