"""Trees under a budget: what leaves say, what rounds cost, and what is left of a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.leaf_values import read_leaves
from heliosdb.algorithms.trees.private_learner import STRETCH, PrivateLearner
from heliosdb.algorithms.trees.structure import Drawing, normal_edges
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Scaling
from heliosdb.privacy.accountant import Accountant
from heliosdb.scoring.trees import Prepared
from tests.security.private_trees import BOOSTING, FOREST, leaves_task, make_model
from tests.unit.algorithms.trees.federation import encoded, table
from tests.unit.algorithms.trees.private_federation import Grown, grow_privately, private_course

LEVELS = {3: 3}


def drawn(rows: int = 3_000, seed: int = 0, held_out: float = 0.0) -> Table:
    """Two classes by two of four inputs, one of which is a category of three levels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    x[:, 3] = rng.integers(0, 3, size=rows)
    y = (x[:, 0] + 2.0 * (x[:, 3] == 1) + 0.3 * rng.normal(size=rows) > 0.5).astype(float)
    return table(x, y, rng.random(rows) < held_out)


def parts(rows: Table, nodes: int = 3) -> list[Table]:
    return [rows.where(np.arange(rows.rows) % nodes == node) for node in range(nodes)]


def run(name: str, tables: list[Table], *, classes: int = 2, **options: Any) -> Grown:
    course = private_course(name, 4, **({"trees": 20, "rounds": 4, "learning_rate": 0.3} | options))
    return grow_privately(course, tables, encoded(4, classes, LEVELS))


@pytest.mark.parametrize(("name", "classes"), [(FOREST, 2), (FOREST, 0), (BOOSTING, 2), (BOOSTING, 0)])
def test_before_the_noise_sums_are_those_of_the_rows_in_each_leaf(name: str, classes: int) -> None:
    """Beside a reference that sends each row down each tree by itself, as the catalog would."""
    rng = np.random.default_rng(1)
    rows = table(rng.normal(50.0, 30.0, size=(500, 2)), rng.integers(0, 2, size=500))
    model, finished = make_model(name, 3, depth=3, classes=classes, value=0.25), 1
    task = leaves_task(name, model, finished=finished, classes=classes, budget=Budget(8.0, 1e-5))
    made = algorithm(name).steps[task.key.step].compute(rows, task, NO_STATE, TaskDraws(task, b"secret"))
    learner = PrivateLearner(classes, name == BOOSTING)
    scores = np.full((500, 1), 0.25) if name == BOOSTING else np.empty((500, 0))
    added = learner.rows(rows.target, scores)
    if learner.counts:
        added = np.stack([rows.target == 0, rows.target == 1]).astype(float)
    arrays = {**model.to_state(), "levels": np.zeros(2, dtype=np.int64)}
    expected = []
    for tree, (_, _, ends) in enumerate(Prepared(arrays).leaves(rows.features)):
        leaves = np.flatnonzero((model.trees.tree == tree) & (model.trees.feature < 0))
        expected += [added[:, ends == leaf].sum(axis=1) for leaf in leaves] if tree >= finished else []
    assert np.allclose(made.vector, np.array(expected).T.ravel() / math.sqrt(2), atol=1e-3)


def test_leaves_without_noise_are_newton_s_steps_and_the_shares_of_their_rows() -> None:
    counts = np.array([[[300.0, 100.0, 40.0, 0.0]], [[100.0, 300.0, 0.0, 0.0]]])
    forest = read_leaves(PrivateLearner(2, False), counts, 1e-9, least=1, rate=1.0, begins=True)
    whole = 400 / 840
    moved = [(one - whole * n) / (n + 1) for one, n in ((100, 400), (300, 400), (0, 40))]
    expected = np.clip([whole + STRETCH * one for one in moved], 1e-3, 1.0)
    others = np.clip([1.0 - whole - STRETCH * one for one in moved], 1e-3, 1.0)
    # An empty leaf says what those beside it say: nobody was in the other one's rows of class 1, either.
    assert forest.values[:3, 0] == pytest.approx(expected / (expected + others))
    assert forest.values[3, 0] == pytest.approx(forest.values[2, 0])
    assert forest.cover.tolist() == [400.0, 400.0, 40.0, 1.0]

    slopes, curved = np.array([-30.0, 20.0, 5.0, -5.0]), np.array([50.0, 60.0, 20.0, 10.0])
    sums = np.stack([3.0 * curved, slopes])[:, None]
    boosted = read_leaves(PrivateLearner(2, True), sums, 1e-9, least=1, rate=0.1, begins=False)
    assert boosted.values[:, 0] == pytest.approx(-0.1 * slopes / (curved + 1.0))
    assert boosted.shift == 0.0
    begun = read_leaves(PrivateLearner(2, True), sums, 1e-9, least=1, rate=0.1, begins=True)
    assert begun.shift == pytest.approx(10.0 / 141.0)


def test_a_leaf_with_too_few_rows_says_what_the_node_above_it_says() -> None:
    counts = np.array([[[100.0, 4.0, 50.0, 60.0]], [[60.0, 10.0, 50.0, 60.0]]])
    read = read_leaves(PrivateLearner(2, False), counts, 1e-9, least=20, rate=1.0, begins=True)
    whole = 180 / 394
    expected = [
        whole + STRETCH * (ones - whole * n) / (n + 1) for ones, n in ((60, 160), (70, 174), (50, 100))
    ]
    assert read.values[:3, 0] == pytest.approx(expected)


