"""What leaves a node about tree nodes and cells is about min_rows data subjects or about nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.crowds import Crowds
from heliosdb.algorithms.trees.grown import Splits, Trees
from heliosdb.coordinator.course import ModelState
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Scaling, Task
from tests.unit.algorithms.trees.federation import encoded, grow, make_course, split, table

NOBODY = np.zeros(1, dtype=np.int64)


def people(subjects: list[int], min_rows: int) -> Table:
    codes = np.array(subjects)
    none = np.zeros(codes.size, dtype=bool)
    return Table(np.zeros((codes.size, 1)), np.zeros(codes.size), codes, none, min_rows=min_rows)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 3))
def test_bins_are_joined_until_each_is_of_nobody_or_of_enough(
    bins: list[int], least: int, missing: int
) -> None:
    counts = np.bincount([*bins, *[7] * missing], minlength=8).astype(float)
    crowds = Crowds(np.ones(int(counts.sum())), least)
    if counts.sum() < least:
        return
    sums = np.stack([counts, 10 * np.arange(8) + counts])
    joined = crowds.joined(sums[:, None, None], counts[None, None])[:, 0, 0]
    np.testing.assert_allclose(joined.sum(axis=1), sums.sum(axis=1))
    assert np.all((joined[0] == 0) | (joined[0] >= least))
    if np.all((counts == 0) | (counts >= least)):
        # Where there is nothing to join, nothing moves.
        np.testing.assert_array_equal(joined[0], counts)


def chain(splits: int) -> Trees:
    """A tree of which each split's right side is split again."""
    trees = Trees.empty(1, 0).with_roots(1)
    node = np.array([0])
    for place in range(splits):
        flags = np.zeros(1, dtype=bool)
        found = Splits(
            np.array([0]),
            np.array([place]),
            flags,
            flags,
            np.zeros((1, 0), np.uint8),
            np.zeros((1, 2, 1)),
            np.array([[False, True]]),
            np.ones((1, 2)),
        )
        trees = trees.closed(node).grown(node, found)
        node = trees.open_nodes()
    return trees


def test_a_side_with_few_and_its_sibling_and_all_below_are_not_answered() -> None:
    trees = chain(2)
    assert trees.left.tolist() == [1, 0, 3, 0, 0]
    crowds = Crowds(np.ones(30), 5)
    for ends, expected in (
        ([1] * 10 + [3] * 10 + [4] * 10, [True] * 5),
        ([1] * 10 + [3] * 17 + [4] * 3, [True, True, True, False, False]),
        ([1] * 4 + [3] * 13 + [4] * 13, [True, False, False, False, False]),
        ([3] * 15 + [4] * 15, [True, False, True, True, True]),
    ):
        allowed = crowds.answered(trees, np.array(ends), np.ones(30, dtype=bool))
        assert allowed.tolist() == expected, ends


def test_a_subject_with_many_rows_is_one_of_a_crowd() -> None:
    crowds = Crowds.of(people([1] * 20 + [2, 3, 4], 4))
    assert crowds.firsts.sum() == 4
    trees = chain(1)
    ends = np.array([1] * 20 + [2] * 3)
    assert crowds.answered(trees, ends, np.ones(23, dtype=bool)).tolist() == [True, False, False]


def test_a_side_where_only_further_rows_of_subjects_lie_is_of_somebody() -> None:
    """A subject's first row is on the left, its second alone on the right: all less left is that row."""
    crowds = Crowds.of(people([*range(20), 0], 5))
    trees = chain(1)
    ends = np.array([1] * 20 + [2])
    assert crowds.answered(trees, ends, np.ones(21, dtype=bool)).tolist() == [True, False, False]
    # The same where the first row is not drawn.
    crowds = Crowds.of(people([*range(20), 20, 20], 5))
    ends, drawn = np.array([1] * 20 + [2, 2]), np.arange(22) != 20
    assert crowds.answered(trees, ends, drawn).tolist() == [True, False, False]


def test_what_no_node_could_hold_is_refused_before_a_row_is_read() -> None:
    task, step = first_task("gradient_boosting", rows_of(200), trees=2)
    step.check(task)
    trees = Trees.empty(1, 0).with_roots(1)
    many, inputs = 2_000, 400
    edges = np.concatenate([np.arange(1_000.0), *[np.zeros(1)] * (inputs - 1)])
    flat = {
        **trees.with_roots(many - 1).to_arrays(),
        "edges": edges,
        "n_edges": np.array([1_000] + [1] * (inputs - 1)),
        "base": task.state["base"],
        "asked": np.arange(many, dtype=np.int32),
        "candidates": np.tile(np.arange(inputs, dtype=np.int32), (many, 1)),
    }
    names = tuple(f"x{place}" for place in range(inputs))
    wide = replace(
        task,
        state=flat,
        reading=replace(task.reading, features=names),
        encoding=None,
        scaling=Scaling((0.0,) * inputs, (1.0,) * inputs),
        work=replace(task.work, size=many * 3 * (1_002 + 3 * (inputs - 1))),
    )
    with pytest.raises(FederatedError, match="more sums than an exchange has"):
        step.check(wide)


