"""Round 0: sums with an honest sensitivity, and scaling that is usable under noise."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.features import grid_position, sensitivity, statistics, window_position
from heliosdb.algorithms.layout import (
    ABOVE,
    BELOW,
    BINS,
    CELLS,
    LINEAR,
    LOWEST_OCTAVE,
    MISSING,
    NEGATIVE,
    OCTAVES,
    POSITIVE,
    TAIL,
    ZERO,
)
from heliosdb.algorithms.summary import summarise
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.bounds import LOCATION, SCALE
from heliosdb.domain.vector import ClippedSum, Plain
from heliosdb.privacy.mechanisms import Lattice
from tests.unit.algorithms.split_sums import LOGISTIC, summarise_split, table

RANGES = ((0.0, 120.0), (40.0, 200.0), (50.0, 400.0), (10.0, 60.0))
REGRESSION = StatisticsWork("linear_regression", None, classes=0)


def patients() -> tuple[np.ndarray, np.ndarray]:
    features, progression = load_diabetes(return_X_y=True, scaled=False)
    return features[:441, [0, 3, 4, 2]], (progression[:441] > 140).astype(float)


def column(values: list[float], target: list[float] | None = None) -> Table:
    return table(np.array(values)[:, None], np.array(target or [0.0, 1.0] * len(values))[: len(values)])


def test_plain_sums_give_the_pooled_mean_and_deviation() -> None:
    features, target = patients()
    summary = summarise_split(features, target, LOGISTIC)
    assert np.allclose(summary.scaling.means, features.mean(axis=0))
    assert np.allclose(summary.scaling.scales, features.std(axis=0))
    assert (summary.count, summary.count_per_node) == (441.0, 147.0)
    assert (summary.scaling.target_mean, summary.scaling.target_scale) == (0.0, 1.0)
    assert summary.held_out(0.2) == pytest.approx(88.2)
    assert summary.training_per_node(0.2) == pytest.approx(117.6)


def test_the_target_of_a_regression_is_scaled_too() -> None:
    features, _ = patients()
    target = features[:, 0] * 2 + 1
    scaling = summarise_split(features, target, REGRESSION).scaling
    assert scaling.target_mean == pytest.approx(target.mean())
    assert scaling.target_scale == pytest.approx(target.std())


def test_missing_values_do_not_count_and_say_nothing_of_the_mean() -> None:
    answer = statistics(column([1.0, math.nan, 3.0, math.inf]), LOGISTIC)
    summary = summarise(answer.vector, LOGISTIC, ["x"], 1)
    assert summary.scaling.means == (2.0,)
    assert summary.count == 4.0
    assert answer.guard == Plain()


@pytest.mark.parametrize("value", [0.0, 7.0, 1e9 + 0.1])
def test_a_constant_column_has_scale_one(value: float) -> None:
    summary = summarise(statistics(column([value] * 9), LOGISTIC).vector, LOGISTIC, ["x"], 1)
    assert summary.scaling.scales == (1.0,)
    assert summary.scaling.means[0] == pytest.approx(value)


def test_a_column_of_nulls_is_an_error_that_names_it() -> None:
    total = statistics(column([math.nan] * 9), LOGISTIC).vector
    with pytest.raises(FederatedError, match='"x"') as caught:
        summarise(total, LOGISTIC, ["x"], 1)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "NULL" in str(caught.value.detail)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_everywhere_is_an_error(label: float) -> None:
    total = statistics(column([1.0, 2.0, 3.0], [label] * 3), LOGISTIC).vector
    with pytest.raises(FederatedError, match="same value") as caught:
        summarise(total, LOGISTIC, ["x"], 1)
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_target_of_other_values_is_refused_at_the_node() -> None:
    with pytest.raises(FederatedError, match="0 or 1"):
        statistics(column([1.0, 2.0], [1.0, 2.0]), LOGISTIC)


def test_a_sum_of_another_length_is_refused() -> None:
    with pytest.raises(FederatedError) as caught:
        summarise(np.zeros(3), LOGISTIC, ["x"], 1)
    assert caught.value.code is ErrorCode.UPDATE_REJECTED


def test_values_fall_into_their_octave() -> None:
    least = 2.0**LOWEST_OCTAVE
    values = np.array(
        [math.nan, math.inf, 0.0, -0.0, 5e-324, least, 1.0, 1.999, 2.0, -1.5, 1e300, -1e300, -1e-310]
    )
    one, two, top = POSITIVE - LOWEST_OCTAVE, POSITIVE - LOWEST_OCTAVE + 1, OCTAVES - 1
    expected = [MISSING, MISSING, ZERO, ZERO, POSITIVE, POSITIVE, one, one, two, NEGATIVE - LOWEST_OCTAVE]
    assert grid_position(values).tolist() == [*expected, POSITIVE + top, NEGATIVE + top, NEGATIVE]
    assert BINS == 2 + 2 * OCTAVES


def test_values_fall_into_the_cells_of_a_window() -> None:
    far = CELLS * 2.0**TAIL
    cells = np.array([0.0, 0.99, -0.01, CELLS - 1.0, -CELLS, CELLS, -CELLS - 0.5, far, -far, 1e300, -1e300])
    middle = LINEAR + CELLS
    expected = [middle, middle, middle - 1, ABOVE - 1, LINEAR, ABOVE, BELOW, BELOW - 1, BINS - 1]
    expected += [BELOW - 1, BINS - 1]
    assert window_position(10.0 + 0.25 * cells, (10.0, 0.25)).tolist() == expected
    others = np.array([math.nan, math.inf, 0.0, -0.0])
    assert window_position(others, (10.0, 0.25)).tolist() == [MISSING, MISSING, ZERO, ZERO]


@pytest.mark.parametrize("centre", [0.0, LOCATION.least, LOCATION.most, 1.0])
@pytest.mark.parametrize("width", [SCALE.least, 1.0, SCALE.most])
def test_any_window_has_a_cell_for_any_value(centre: float, width: float) -> None:
    values = np.array([0.0, 1.7e308, -1.7e308, 5e-324, math.nan, math.inf, -math.inf, 1.0, LOCATION.most])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bins = window_position(values, (centre, width))
    assert np.all((bins >= 0) & (bins < BINS))


@given(
    st.integers(0, 10_000),
    st.sampled_from(["logistic_regression", "linear_regression"]),
    st.sampled_from([None, (*RANGES[:2], (-3.0, 3.0)), ((5.0, 1e-290), (-1e290, 1e290), (0.0, 0.0))]),
)
def test_one_subject_of_any_rows_moves_a_private_answer_by_no_more_than_declared(
    seed: int, name: str, ranges: tuple[tuple[float, float], ...] | None
) -> None:
    rng = np.random.default_rng(seed)
    subjects = rng.permutation(np.array([0] * 15 + [1] * 3 + [2]))
    features = rng.choice([0.0, 1.0, -5.0, 120.0, 200.0, 1e9, -1e30, math.nan], size=(19, 2))
    target = (rng.random(19) < 0.5).astype(float)
    declared = ranges if ranges is None or name == "linear_regression" else ranges[:2]
    is_window = declared is not None and declared[0][0] == 5.0
    work = StatisticsWork(
        name,
        10.0,
        *((None, declared) if is_window else (declared,)),
        classes=0 if name == "linear_regression" else 2,
    )
    whole = statistics(table(features, target, subjects), work)
    assert isinstance(whole.guard, ClippedSum)
    assert whole.weight == 1.0
    assert whole.vector.size == work.size(2)
    for subject in range(3):
        keep = subjects != subject
        rest = statistics(table(features[keep], target[keep], subjects[keep]), work)
        lattice = Lattice.of(whole.guard.sensitivity, 10.0, whole.vector.size)
        # What the noise covers: the sensitivity and the slack for rounding.
        assert np.linalg.norm(whole.vector - rest.vector) <= lattice.std / 10.0


def test_the_declared_sensitivity_is_reached() -> None:
    work = StatisticsWork("logistic_regression", 10.0, classes=2)
    answer = statistics(column([5.0, 5.0]), work)
    assert isinstance(answer.guard, ClippedSum)
    assert np.linalg.norm(answer.vector) / 2 == pytest.approx(answer.guard.sensitivity)


@pytest.mark.parametrize(("ranges", "scale_misses"), [(None, 2), (RANGES, 8)])
def test_scaling_is_usable_under_the_noise_of_half_an_epsilon(
    ranges: tuple[tuple[float, float], ...] | None, scale_misses: int
) -> None:
    features, target = patients()
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    work = StatisticsWork("logistic_regression", 14.07, ranges, classes=2)
    failed, far_mean, far_scale = 0, 0, 0
    for seed in range(60):
        try:
            scaling = summarise_split(features, target, work, seed).scaling
        except FederatedError:
            failed += 1
            continue
        means, scales = np.array(scaling.means), np.array(scaling.scales)
        far_mean += int(np.sum(np.abs(means - mean) > np.maximum(scales, deviation)))
        far_scale += int(np.sum((scales > 3 * deviation) | (scales < deviation / 3)))
    assert failed <= 1
    assert far_scale <= scale_misses  # of 240
    assert far_mean <= 12  # of 240


def test_the_private_count_is_of_subjects_and_about_right() -> None:
    features, target = patients()
    work = StatisticsWork("logistic_regression", 14.07, classes=2)
    counts = [summarise_split(features, target, work, seed).count for seed in range(30)]
    assert np.mean(counts) == pytest.approx(441, abs=30)
    assert len(set(counts)) == 30


def test_with_little_noise_the_scaling_is_close() -> None:
    features, target = patients()
    scaling = summarise_split(
        features, target, StatisticsWork("logistic_regression", 0.05, classes=2)
    ).scaling
    assert np.allclose(scaling.means, features.mean(axis=0), atol=0.3 * features.std(axis=0).min(), rtol=0.06)
    ratio = np.array(scaling.scales) / features.std(axis=0)
    assert np.all((ratio > 0.7) & (ratio < 1.4))


def test_heavy_tails_and_two_humps_are_believed_where_they_stand_out() -> None:
    rng = np.random.default_rng(1)
    income = np.exp(rng.normal(10, 1.5, 3000))
    humps = np.where(rng.random(3000) < 0.3, 1000.0, 1.2)
    features, target = np.column_stack([income, humps]), (rng.random(3000) < 0.5).astype(float)
    scaling = summarise_split(features, target, StatisticsWork("logistic_regression", 1.0, classes=2)).scaling
    for index in range(2):
        assert abs(scaling.means[index] - features[:, index].mean()) < features[:, index].std()
        assert 1 / 3 < scaling.scales[index] / features[:, index].std() < 3


def test_an_indicator_that_is_mostly_zero_keeps_its_scale() -> None:
    rng = np.random.default_rng(1)
    features, target = (rng.random((441, 1)) < 0.1).astype(float), np.tile([0.0, 1.0, 0.0], 147)
    scaling = summarise_split(
        features, target, StatisticsWork("logistic_regression", 14.07, classes=2)
    ).scaling
    assert scaling.means[0] == pytest.approx(0.1, abs=0.5)
    assert 0.1 < scaling.scales[0] < 3


@pytest.mark.parametrize("ranges", [None, ((0.0, 1.0),)])
def test_a_feature_lost_in_the_noise_is_named_with_a_hint(
    ranges: tuple[tuple[float, float], ...] | None,
) -> None:
    work = StatisticsWork("logistic_regression", 14.07, ranges, classes=2)
    with pytest.raises(FederatedError, match='"age"') as caught:
        summarise_split(np.full((441, 1), math.nan), np.tile([0.0, 1.0, 0.0], 147), work, seed=3)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "privacy_budget" in str(caught.value.hint)


@pytest.mark.parametrize(
    "ranges", [(), ((1.0, 1.0),), ((2.0, 1.0),), ((0.0, math.inf),), ((0.0, 1.0), (0.0, 1.0))]
)
@pytest.mark.parametrize("values", [[], [1.0, 2.0]])
def test_ranges_that_are_missing_or_too_many_or_do_not_rise_are_refused_whatever_the_rows(
    ranges: tuple[tuple[float, float], ...], values: list[float]
) -> None:
    with pytest.raises(FederatedError) as caught:
        statistics(column(values), StatisticsWork("logistic_regression", 1.0, ranges, classes=2))
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_a_subject_s_share_in_a_bin_is_rounded_once_however_many_rows_it_has() -> None:
    subjects = np.array([0] * 1000 + [1])
    data = table(np.where(np.arange(1001) < 333, 1.0, 2.0)[:, None], np.zeros(1001), subjects)
    work = StatisticsWork("logistic_regression", 300.0, classes=2)
    answer = statistics(data, work)
    lattice = Lattice.of(sensitivity(1, work), 300.0, answer.vector.size)
    steps = answer.vector / lattice.step
    expected = np.rint(0.333 / lattice.step), np.rint(0.667 / lattice.step) + np.rint(1.0 / lattice.step)
    one = POSITIVE - LOWEST_OCTAVE
    assert np.rint(steps[[one, one + 1]]).tolist() == list(expected)
    assert steps[-1] == pytest.approx(2.0 * np.rint(1.0 / lattice.step))
