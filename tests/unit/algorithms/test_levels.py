"""What nodes' rows tell of levels, lengths and classes, and the encoding that it leads to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.levels import (
    FEWEST_CELLS,
    LEVELS,
    MOST_CELLS,
    LevelsStep,
    LevelsWork,
    first_of_columns,
)
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.steps import Taken
from heliosdb.algorithms.table import RawColumn, Table
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Task
from heliosdb.domain.update import Total, Update
from heliosdb.domain.vector import Vector
from tests.contracts.journeys import compute
from tests.support.runs import RUN, with_options

STEP = LevelsStep("logistic_regression")
CATEGORY, ARRAY = ColumnKind.CATEGORY, ColumnKind.ARRAY


def texts(values: Sequence[str | None], target: Sequence[float] | None = None, **options: Any) -> Table:
    """A node's table of one text column; subjects: by default each row is one."""
    levels = tuple(sorted({value for value in values if value is not None}, key=str.encode))
    places = [math.nan if value is None else float(levels.index(value)) for value in values]
    rows = len(values)
    return Table(
        np.array(places).reshape(-1, 1),
        np.array(target if target is not None else [0.0, 1.0] * (rows // 2) + [0.0] * (rows % 2)),
        np.array(options.pop("subjects", range(rows)), dtype=np.int64),
        np.zeros(rows, dtype=np.bool_),
        columns=(RawColumn(CATEGORY, levels=levels),),
        **options,
    )


def plan_of(kind: ColumnKind = CATEGORY, classes: Sequence[str] = ("0", "1"), **options: Any) -> RunPlan:
    run = with_options(RUN, features=("city",), target="ill", **options)
    encoding = Encoding((ColumnEncoding("city", kind),), tuple(classes))
    return RunPlan(run, Findings(encoding=encoding), RoundNumber(0))


def ask(plan: RunPlan, state: State = NO_STATE) -> Task:
    question = Course.of(plan.run).ask(plan, 0, LEVELS, ModelState(state), 2)
    return question.task(NodeName("n"), "d", NO_STATE)


def read(plan: RunPlan, tables: Sequence[Table], state: State = NO_STATE) -> Taken:
    """One exchange: asked, checked, computed, judged, summed and read."""
    task, total = ask(plan, state), None
    STEP.check(task)
    for number, table in enumerate(tables):
        made = compute(STEP, table, task)
        assert made.vector.shape == (task.work.size,)
        fault = STEP.fault(plan, task.work, Update(NodeName(f"n{number}"), made.vector, made.weight))
        assert fault is None
        total = made.vector if total is None else total + made.vector
    assert total is not None
    return STEP.read(plan, state, Total(total, 1.0, len(tables)))


def column(taken: Taken) -> ColumnEncoding:
    assert taken.findings is not None
    assert taken.findings.encoding is not None
    return taken.findings.encoding.columns[0]


def test_the_levels_are_what_any_node_names_and_what_few_have_is_other() -> None:
    plan = plan_of()
    assert first_of_columns(plan) == LEVELS
    one = texts(["Rom"] * 9 + ["Ulm"] * 5 + ["rare"] * 4 + ["odd"])
    two = texts(["Rom"] * 20 + ["Köln"] * 6 + [None] * 5)

    taken = read(plan, [one, two])

    assert taken.following == STATISTICS
    found = column(taken)
    assert found.levels == ("Köln", "Rom", "Ulm")
    assert (found.null_level, found.other_level, found.form) == (True, True, "indicators")


def test_what_would_tell_of_fewer_than_five_subjects_is_not_told() -> None:
    rows = ["Rom"] * 30 + ["rare"] * 4 + [None] * 4
    task = ask(plan_of())

    told = compute(STEP, texts(rows), task).vector
    silent = compute(STEP, texts(["Rom"] * 38), task).vector

    # Nor is it what is left of all rows, which the answer's weight says.
    np.testing.assert_array_equal(told, silent)
    # Five rows of one subject are one subject's.
    subjects = [*range(30), 30, 30, 30, 30, 31, 31, 31, 31]
    one_subject = texts(["Rom"] * 30 + ["rare"] * 8, subjects=subjects)
    np.testing.assert_array_equal(compute(STEP, one_subject, task).vector, silent)


def test_of_more_levels_than_allowed_those_of_most_rows_are_kept() -> None:
    rows = [name for place, name in enumerate("abcdefgh") for _ in range(5 + place)]

    found = column(read(plan_of(max_levels=3), [texts(rows), texts(["a"] * 50 + ["h"] * 9)]))

    assert found.levels == ("a", "g", "h")
    assert found.other_level


def test_a_larger_count_is_demanded_where_the_model_says_so() -> None:
    rows = ["Rom"] * 30 + ["Ulm"] * 9
    assert column(read(plan_of(), [texts(rows)])).levels == ("Rom", "Ulm")
    assert column(read(plan_of(min_level_count=10), [texts(rows)])).levels == ("Rom",)


def test_a_table_that_cannot_be_read_is_asked_for_again_with_four_times_the_cells() -> None:
    rows = [f"level {number}" for number in range(600) for _ in range(5)]
    plan, state, exchanges = plan_of(max_levels=1000), NO_STATE, 0

    taken = read(plan, [texts(rows[:2000]), texts(rows[1000:])], state)
    while taken.following == LEVELS:
        assert taken.findings is None
        exchanges += 1
        assert int(taken.state["cells"][0]) == FEWEST_CELLS * 4**exchanges
        taken = read(plan, [texts(rows[:2000]), texts(rows[1000:])], taken.state)

    assert exchanges == 2
    assert len(column(taken).levels) == 600
    assert taken.state == NO_STATE


def test_of_too_many_levels_for_any_table_the_column_is_named() -> None:
    plan, largest = plan_of(), LevelsWork(MOST_CELLS, 1000, 5)
    unread = np.zeros(largest.size(1))
    unread[0] = 1.0
    state = {"cells": np.array([MOST_CELLS])}

    with pytest.raises(FederatedError, match='column "city" has too many different values') as caught:
        STEP.read(plan, state, Total(unread, 1.0, 1))
    assert caught.value.sqlstate == "22023"


def array(lengths: Sequence[float]) -> Table:
    values = np.array(lengths, dtype=float).reshape(-1, 1)
    rows = len(values)
    raw = RawColumn(ARRAY, width=1)
    return replace(texts(["x"] * rows), features=values, columns=(raw,))


def test_an_array_has_the_length_that_it_has_at_every_node() -> None:
    assert column(read(plan_of(ARRAY), [array([3.0] * 9 + [math.nan]), array([3.0] * 5)])).elements == 3
    with pytest.raises(
        FederatedError, match=r'"city" holds arrays of differing lengths at different nodes: 3, 4'
    ):
        read(plan_of(ARRAY), [array([3.0] * 9), array([4.0] * 9)])
    for lengths in ([3.0] * 9 + [4.0], [0.0] * 9, [-1.0] * 9):
        with pytest.raises(FederatedError, match='column "city" holds arrays of differing lengths'):
            read(plan_of(ARRAY), [array(lengths)])


def classes(tables: Sequence[Table]) -> tuple[str, ...]:
    taken = read(plan_of(ColumnKind.NUMBER, ()), tables)
    assert taken.findings is not None
    assert taken.findings.encoding is not None
    return taken.findings.encoding.classes


def numbers(target: Sequence[float]) -> Table:
    made = texts(["x"] * len(target), target)
    return replace(made, columns=(RawColumn(),))


def test_a_target_s_classes_are_in_order_and_one_node_may_have_one_of_them() -> None:
    assert classes([numbers([10.0] * 9), numbers([9.0] * 5 + [10.0])]) == ("9", "10")
    labels = texts(["x"] * 12, [0.0] * 6 + [1.0] * 6, labels=("ill", "Well"))
    assert classes([replace(labels, columns=(RawColumn(),))]) == ("Well", "ill")
    assert classes([numbers([3.0, 1.0, 2.0, 4.0] * 9)]) == ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ([1.0] * 9, "there is nothing to learn"),
        ([1.0] * 9 + [2.0] * 9 + [3.0, 4.0, 5.0, 6.0, 7.0], "some that too few data subjects"),
        ([0.25 * place for place in range(30)], "too few data subjects"),
    ],
)
def test_a_target_of_which_nothing_can_be_made_is_one_clear_error(target: list[float], said: str) -> None:
    with pytest.raises(FederatedError) as caught:
        classes([numbers(target)])
    assert said in caught.value.message


