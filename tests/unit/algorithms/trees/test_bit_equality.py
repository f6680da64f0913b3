"""The same bins and seed give the same trees to the bit, however rows are spread over nodes that answer exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heliosdb.domain.encoding import Encoding
from tests.unit.algorithms.trees.federation import NAMES, encoded, grow, make_course, split, table

ROWS, INPUTS = 300, 5


def ugly(classes: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of every kind: normal, rare values, huge means, whole numbers, missing values, outliers, levels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, INPUTS))
    x[:, 1] = 1e9 + 1e-3 * x[:, 1]
    x[:, 2] = rng.integers(0, 5, ROWS)
    x[:, 3] = np.exp(8 * x[:, 3]) * rng.choice([-1.0, 1.0], ROWS)
    score = 2 * x[:, 0] + (x[:, 2] - 2) + rng.normal(size=ROWS)
    x[:, 4] = rng.integers(0, 7, ROWS)
    score += np.array([3.0, -3, 2, -2, 0, 1, -1])[x[:, 4].astype(int)]
    x[rng.random(x.shape) < 0.1] = np.nan
    target = score if not classes else np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    return x, target.astype(float)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("levels", [None, {4: 7}], ids=["numbers", "a category"])
def test_one_node_and_several_grow_the_same_trees(
    name: str, classes: int, levels: dict[int, int] | None
) -> None:
    options: dict[str, Any] = {"trees": 6, "max_depth": 4, "min_rows_per_leaf": 5, "bins": 16}
    if name == "gradient_boosting":
        options["learning_rate"] = 0.3
    course, encoding = make_course(name, INPUTS, **options), encoded(INPUTS, classes, levels)
    rows = table(*ugly(classes))

    whole = grow(course, [rows], encoding)

    assert (whole.state["feature"] >= 0).sum() > 20
    for nodes in (2, 5):
        assert grow(course, split(rows, nodes, seed=nodes), encoding).sha256 == whole.sha256


def test_rows_are_drawn_alike_wherever_they_lie() -> None:
    course = make_course(
        "gradient_boosting", INPUTS, trees=6, max_depth=3, subsample=0.5, min_rows_per_leaf=5
    )
    rows, encoding = table(*ugly(2)), encoded(INPUTS, 2)

    whole = grow(course, [rows], encoding)

    assert grow(course, split(rows, 3), encoding).sha256 == whole.sha256
    other = grow(
        make_course("gradient_boosting", INPUTS, trees=6, max_depth=3, min_rows_per_leaf=5), [rows], encoding
    )
    assert other.sha256 != whole.sha256


def test_the_order_of_rows_leaves_no_trace_and_the_seed_does() -> None:
    x, y = ugly(2)
    encoding, mixed = encoded(INPUTS, 2), np.random.default_rng(5).permutation(ROWS)

    def found(seed: int, order: Any) -> str:
        course = make_course("random_forest", INPUTS, trees=10, max_depth=4, rounds=1, seed=seed)
        return grow(course, [table(x[order], y[order])], encoding).sha256

    assert found(1, slice(None)) == found(1, mixed)
    assert found(1, slice(None)) != found(2, slice(None))


def test_huge_values_in_the_target_do_not_leave_the_exact_numbers() -> None:
    x, y = ugly(0)
    y[:3] = [1e6, -1e8, 1e9]
    for name in NAMES:
        course = make_course(name, INPUTS, trees=10, max_depth=3, rounds=2)
        whole = grow(course, [table(x, y)], Encoding(encoded(INPUTS, 0).columns))
        assert np.isfinite(whole.score(x)).all()
        assert grow(course, split(table(x, y), 3), encoded(INPUTS, 0)).sha256 == whole.sha256
