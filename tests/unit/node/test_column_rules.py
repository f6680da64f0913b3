"""The rules about columns, each alone: dominance, and inputs that nearly agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms.table import Table
from heliosdb.domain.disclosure_rules import DisclosureRules
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node.dominance import Dominance
from heliosdb.node.likeness import Inputs, check_alike

ROWS = 60


def table_of(*columns: np.ndarray, subjects: np.ndarray | None = None, held_out: int = 0) -> Table:
    features = np.column_stack(columns)
    whose = np.arange(len(features)) if subjects is None else subjects
    return Table.from_rows(features, np.zeros(len(features)), whose, np.arange(len(features)) < held_out)


def is_dominated(column: np.ndarray, most: float = 0.85, **about: np.ndarray | int) -> bool:
    table = table_of(column, **about)  # type: ignore[arg-type]
    try:
        Dominance(table, most, "d").demand("x", column)
    except FederatedError as error:
        assert error.code is ErrorCode.NODE_REFUSED
        assert '"x"' not in error.message
        return True
    return False


def ordinary() -> np.ndarray:
    return np.random.default_rng(1).normal(50.0, 10.0, ROWS)


def test_one_value_beyond_all_others_dominates_and_a_bounded_one_does_not() -> None:
    rich = ordinary()
    assert not is_dominated(rich)
    for value in (1e4, -1e4, 1e300, -1e300):
        rich[7] = value
        assert is_dominated(rich)
        assert not is_dominated(rich, most=1.0)
    rich[7] = 150.0
    assert not is_dominated(rich)


def test_a_constant_added_to_all_does_not_hide_who_dominates() -> None:
    column = np.full(ROWS, 1e6)
    column[3] += 500.0
    assert is_dominated(column)


def test_missing_values_and_columns_without_any_are_no_matter() -> None:
    column = ordinary()
    column[10:] = np.nan
    assert not is_dominated(column)
    assert not is_dominated(np.full(ROWS, np.nan))
    assert not is_dominated(np.zeros(ROWS))
    assert not is_dominated(np.full(ROWS, 3.0))


def test_rows_of_a_subject_count_together_and_who_has_most_rows_dominates() -> None:
    subjects = np.arange(ROWS)
    subjects[20:] = 20
    column = np.ones(ROWS)
    column[20:] = 40.0
    assert is_dominated(column, subjects=subjects)
    subjects = np.concatenate([np.arange(5), np.full(ROWS - 5, 5)])
    with pytest.raises(FederatedError, match="max_dominance"):
        Dominance(table_of(ordinary(), subjects=subjects), 0.85, "d")


def test_those_who_are_trained_on_are_looked_at_by_themselves() -> None:
    column = ordinary()
    column[[1, 40]] = 1e5
    assert not is_dominated(column)
    assert is_dominated(column, held_out=20)


def differ(one: np.ndarray, other: np.ndarray, least: int = 5, **about: np.ndarray | int) -> bool:
    table = table_of(one, other, **about)  # type: ignore[arg-type]
    try:
        check_alike(Inputs(table, ("a", "b")), least, "d")
    except FederatedError as error:
        assert error.code is ErrorCode.NODE_REFUSED
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 8),
    st.sampled_from([(1.0, 0.0), (12.0, -3.0), (-1.0, 1.0), (1e-3, 1e6)]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_inputs_that_are_the_same_in_other_units_but_for_a_few_subjects_are_refused(
    few: int, units: tuple[float, float], is_flag: bool, goes_missing: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    one = (rng.permutation(300) < 100).astype(np.float64) if is_flag else rng.normal(size=300)
    other = units[0] * one + units[1]
    changed = rng.permutation(300)[:few]
    # A flag that is changed is the other of its two values.
    other[changed] = np.nan if goes_missing else units[0] * (1.0 - one[changed]) + units[1]
    assert differ(one, other) == (few in {0, 5, 6, 7, 8})


def test_rare_flags_that_no_glance_sees_are_told_apart() -> None:
    rows = 20_000
    one, other, apart = (np.zeros(rows) for _ in range(3))
    one[-6:], other[-7:], apart[5_000:5_006] = 1.0, 1.0, 1.0
    assert not differ(one, other)
    assert differ(one, apart)


def test_subjects_count_and_not_rows_and_those_trained_on_by_themselves() -> None:
    one = np.random.default_rng(3).normal(size=100)
    other = one.copy()
    other[40:52] += 1.0
    assert differ(one, other)
    assert not differ(one, other, subjects=np.arange(100) // 4)
    assert not differ(one, other, held_out=49)
    assert differ(one, other, least=1, held_out=49)


@pytest.mark.parametrize("columns", [1, 3, 40])
def test_columns_that_have_nothing_to_do_with_each_other_are_answered_about(columns: int) -> None:
    rng = np.random.default_rng(5)
    made: Sequence[np.ndarray] = [rng.normal(size=500) for _ in range(columns)]
    flags = [(rng.random(500) < 0.3).astype(np.float64) for _ in range(columns)]
    constant = [np.full(500, 2.0), np.full(500, np.nan)]
    table = table_of(*made, *flags, *constant)
    names = [str(place) for place in range(table.features.shape[1])]
    check_alike(Inputs(table, names, [("y", rng.normal(size=500))]), 5, "d")


def test_of_a_dataset_s_word_and_the_site_s_the_stricter_holds() -> None:
    own = DisclosureRules(min_rows=1, min_cell=8, max_dominance=1.0, max_datasets=3)
    held = own.within({"min_rows": 50, "min_cell": 5, "max_dominance": 0.9, "max_datasets": 10})
    assert (held.min_rows, held.min_cell, held.max_dominance, held.max_datasets) == (50, 8, 0.9, 3)
    assert own.within({}) == own