def test_a_column_of_values_that_nobody_shares_is_named() -> None:
    with pytest.raises(FederatedError, match='feature "city" has no value that 5 data subjects'):
        read(plan_of(), [texts([f"name {number}" for number in range(40)])])


def test_a_column_of_one_value_has_no_input_and_alone_it_is_an_error() -> None:
    with pytest.raises(FederatedError, match="every feature has the same value"):
        read(plan_of(), [texts(["Rom"] * 20)])
    two = Encoding((ColumnEncoding("city", CATEGORY), ColumnEncoding("age")), ("0", "1"))
    plan = replace(plan_of(), findings=Findings(encoding=two))
    plan = replace(plan, run=with_options(plan.run, features=("city", "age")))
    table = texts(["Rom"] * 20)
    wide = replace(table, features=np.hstack([table.features] * 2), columns=(*table.columns, RawColumn()))

    taken = read(plan, [wide])

    assert taken.notes == ("city has the same value everywhere",)
    assert taken.findings is not None
    assert taken.findings.encoding is not None
    assert taken.findings.encoding.inputs == ("age",)


def answer(rows: Sequence[str]) -> tuple[RunPlan, Task, Vector]:
    plan = plan_of()
    task = ask(plan)
    return plan, task, np.array(compute(STEP, texts(rows), task).vector)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, 2.0, "a count of its rows is none in column city"),
        (0, 1.0, "it tells of values that it says it cannot tell in column city"),
        (1, 0.5, "a count of its rows is none in column city"),
        (1, 41.0, "a count of its rows is none in column city"),
        (2, 30.0, "it counts more than the 40 rows that it states in column city"),
        (7, 1.0, "its table of values cannot be read in column city"),
    ],
)
def test_an_answer_that_no_rows_lead_to_is_judged(place: int, value: float, said: str) -> None:
    plan, task, vector = answer(["Rom"] * 20 + ["Ulm"] * 20)
    vector[place] = value

    assert STEP.fault(plan, task.work, Update(NodeName("n"), vector, 40.0)) == said
    assert STEP.fault(plan, task.work, Update(NodeName("n"), vector, 39.5)) is not None


