"""Row sets and the other rules of plain answers, each alone."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey, Work
from heliosdb.node.disclosure import (
    MOST_ROW_SETS,
    RowSet,
    check_cells,
    check_folds,
    check_known_by,
    check_plain_answer,
    check_scaling,
    choose_row_set,
    smallest_difference,
)

LEAST = 20


def row_set(rows: range | list[int], *, held_out: range = range(0), per_subject: int = 1) -> RowSet:
    """Rows by number, `per_subject` of them to a subject; held_out: subjects."""
    numbers = np.array(sorted(rows), dtype=np.uint64)
    subjects = numbers // np.uint64(per_subject)
    return RowSet(numbers, subjects, np.isin(subjects, np.array(held_out, dtype=np.uint64)))


def same(one: RowSet, other: RowSet) -> bool:
    return one.to_bytes() == other.to_bytes()


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 9), st.booleans()), unique_by=lambda t: t[0])
)
def test_a_row_set_survives_the_catalog(rows: list[tuple[int, int, bool]]) -> None:
    rows.sort()
    one = RowSet(
        np.array([row[0] for row in rows], dtype=np.uint64),
        np.array([row[1] for row in rows], dtype=np.uint64),
        np.array([row[2] for row in rows], dtype=np.bool_),
    )
    assert same(RowSet.from_bytes(one.to_bytes()), one)


def test_the_first_rows_are_answered_about_and_the_same_ones_again() -> None:
    own = row_set(range(200), held_out=range(50))
    assert same(choose_row_set(own, [], LEAST, "d"), own)
    assert same(choose_row_set(own, [own, row_set(range(1000, 1200))], LEAST, "d"), own)


@pytest.mark.parametrize("more", [1, 19])
def test_a_few_more_rows_are_left_out(more: int) -> None:
    earlier = row_set(range(200), held_out=range(50))
    own = row_set(range(200 + more), held_out=range(50))
    assert same(choose_row_set(own, [earlier], LEAST, "d"), earlier)


def test_enough_more_rows_come_in_when_there_are_enough_in_each_part() -> None:
    earlier = row_set(range(200), held_out=range(50))
    trained_only = row_set(range(230), held_out=range(50))
    assert same(choose_row_set(trained_only, [earlier], LEAST, "d"), trained_only)
    # Ten of them held out, twenty trained on: the two groups are told apart.
    few_held_out = RowSet(trained_only.rows, trained_only.subjects, trained_only.held_out.copy())
    few_held_out.held_out[[210, 220]] = True
    assert same(choose_row_set(few_held_out, [earlier], LEAST, "d"), earlier)


@pytest.mark.parametrize(
    "own",
    [
        row_set(range(1, 200), held_out=range(50)),
        row_set(range(19, 200), held_out=range(50)),
        row_set([*range(199), 500], held_out=range(50)),
        row_set(range(200), held_out=range(51)),
        row_set(range(200), held_out=range(1, 51)),
    ],
    ids=["one gone", "a few gone", "one exchanged", "one more held out", "another one held out"],
)
def test_rows_that_differ_by_a_few_otherwise_are_refused(own: RowSet) -> None:
    with pytest.raises(FederatedError, match="differ by fewer than min_rows = 20") as raised:
        choose_row_set(own, [row_set(range(200), held_out=range(50))], LEAST, "d")
    assert raised.value.code is ErrorCode.NODE_REFUSED


def test_no_sum_over_several_row_sets_is_about_a_few() -> None:
    """Each two of these differ by enough; the first less the second, less the third, plus the fourth do not."""
    everybody, missing = row_set(range(400)), set(range(100, 200))
    split = RowSet(everybody.rows, everybody.subjects, np.arange(400) < 101)
    earlier = [split, row_set([n for n in range(400) if n not in missing])]
    fourth = row_set([n for n in range(400) if n not in missing], held_out=range(100))
    assert smallest_difference([split, everybody]) >= LEAST
    with pytest.raises(FederatedError, match="differ by fewer"):
        choose_row_set(fourth, earlier, LEAST, "d")


def test_one_row_of_a_subject_with_several_is_a_difference_of_that_subject() -> None:
    earlier = row_set(range(200), per_subject=4)
    for own in (row_set(range(199), per_subject=4), row_set(range(120), per_subject=4)):
        if own.rows.size == 199:
            with pytest.raises(FederatedError, match="differ by fewer"):
                choose_row_set(own, [earlier], LEAST, "d")
        else:
            assert same(choose_row_set(own, [earlier], LEAST, "d"), own)


def test_too_few_subjects_are_refused_and_too_few_held_out_are_trained_on() -> None:
    with pytest.raises(FederatedError, match="fewer than min_rows = 20 rows") as raised:
        choose_row_set(row_set(range(60), per_subject=4), [], LEAST, "d")
    assert "15" not in raised.value.message
    assert not choose_row_set(row_set(range(200), held_out=range(19)), [], LEAST, "d").held_out.any()
    assert not choose_row_set(row_set(range(35), held_out=range(20)), [], LEAST, "d").held_out.any()


def test_the_last_ones_held_out_are_told_of_only_where_the_dba_lets_them() -> None:
    """Of 20 held out one was withdrawn, whom the earlier rows, as they are given, are without."""
    rest = row_set(range(1, 200), held_out=range(1, 20))
    with pytest.raises(FederatedError, match="fewer than min_rows = 20 are left") as raised:
        choose_row_set(rest, [rest], LEAST, "d")
    assert "lower min_rows" in (raised.value.hint or "")
    assert same(choose_row_set(rest, [rest], 19, "d"), rest)


def test_there_is_an_end_to_different_rows() -> None:
    earlier = [row_set(range(100 * i, 100 * i + 100)) for i in range(MOST_ROW_SETS)]
    assert same(choose_row_set(earlier[3], earlier, LEAST, "d"), earlier[3])
    with pytest.raises(FederatedError, match="too many different rows"):
        choose_row_set(row_set(range(10**6, 10**6 + 100)), earlier, LEAST, "d")


def test_rows_known_by_other_columns_cannot_be_compared() -> None:
    check_known_by(("id",), [("id",)], "d")
    with pytest.raises(FederatedError, match="cannot be compared"):
        check_known_by(("id",), [("id",), ("age", "name")], "d")


def table(*columns: list[float], subjects: list[int] | None = None) -> Table:
    n = len(columns[0])
    ids = np.arange(n) if subjects is None else np.array(subjects)
    return Table(np.column_stack(columns), np.zeros(n), ids, np.zeros(n, dtype=np.bool_))


NAN = float("nan")


@pytest.mark.parametrize(
    ("column", "refused"),
    [
        ([1.0] * 40, False),
        ([NAN] * 40, False),
        ([1.0] + [0.0] * 39, True),
        ([3.5] + [NAN] * 39, True),
        ([1.0, 2.0, 3.0, 4.0] + [0.0] * 36, True),
        ([NAN] + [0.0] * 39, True),
        ([1.0] * 5 + [0.0] * 35, False),
        ([float(i) for i in range(40)], False),
        ([1e300] + [float(i) for i in range(39)], True),
        ([1e6] + [float(i) for i in range(39)], False),
        ([-1.7e308] * 5 + [1.7e308] * 35, False),
        ([-1.7e308] * 4 + [1.7e308] * 36, True),
        ([1e10 + i for i in range(40)], False),
        ([5e-324] * 4 + [0.0] * 36, True),
        ([1e300, NAN, NAN, NAN, NAN] + [float(i) for i in range(35)], False),
    ],
)
def test_a_feature_in_which_only_a_few_differ_is_refused(column: list[float], refused: bool) -> None:
    if not refused:
        check_cells(table(column), [("x", np.array(column))], "d")
        return
    with pytest.raises(FederatedError, match='in column "x" of dataset "d" fewer than 5'):
        check_cells(table(column), [("x", np.array(column))], "d")


def test_subjects_are_counted_and_not_rows() -> None:
    column = np.array([1.0] * 10 + [0.0] * 30)
    check_cells(table(list(column)), [("x", column)], "d")
    with pytest.raises(FederatedError, match="fewer than 5 data subjects"):
        check_cells(table(list(column), subjects=[0] * 10 + list(range(1, 31))), [("x", column)], "d")


def test_a_column_is_looked_at_in_the_rows_that_are_trained_on_as_well() -> None:
    column = np.array([1.0] * 8 + [0.0] * 32)
    held_out = np.arange(40) < 4
    with pytest.raises(FederatedError, match="fewer than 5 data subjects"):
        check_cells(replace(table(list(column)), held_out=held_out), [("x", column)], "d")


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), min_size=1, max_size=5),
)
def test_the_scaling_of_a_federation_that_the_rows_are_a_part_of_is_never_refused(
    nodes: list[list[float]],
) -> None:
    pooled = np.concatenate([np.array(one) for one in nodes])
    scale = float(pooled.std())
    scaling = Scaling((float(pooled.mean()),), (scale if scale > 1e-7 * abs(pooled.mean()) else 1.0,))
    for one in nodes:
        check_scaling(scaling, table(one), ["x"])


@pytest.mark.parametrize(
    "scaling", [Scaling((0.0,), (1e-150,)), Scaling((1e9,), (1.0,)), Scaling((0.0,), (1e-6,))]
)
def test_a_scaling_that_lets_a_few_rows_count_is_refused(scaling: Scaling) -> None:
    with pytest.raises(FederatedError, match='scaling of column "x" is not'):
        check_scaling(scaling, table([float(i) for i in range(40)]), ["x"])


def asked(state: State, scaling: Scaling | None) -> Task:
    """Of any step of any algorithm."""
    key = TaskKey(
        WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, StepName("any"), NodeName("node")
    )
    return Task(key, Reading(None, ("x",), "y", 0.0, 1), Work("any", 1), scaling, state)


@pytest.mark.parametrize(
    ("state", "parameters"),
    [
        (NO_STATE, 2),
        (make_state(a=np.zeros((2, 3)), b=np.zeros(7)), 13),
        (make_state(a=np.zeros(14), counts=np.zeros(0, dtype=np.int64)), 14),
    ],
)
def test_every_number_of_a_state_is_a_parameter(state: State, parameters: int) -> None:
    rows = table([float(i) for i in range(40)])
    if parameters <= 13:
        check_plain_answer(asked(state, None), rows, 1 / 3, "d")
        return
    with pytest.raises(FederatedError, match=f"{parameters} parameters, more than 0.333 per row"):
        check_plain_answer(asked(state, None), rows, 1 / 3, "d")


def test_a_scaling_is_looked_at_whatever_the_step() -> None:
    rows = table([float(i) for i in range(40)])
    check_plain_answer(asked(NO_STATE, Scaling((20.0,), (10.0,))), rows, 1 / 3, "d")
    with pytest.raises(FederatedError, match='scaling of column "x" is not'):
        check_plain_answer(asked(NO_STATE, Scaling((0.0,), (1e-150,))), rows, 1 / 3, "d")


def test_folds_are_answered_about_where_each_has_min_rows_subjects_and_differ_by_whole_ones() -> None:
    folds = [range(25 * fold, 25 * (fold + 1)) for fold in range(4)]
    earlier: list[RowSet] = []
    for fold in folds:
        own = row_set(range(100), held_out=fold)
        assert same(choose_row_set(own, earlier, LEAST, "d"), own)
        earlier.append(own)
    assert smallest_difference(earlier) == 25


def test_too_small_a_fold_is_refused_before_any_is_answered_about() -> None:
    check_folds(np.array([20, 21]), LEAST, "d")
    with pytest.raises(FederatedError, match="one of 3 folds has fewer than min_rows = 20") as caught:
        check_folds(np.array([30, 19, 30]), LEAST, "d")
    assert caught.value.code is ErrorCode.NODE_REFUSED
    assert caught.value.hint is not None