def test_with_noise_a_leaf_says_less() -> None:
    sums = np.array([[[300.0, 300.0]], [[-40.0, 40.0]]])
    said = [
        float(
            abs(
                read_leaves(PrivateLearner(2, True), sums, noise, least=1, rate=1.0, begins=False).values
            ).max()
        )
        for noise in (0.001, 30.0, 300.0, 3e4)
    ]
    assert said == sorted(said, reverse=True)
    assert said[-1] < 0.01 * said[0]


@pytest.mark.parametrize("name", [FOREST, BOOSTING])
def test_a_run_spends_its_budget_on_one_release_a_round_and_no_more(name: str) -> None:
    grown = run(name, parts(drawn(held_out=0.2)), epsilon=8.0, validation_split=0.2, validation_frequency=2)
    steps = [step for step, _ in grown.charged]
    assert steps.count("leaves") == (2 if name == FOREST else 4)
    spent = Accountant(1e-5).epsilon(*(mechanism for _, mechanism in grown.charged))
    assert 0.95 * 8.0 < spent <= 8.0
    assert grown.figures[-1] is not None
    inputs = drawn(seed=9)
    assert roc_auc_score(inputs.target, grown.score(inputs.features)) > 0.9
    assert abs(grown.figures[-1].accuracy - 0.85) < 0.15


def test_drawing_a_part_of_the_subjects_is_accounted_as_sampling() -> None:
    whole, part = (run(BOOSTING, parts(drawn()), subsample=share, epsilon=2.0) for share in (1.0, 0.2))
    mechanisms = [next(one for step, one in grown.charged if step == "leaves") for grown in (whole, part)]
    assert [one.sampling_rate for one in mechanisms] == [1.0, 0.2]
    assert mechanisms[1].noise_multiplier < mechanisms[0].noise_multiplier
    assert Accountant(1e-5).epsilon(*(one for _, one in part.charged)) <= 2.0


@pytest.mark.parametrize(("name", "classes"), [(FOREST, 0), (BOOSTING, 0), (FOREST, 3)])
def test_numbers_and_more_classes_are_learned_too(name: str, classes: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(6_000, 4))
    x[:, 3] = rng.integers(0, 3, size=6_000)
    y = x[:, 3] if classes else 10.0 + 5.0 * x[:, 0] + 5.0 * x[:, 3]
    grown = run(name, parts(table(x, y)), classes=classes, epsilon=8.0, trees=60, rounds=6)
    said = grown.score(x)
    if classes:
        assert np.mean(np.argmax(said, axis=1) == y) > 0.9
    else:
        assert np.corrcoef(said, y)[0, 1] > 0.85
        assert np.mean(said) == pytest.approx(np.mean(y), abs=1.0)


def test_boosting_of_more_classes_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(FederatedError, match="more than two classes is not supported under") as caught:
        run(BOOSTING, parts(drawn()), classes=3)
    assert (caught.value.code, caught.value.hint) == (ErrorCode.NOT_SUPPORTED, "random_forest learns them.")


def test_a_run_says_how_deep_its_trees_are_and_when_noise_leaves_nothing() -> None:
    (said,) = run(BOOSTING, parts(drawn(900)), epsilon=4.0).notes[1:]
    assert "levels deep, not 8: deeper leaves would hold too few data subjects" in said
    drowned = run(BOOSTING, parts(drawn(300)), epsilon=4.0, trees=2_000, rounds=10, max_depth=1)
    assert "times a leaf's noise: fewer trees" in drowned.notes[-1]


def test_the_same_run_draws_the_same_trees_and_another_seed_others() -> None:
    edges = normal_edges(Scaling((0.0, 5.0), (1.0, 2.0)), (0, 0), (False, True), 8)
    assert edges.counts.tolist() == [7, 1]
    assert edges.parts()[1].tolist() == [0.5]
    empty = Trees.empty(1, 0)
    made = [Drawing(edges, (0, 0), 3, seed).added(empty, 4) for seed in (1, 1, 2)]
    splits = [one.split.tolist() for one in made]
    assert splits[0] == splits[1] != splits[2]
    one_by_one = Drawing(edges, (0, 0), 3, 1).added(Drawing(edges, (0, 0), 3, 1).added(empty, 1), 3)
    assert one_by_one.split.tolist() == splits[0]


def test_inputs_without_an_edge_leave_single_leaves() -> None:
    edges = normal_edges(Scaling((0.0,), (1.0,)), (1,), (False,), 8)
    trees = Drawing(edges, (1,), 3, 1).added(Trees.empty(1, 0), 2)
    assert (edges.counts.tolist(), trees.size, trees.count) == ([0], 2, 2)


@pytest.mark.parametrize("rows", [50, 500])
def test_leaves_alone_are_scored_where_nothing_splits_a_category(rows: int) -> None:
    """Rows beyond a hundred go as bits, which looked for a subset that there is none of."""
    trees = Drawing(normal_edges(Scaling((0.0,), (1.0,)), (0,), (False,), 2), (0,), 0, 1)
    made = trees.added(Trees.empty(1, 20), 2).to_arrays()
    for edges, counts, levels in ((np.arange(18) + 0.5, [18], [19]), (np.empty(0), [0], [0])):
        arrays = {**made, "edges": edges, "n_edges": np.array(counts), "levels": np.array(levels)}
        found = list(Prepared(arrays).leaves(np.full((rows, 1), 18.0)))
        assert [np.unique(ends).tolist() for _, _, ends in found] == [[0], [1]]


def test_one_release_is_as_long_as_its_round_s_leaves() -> None:
    grown = run(FOREST, parts(drawn()), trees=20, rounds=2, max_depth=2)
    assert Mechanism(grown.charged[-1][1].noise_multiplier) == grown.charged[-1][1]
    assert (
        Trees.read(grown.state, 1, np.array([65, 65, 65, 4]), np.array([False] * 3 + [True])).size == 20 * 7
    )