def test_what_few_subjects_have_is_not_told_by_what_is_left_where_no_value_is_named() -> None:
    task = ask(plan_of())
    for rows in ([None] * 20 + ["rare"] * 3, [f"name {number}" for number in range(20)] + [None] * 3):
        told = compute(STEP, texts(rows), task)
        assert told.vector[1:3].sum() == told.weight == 23.0


def test_a_table_that_would_make_the_sum_of_all_nodes_unreadable_is_judged() -> None:
    plan, task, vector = answer(["Rom"] * 20 + ["Ulm"] * 20)
    cells = vector[3:].reshape(FEWEST_CELLS, -1)
    many = np.concatenate([vector[:3], (cells * 2.0**20).ravel()])
    many[3:].reshape(FEWEST_CELLS, -1)[:, 1] = cells[:, 1]

    said = STEP.fault(plan, task.work, Update(NodeName("n"), many, 40.0))

    assert said == "its table of values is not what one node writes in column city"


def test_a_node_that_says_the_largest_table_is_too_small_is_judged_and_so_cannot_end_the_run() -> None:
    plan = plan_of()
    task = ask(plan, {"cells": np.array([MOST_CELLS])})
    vector = np.zeros(task.work.size)
    vector[0] = 1.0

    said = STEP.fault(plan, task.work, Update(NodeName("n"), vector, 40.0))

    assert said == "it says that it cannot tell its values in the largest table in column city"
    names = texts([f"name {number}" for number in range(1_000) for _ in range(5)])
    full = compute(
        STEP, names, replace(task, work=LevelsWork(MOST_CELLS, 1_000, 5).to_work("logistic_regression", 1))
    )
    assert not full.vector[0]


def test_under_a_budget_it_is_not_answered() -> None:
    with pytest.raises(FederatedError, match="step vocabulary is"):
        STEP.check(replace(ask(plan_of()), budget=Budget(1.0, 1e-5)))
