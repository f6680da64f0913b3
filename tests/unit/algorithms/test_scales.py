"""Scales where they are hard to tell: means that are large beside the spread, and values that most rows share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_sql.errors import ErrorCode, FederatedError
from heliosdb.algorithms.checks import check_refinement
from heliosdb.algorithms.features import private_noise
from heliosdb.algorithms.located import Located, look_closer, take_counts
from heliosdb.algorithms.summary import Summary
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import state_from_bytes, state_to_bytes
from heliosdb.domain.update import Total
from heliosdb.privacy.plan import plan_statistics
from tests.unit.algorithms.split_sums import LOGISTIC, NAMES, summarise_split

SEEDS = range(20)
"""Of the data and of the noise."""


def rows_of(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.column_stack(columns), np.tile([0.0, 1.0], columns[0].size)[: columns[0].size]


def without_warnings(
    features: np.ndarray, target: np.ndarray, work: StatisticsWork, seed: int = 0
) -> Summary:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return summarise_split(features, target, work, seed)


def exact_deviation(values: np.ndarray) -> float:
    """In rational numbers; rounded once or twice."""
    exact = [Fraction(float(value)) for value in values]
    mean = sum(exact) / len(exact)
    largest = max(abs(value - mean) for value in exact)
    return float(largest) * math.sqrt(sum(((value - mean) / largest) ** 2 for value in exact) / len(exact))


LARGE_MEANS = {
    "epoch seconds of a day": lambda z: 1.7e9 + 2.5e4 * z,
    "epoch milliseconds of ten minutes": lambda z: 1.7e12 + 1.7e5 * z,
    "epoch microseconds of ten minutes": lambda z: 1.7e15 + 1.7e8 * z,
    "bigserial": lambda z: np.round(4e9 + 300 * z),
    "national id": lambda z: np.round(1e10 + 3000 * z),
    "a millionth of the mean": lambda z: 1.0 + 1e-6 * z,
    "a few last bits": lambda z: 1.0 + 1e-15 * z,
    "1e15 times the spread": lambda z: 1e15 + z,
    "tiny": lambda z: 1e-200 * z,
    "huge": lambda z: 1e160 * z,
    "huge and far": lambda z: 1e280 + 1e270 * z,
}


@pytest.mark.parametrize("make", LARGE_MEANS.values(), ids=LARGE_MEANS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_plain_scale_is_the_deviation_however_large_the_mean(
    make: Callable[[np.ndarray], np.ndarray], seed: int
) -> None:
    values = make(np.random.default_rng(seed).normal(size=300))
    scaling = without_warnings(*rows_of([values]), LOGISTIC).scaling
    assert scaling.scales[0] == pytest.approx(exact_deviation(values), rel=1e-12, abs=0.0)
    mean = sum(map(Fraction, values.tolist())) / 300
    largest = Fraction(float(np.abs(values).max()))
    assert abs(Fraction(scaling.means[0]) - mean) <= abs(mean) / 2**53 + largest / 2**54


def test_one_last_bit_more_in_one_row_is_a_spread_and_none_is_none() -> None:
    values = np.full(300, 1e10)
    assert without_warnings(*rows_of([values]), LOGISTIC).scaling.scales == (1.0,)
    values[7] = np.nextafter(1e10, np.inf)
    assert without_warnings(*rows_of([values]), LOGISTIC).scaling.scales == pytest.approx(
        (np.spacing(1e10) * math.sqrt(299.0) / 300.0,), rel=1e-12
    )


def test_values_whose_mean_no_task_may_carry_are_an_error_that_names_the_column() -> None:
    with pytest.raises(FederatedError, match='"age"') as caught:
        without_warnings(*rows_of([np.full(9, 1e300)]), LOGISTIC)
    assert caught.value.code is ErrorCode.INVALID_VALUE
    assert "view" in str(caught.value.hint)


def vitals(rows: int, seed: int) -> np.ndarray:
    """Temperature, sodium, oxygen saturation and year of birth."""
    spread = np.random.default_rng(seed).normal(size=(rows, 4))
    return np.array([36.9, 140.0, 96.0, 1960.0]) + np.array([0.6, 4.0, 2.0, 15.0]) * spread


@pytest.mark.parametrize(("epsilon", "rows"), [(8.0, 6000), (8.0, 1000), (1.0, 6000)])
def test_a_private_scale_is_told_where_the_mean_is_large_beside_it(epsilon: float, rows: int) -> None:
    noise = plan_statistics(Budget(epsilon, 1e-5)).noise_multiplier
    for seed in SEEDS:
        features = vitals(rows, seed)
        summary = without_warnings(
            features, np.zeros(rows), StatisticsWork("logistic_regression", noise, classes=2), seed
        )
        assert np.allclose(np.array(summary.scaling.scales) / features.std(axis=0), 1.0, atol=0.2)
        assert np.all(np.abs(summary.scaling.means - features.mean(axis=0)) < 0.25 * features.std(axis=0))
        assert summary.notes == ()


def test_a_spread_that_noise_hides_is_named() -> None:
    noise = plan_statistics(Budget(0.5, 1e-5)).noise_multiplier
    named = [
        summarise_split(
            vitals(1000, seed), np.zeros(1000), StatisticsWork("logistic_regression", noise, classes=2), seed
        ).notes
        for seed in SEEDS
    ]
    untold = f"the spread of {', '.join(NAMES)} could not be told from the mean: declare feature_ranges"
    assert set(named) == {(untold,)}


def test_what_no_window_resolves_and_what_lies_beyond_the_grid_is_named() -> None:
    noise = plan_statistics(Budget(8.0, 1e-5)).noise_multiplier
    rng = np.random.default_rng(3)
    columns = [1e10 + 300 * rng.normal(size=6000), np.full(6000, 7.0), 1e120 * rng.normal(size=6000)]
    columns.append(np.where(np.arange(6000) == 4, 1e300, rng.normal(size=6000)))
    summary = without_warnings(*rows_of(columns), StatisticsWork("logistic_regression", noise, classes=2))
    assert summary.notes == (
        f"values of {NAMES[2]} lie outside of 2^-74 to 2^74: declare feature_ranges",
        f"the spread of {NAMES[0]}, {NAMES[1]} could not be told from the mean: declare feature_ranges",
    )
    # One value that is far from all others does not hide them.
    assert summary.scaling.scales[3] == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("epsilon", [1.0, 3.0, 8.0])
def test_a_private_scale_is_never_that_of_one_value_that_most_have(epsilon: float) -> None:
    noise = plan_statistics(Budget(epsilon, 1e-5)).noise_multiplier
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        usual, hours = rng.random((4, 1000)), 40 + 12 * rng.normal(size=1000)
        features = np.stack(
            [
                usual[0] < 0.95,
                usual[1] < 0.98,
                np.where(usual[2] < 0.7, 40.0, hours.round()),
                np.where(usual[3] < 0.05, 2.0, 1.0),
            ],
            axis=1,
        )
        work = StatisticsWork("logistic_regression", noise, classes=2)
        summary = without_warnings(features, np.zeros(1000), work, seed)
        ratios = np.array(summary.scaling.scales) / features.std(axis=0)
        assert np.all((ratios > 0.2) & (ratios < 5.0))


def test_an_indicator_that_is_mostly_true_is_told_where_its_zeros_are_seen() -> None:
    noise = plan_statistics(Budget(3.0, 1e-5)).noise_multiplier
    for seed in SEEDS[:8]:
        features = (np.random.default_rng(seed).random((1000, 1)) < 0.8).astype(float)
        work = StatisticsWork("logistic_regression", noise, classes=2)
        summary = without_warnings(features, np.zeros(1000), work, seed)
        assert summary.scaling.scales[0] == pytest.approx(features.std(), rel=0.2)
        assert summary.notes == ()


def test_a_column_of_which_only_zeros_can_be_seen_is_named() -> None:
    noise = plan_statistics(Budget(1.0, 1e-5)).noise_multiplier
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        gain = np.where(rng.random(1000) < 0.92, 0.0, np.exp(8.5 + rng.normal(size=1000)))
        features = np.stack([gain, 5 * rng.normal(size=1000)], axis=1)
        summary = without_warnings(
            features, np.zeros(1000), StatisticsWork("logistic_regression", noise, classes=2), seed
        )
        assert summary.scaling.scales[0] == 1.0
        assert summary.notes == (
            f"of {NAMES[0]} only zeros can be seen, it is scaled as an indicator of 0 and 1:"
            " declare feature_ranges where it is an amount",
        )


@pytest.mark.parametrize(
    ("count", "said"), [(1, "it is scaled as an indicator"), (2, "they are scaled as indicators")]
)
def test_columns_of_zeros_are_spoken_of_as_many_as_they_are(count: int, said: str) -> None:
    noise, scales = plan_statistics(Budget(1.0, 1e-5)).noise_multiplier, np.ones(2)
    scales[:count] = 0.0
    features = scales * 5 * np.random.default_rng(SEEDS[0]).normal(size=(1000, 2))
    work = StatisticsWork("logistic_regression", noise, classes=2)
    summary = without_warnings(features, np.zeros(1000), work, SEEDS[0])
    assert [said in note for note in summary.notes] == [True]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 300.0))
def test_no_released_counts_make_the_reading_fail_or_choose_what_no_task_may_name(
    seed: int, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    work, located = StatisticsWork("logistic_regression", noise, classes=2), None
    for _ in range(3):
        vector = rng.normal(0.0, 100.0, work.size(2)) * rng.choice([0.0, 1.0, 1e3, 1e12])
        vector[rng.integers(vector.size, size=3)] = rng.choice([0.0, 1e3, 1e12, -1e12])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            located = look_closer(
                take_counts(located, Total(vector, 1.0, 3), work, 2), private_noise(2, work, 3) / 3
            )
            again = Located.from_state(state_from_bytes(state_to_bytes(located.to_state())))
            assert again.windows() == located.windows()
            work = replace(work, windows=located.windows())
            check_refinement(2, work.to_work(2))
