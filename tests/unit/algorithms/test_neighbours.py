"""Groups of neighbouring values: enough subjects in each, whatever is asked and whoever is held out."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from heliosdb.algorithms.neighbours import gather
from heliosdb.algorithms.table import Table
from heliosdb.domain.vector import Vector

LEAST = 5


def table(rows: int, subjects: list[int] | None = None, held_out: list[int] | None = None) -> Table:
    flags = np.zeros(rows, dtype=np.bool_)
    flags[held_out or []] = True
    codes = np.arange(rows) if subjects is None else np.array(subjects)
    return Table(np.empty((rows, 0)), np.zeros(rows), codes.astype(np.int64), flags)


def subjects_of(found: Vector, rows: Table) -> list[int]:
    """How many subjects each group has, among those that are trained on."""
    shown = np.where(np.isnan(found), -math.inf, found)
    trained = ~rows.held_out
    return [len(set(rows.subjects[trained & (shown == value)].tolist())) for value in np.unique(shown)]


def test_a_value_that_enough_subjects_have_stays_as_it_is() -> None:
    values = np.repeat([3.0, -1.0, 1e300, 0.1], 5)
    assert np.array_equal(gather(values, table(20), LEAST), values)


def test_what_few_have_goes_with_its_neighbours_and_the_rest_with_the_last() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0, 11.0, 12.0])
    assert gather(values, table(12), LEAST).tolist() == [4.0] * 5 + [10.0] * 7


@pytest.mark.parametrize("seed", range(30))
def test_no_group_is_of_fewer_subjects_and_their_order_is_that_of_their_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(20, 300))
    values = np.round(rng.normal(0.0, 10.0, rows), int(rng.integers(0, 3)))
    values[rng.random(rows) < rng.choice([0.0, 0.01, 0.2])] = np.nan
    whose = rng.integers(0, rows // int(rng.integers(1, 4)), rows).tolist()
    hidden = set(rng.choice(whose, 10).tolist())
    held_out = [row for row, subject in enumerate(whose) if subject in hidden]
    at = table(rows, whose, held_out)
    found = gather(values, at, LEAST)
    counts = subjects_of(found, at)
    assert len(counts) == 1 or min(counts) >= LEAST
    order = np.argsort(values)
    there = order[~np.isnan(values[order])]
    assert all(one <= other or np.isnan(one) for one, other in pairwise(found[there]))


def test_who_is_held_out_tears_no_group_apart() -> None:
    """Of two answers about the same rows, with others held out, no difference is about fewer."""
    values = np.sort(np.random.default_rng(1).normal(size=200))
    free = gather(values, table(200), LEAST)
    for seed in range(20):
        held_out = np.random.default_rng(seed).choice(200, 60, replace=False).tolist()
        found = gather(values, table(200, held_out=held_out), LEAST)
        assert all(np.unique(found[free == value]).size == 1 for value in np.unique(free))


@pytest.mark.parametrize("few", [1, 4])
def test_who_alone_lacks_a_value_is_told_from_nobody(few: int) -> None:
    values = np.concatenate([np.arange(40.0), np.full(few, np.nan)])
    found = gather(values, table(40 + few), LEAST)
    assert found[40:].tolist() == [found[19]] * few
    lacking = np.concatenate([np.arange(40.0), np.full(5, np.nan)])
    assert np.isnan(gather(lacking, table(45), LEAST)[40:]).all()


def test_where_too_few_have_a_value_nobody_has() -> None:
    values = np.array([1.0, 2.0, math.inf, 4.0, 5.0] + [math.nan] * 20)
    assert np.isnan(gather(values, table(25), LEAST)).all()
    assert np.isnan(gather(np.full(8, math.nan), table(8), LEAST)).all()
    assert np.isnan(gather(np.arange(9.0), table(9, held_out=list(range(5))), LEAST)).all()


def test_a_subject_counts_once_however_many_rows_it_has() -> None:
    values = np.array([1.0] * 10 + [2.0] * 10)
    found = gather(values, table(20, [0] * 6 + [1, 2, 3, 4] + list(range(5, 15))), LEAST)
    assert np.array_equal(found, values)
    found = gather(values, table(20, [0] * 10 + list(range(5, 15))), LEAST)
    assert set(found.tolist()) == {2.0}


@pytest.mark.parametrize(("far", "farther"), [(1e6, 1e9), (-1e6, -3.0), (100.5, 100.75)])
def test_where_a_group_is_tells_nothing_of_who_is_far_out(far: float, farther: float) -> None:
    """Cells may be laid around what a group goes by, to the last bit."""
    others = [50.25, 60.5, 70.125, 80.0, 85.0]
    found = [gather(np.array([one, *others]), table(6), LEAST)[1:] for one in (far, farther)]
    assert np.array_equal(found[0], found[1])


def test_huge_values_have_a_middle() -> None:
    values = np.array([1.6e308, 1.7e308, 1.75e308, 1.76e308, 1.78e308])
    assert np.isfinite(gather(values, table(5), LEAST)).all()
