"""Tables: rows without a target, whole subjects held out, grouping."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.algorithms.table import Table, folds_of, group_by_subject, held_out, places_of, sums_of_runs

KEYS = [f"patient-{i}".encode() for i in range(5000)]


def test_rows_without_a_target_are_left_out() -> None:
    table = Table.from_rows(
        np.arange(6.0).reshape(3, 2),
        np.array([1.0, np.nan, 0.0]),
        np.array([0, 0, 1]),
        np.zeros(3, dtype=bool),
    )
    assert table.rows == 2
    assert table.features.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert table.subjects.tolist() == [0, 1]


def test_training_and_validation_share_no_subject_and_miss_none() -> None:
    subjects = np.repeat(np.arange(100), 3)
    chosen = held_out(KEYS[:100], 0.2, b"key")
    table = Table.from_rows(np.zeros((300, 1)), np.zeros(300), subjects, chosen[subjects])
    training, validation = set(table.training().subjects), set(table.validation().subjects)
    assert not training & validation
    assert training | validation == set(range(100))
    assert len(validation) == chosen.sum() > 0
    assert table.training_rows == table.training().rows


def test_about_the_fraction_is_held_out_and_none_for_zero() -> None:
    assert held_out(KEYS, 0.2, b"key").mean() == pytest.approx(0.2, abs=0.02)
    assert not held_out(KEYS, 0.0, b"key").any()


def test_a_subject_is_held_out_whoever_else_there_is() -> None:
    everyone = held_out(KEYS, 0.3, b"key")
    some = held_out(KEYS[::7], 0.3, b"key")
    assert np.array_equal(everyone[::7], some)


def test_a_larger_fraction_holds_out_the_same_and_more() -> None:
    assert np.all(held_out(KEYS, 0.4, b"key")[held_out(KEYS, 0.2, b"key")])


def test_another_key_chooses_others() -> None:
    assert not np.array_equal(held_out(KEYS, 0.5, b"one"), held_out(KEYS, 0.5, b"two"))


def test_folds_part_the_subjects_evenly_whoever_else_there_is() -> None:
    folds = folds_of(places_of(KEYS, b"key"), 7)
    assert np.bincount(folds, minlength=7) / len(KEYS) == pytest.approx([1 / 7] * 7, abs=0.02)
    assert np.array_equal(folds[::3], folds_of(places_of(KEYS[::3], b"key"), 7))
    assert not np.array_equal(folds, folds_of(places_of(KEYS, b"other"), 7))


@pytest.mark.parametrize("folds", [2, 4, 5, 20])
def test_the_first_fold_is_whom_its_share_holds_out(folds: int) -> None:
    assert np.array_equal(folds_of(places_of(KEYS, b"key"), folds) == 0, held_out(KEYS, 1 / folds, b"key"))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_its_range_is_a_programming_error(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        held_out(KEYS, fraction, b"key")


def test_grouping_means_do_not_depend_on_the_rows_order() -> None:
    subjects = np.array([7, 3, 7, 7, 5, 3])
    grouping = group_by_subject(subjects)
    assert grouping.subjects == 3
    values = np.array([[1.0, 10.0, 2.0, 3.0, 8.0, 20.0], [0.1, 0.7, 0.2, 0.3, 0.4, 1e300]])
    means = grouping.means(values, 32.0)
    assert means[0].tolist() == [15.0, 8.0, 2.0]
    assert means[1] == pytest.approx([(0.7 + 32.0) / 2, 0.4, 0.2], abs=1e-8)
    for order in ([5, 4, 3, 2, 1, 0], [2, 0, 3, 5, 1, 4]):
        regrouped = group_by_subject(subjects[order]).means(values[:, order], 32.0)
        assert regrouped.tobytes() == means.tobytes()


def test_sums_of_runs_are_exact_where_the_running_sum_wraps_around() -> None:
    values = np.full((1, 40), 1 << 60)
    assert sums_of_runs(values, np.array([6, 7, 12, 13, 20, 27, 34, 39])).tolist() == [
        [rows << 60 for rows in (7, 1, 5, 1, 7, 7, 7, 5)]
    ]


def test_a_subject_a_row_is_recognised_and_no_rows_are_no_subjects() -> None:
    assert group_by_subject(np.array([0, 2, 5])).order is None
    assert group_by_subject(np.array([], dtype=np.int64)).subjects == 0
