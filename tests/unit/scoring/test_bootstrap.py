"""Intervals cover what they should, are those of a plain bootstrap, and come in steps."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.scoring.bootstrap import Bootstrap, evaluate_rows
from heliosdb.scoring.evaluated import reduce_block


def rows(kind: str, scores: np.ndarray, target: np.ndarray, subjects: np.ndarray | None = None) -> bytes:
    zero, one = np.zeros(len(target)), np.ones(len(target))
    codes = zero if subjects is None else subjects
    return reduce_block(kind, scores, np.column_stack([target, one, one, zero, zero, codes]), None).tobytes()


def figures(kind: str, raw: bytes, count: int, asked: Bootstrap) -> dict[str, tuple[object, ...]]:
    return {
        name: rest
        for name, *rest in map(tuple, evaluate_rows(kind, raw, 2, count, asked))
        if name is not None
    }  # type: ignore[misc]


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(6)
    covered = {"auc": 0, "loss": 0}
    trials, count = 300, 120
    # Two normal distributions a unit apart: the area is Phi(1 / sqrt(2)).
    truth = {"auc": 0.7602499389, "loss": 2.25}
    for _ in range(trials):
        y = rng.integers(0, 2, count).astype(float)
        odds = y + rng.normal(size=count)
        asked = Bootstrap(200, 0.9, int(rng.integers(2**62)), by_subject=False)
        two = figures("binary", rows("binary", 1 / (1 + np.exp(-odds)), y), count, asked)
        errors = rng.normal(0.0, 1.5, count)
        one = figures("number", rows("number", errors, np.zeros(count)), count, asked)
        for name, found in (("auc", two["auc"]), ("loss", one["loss"])):
            covered[name] += found[2] <= truth[name] <= found[3]
    # Three standard errors of a share of 300, and what a percentile interval of so few skewed rows lacks.
    assert 0.84 <= covered["auc"] / trials <= 0.95
    assert 0.81 <= covered["loss"] / trials <= 0.95


def test_the_standard_error_of_subjects_is_that_of_their_means() -> None:
    rng = np.random.default_rng(7)
    subjects = np.repeat(np.arange(200), 5)
    effect = np.repeat(rng.normal(size=200), 5) + 0.1 * rng.normal(size=1000)
    raw = rows("number", effect, np.zeros(1000), subjects.astype(float))
    by_subject = figures("number", raw, 1000, Bootstrap(1000, 0.95, 1, by_subject=True))
    by_row = figures("number", raw, 1000, Bootstrap(1000, 0.95, 1, by_subject=False))
    means = np.square(effect).reshape(200, 5).mean(axis=1)
    assert by_subject["subjects"][0] == 200
    assert by_subject["loss"][1] == pytest.approx(means.std() / np.sqrt(200), rel=0.1)
    assert by_row["loss"][1] < 0.6 * by_subject["loss"][1]  # type: ignore[operator]


def test_subjects_are_told_apart_by_both_halves() -> None:
    zero, one = np.zeros(4), np.ones(4)
    high, low = np.array([-(2.0**31), 2.0**31 - 1, 0.0, 0.0]), np.array([5.0, 5.0, 2.0**32 - 1, 5.0])
    raw = reduce_block("number", zero, np.column_stack([one, one, one, zero, high, low]), None).tobytes()
    assert figures("number", raw, 4, Bootstrap(0, 0.95, 0, by_subject=True))["subjects"][0] == 4


def test_each_resample_is_a_step() -> None:
    raw = rows("number", np.arange(50.0), np.ones(50))
    lines = list(evaluate_rows("number", raw, 0, 60, Bootstrap(100, 0.9, 3, by_subject=False)))
    assert sum(line[0] is None for line in lines) >= 100
    assert [line[0] for line in lines if line[0] is not None] == [
        "rows", "rows_left_out", "loss", "base_loss", "rmse", "mae", "r2",
    ]  # fmt: skip
    assert ("rows_left_out", 10.0, None, None, None, None) in lines


@pytest.mark.parametrize("unit", [1e308, 5e-324, 2.0**60])
def test_weights_of_any_size_are_told_from_each_other_alone(unit: float) -> None:
    y, asked = np.arange(40) % 2.0, Bootstrap(20, 0.5, 3, by_subject=False)
    weight, zero = np.ones(40), np.zeros(40)
    found = []
    for one in (1.0, unit):
        columns = np.column_stack([y, np.ones(40), weight * one, zero, zero, zero])
        raw = reduce_block("binary", 0.25 + 0.5 * y, columns, None).tobytes()
        found.append(figures("binary", raw, 40, asked))
    assert found[0] == found[1]