def test_a_chain_of_splits_is_refused_without_being_walked() -> None:
    trees = chain(33)
    with pytest.raises(FederatedError, match="trees are none"):
        Trees.read(trees.to_arrays(), 1, np.array([40]), np.array([False]))
    Trees.read(chain(32).to_arrays(), 1, np.array([40]), np.array([False]))


def first_task(name: str, rows: Table, **options: Any) -> tuple[Task, Any]:
    """The first task about trees of a run, and its step."""
    course = make_course(name, rows.features.shape[1], rounds=1, **options)
    encoding = encoded(rows.features.shape[1], 2)
    begun = grow(
        make_course(name, rows.features.shape[1], **(options | {"trees": 1, "rounds": 1})), [rows], encoding
    )
    state = {**begun.state, **Trees.empty(1, 0).to_arrays(), "cover": np.zeros(0)}
    plan = RunPlan(course.run, replace(begun.findings), RoundNumber(1), {NodeName("a"): float(rows.rows)})
    question = course.ask(plan, 0, course.algorithm.first(plan), ModelState(state), 1)
    return question.task(NodeName("a"), None, NO_STATE), question.step


def rows_of(count: int, min_rows: int = 1) -> Table:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(count, 3))
    return table(x, x[:, 0] > 0, min_rows=min_rows)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
def test_every_count_of_an_answer_is_of_nobody_or_of_min_rows(name: str) -> None:
    task, step = first_task(name, rows_of(300), trees=3)
    counts = {}
    for least in (1, 20):
        made = step.compute(rows_of(300, least), task, NO_STATE, TaskDraws(task, b"s"))
        channels = made.vector.reshape(3, -1)
        counts[least] = channels[0]
        assert np.all((channels[0] == 0) | (channels[0] >= least))
        assert not channels[1:, channels[0] == 0].any()
    assert 0 < counts[1][counts[1] > 0].min() < 20
    assert counts[20].sum() == counts[1].sum()


def test_cells_are_of_nobody_or_of_min_rows_and_too_few_rows_say_nothing() -> None:
    course = make_course("random_forest", 3, trees=1, rounds=1)
    step = course.algorithm.steps["quantiles"]  # type: ignore[index]
    plan = RunPlan(course.run, Findings(), RoundNumber(0))
    cells = np.linspace(-2, 2, 90)
    state = {"cells": cells, "n_cells": np.array([30, 30, 30])}
    state["cells"] = np.concatenate([np.linspace(-2, 2, 30)] * 3)
    question = course.ask(plan, 1, step.name, ModelState(state), 1)
    task = question.task(NodeName("a"), None, NO_STATE)
    made = step.compute(rows_of(200, 20), task, NO_STATE, TaskDraws(task, b"s")).vector
    assert np.all((made == 0) | (made >= 20))
    assert made.sum() == 600
    assert not step.compute(rows_of(19, 20), task, NO_STATE, TaskDraws(task, b"s")).vector.any()


def test_bins_that_move_between_tasks_are_refused_and_so_is_a_fifth_look() -> None:
    task, step = first_task("gradient_boosting", rows_of(200), trees=2)
    made = step.compute(rows_of(200), task, NO_STATE, TaskDraws(task, b"s"))
    kept = made.stays
    assert step.compute(rows_of(200), task, kept, TaskDraws(task, b"s")).stays is None
    moved = {**task.state, "edges": task.state["edges"] + 1e-9}
    with pytest.raises(FederatedError) as caught:
        step.compute(rows_of(200), replace(task, state=moved), kept, TaskDraws(task, b"s"))
    assert caught.value.code is ErrorCode.NODE_REFUSED

    # Who is drawn at one share, and not at the next, can be a single patient whose row the coordinator guesses.
    other = {**task.work.settings, "subsample": 0.5}
    with pytest.raises(FederatedError, match="bins or its subsample are not those") as caught:
        drawn = replace(task, work=replace(task.work, settings=other))
        step.compute(rows_of(200), drawn, kept, TaskDraws(task, b"s"))
    assert caught.value.code is ErrorCode.NODE_REFUSED

    counts = make_course("gradient_boosting", 3).algorithm.steps["quantiles"]  # type: ignore[index]
    cells = {"cells": np.zeros(0), "n_cells": np.zeros(3, dtype=np.int64)}
    asked = replace(task, state=cells, scaling=None, work=replace(task.work, size=6, settings={}))
    memory: Any = NO_STATE
    for _ in range(4):
        counts.check(asked)
        memory = counts.compute(rows_of(200), asked, memory, TaskDraws(asked, b"s")).stays
    for remembered in (memory, kept):
        with pytest.raises(FederatedError) as caught:
            counts.compute(rows_of(200), asked, remembered, TaskDraws(asked, b"s"))
        assert caught.value.code is ErrorCode.NODE_REFUSED


def test_trees_of_nodes_that_answer_of_crowds_alone_are_still_of_use() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(900, 4))
    y = x[:, 0] + x[:, 1] * x[:, 2] > 0
    course = make_course("gradient_boosting", 4, trees=40, max_depth=4, learning_rate=0.2)
    crowded = [replace(one, min_rows=20) for one in split(table(x, y), 3)]

    found = grow(course, crowded)

    new = rng.normal(size=(2000, 4))
    truth = new[:, 0] + new[:, 1] * new[:, 2] > 0
    assert np.mean((found.score(new) > 0.5) == truth) > 0.85
