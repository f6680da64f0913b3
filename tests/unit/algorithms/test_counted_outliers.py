"""Outliers under a budget are read from the counts of round 0, each figure with an error that covers it."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.algorithms import Table
from heliosdb.algorithms.counted_outliers import count_outliers
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.located import Located, look_closer, take_counts
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.update import Total
from heliosdb.node.guards import make_private

NOISE = 2.0


def located(values: np.ndarray, exchanges: int) -> Located:
    """What three nodes' worth of counts of one column lead to."""
    table = Table.from_rows(
        values[:, np.newaxis],
        np.zeros(values.size),
        np.arange(values.size),
        np.zeros(values.size, dtype=bool),
    )
    found: Located | None = None
    for _ in range(exchanges):
        windows = None if found is None else found.windows()
        work = StatisticsWork("logistic_regression", NOISE, windows=windows, classes=2)
        found = take_counts(found, Total(make_private(statistics(table, work)), 1.0, 1), work, 1)
        found = look_closer(found, NOISE)
    assert found is not None
    return found


@pytest.mark.parametrize(("mean", "exchanges"), [(0.0, 1), (0.0, 3), (100.0, 3)])
def test_values_far_out_are_counted_within_their_error(mean: float, exchanges: int) -> None:
    rng = np.random.default_rng(4)
    values = mean + rng.normal(size=6000)
    values[:300] = mean + rng.choice([-1.0, 1.0], size=300) * 30.0
    made = located(values, exchanges)
    column = made.find(0)
    assert column is not None
    # Which values lie far out follows from the scale that was found, to which they belong themselves.
    far = int((np.abs(values - column.mean) > 4.0 * column.scale).sum())
    count, error = count_outliers(made, 0, column)
    assert error < 0.4 * far
    assert abs(count - far) < 3.0 * error


@pytest.mark.parametrize("exchanges", [1, 3])
@pytest.mark.parametrize("tail", ["lognormal", "standard_t"])
def test_of_long_tails_what_lies_in_the_cell_of_the_edge_is_in_the_error(tail: str, exchanges: int) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        values = rng.standard_t(3, 6000) if tail == "standard_t" else rng.lognormal(size=6000)
        made = located(values, exchanges)
        column = made.find(0)
        assert column is not None
        far = int((np.abs(values - column.mean) > 4.0 * column.scale).sum())
        count, error = count_outliers(made, 0, column)
        assert abs(count - far) < 3.0 * error


def test_without_values_far_out_there_is_noise_alone_and_never_less_than_none() -> None:
    values = 5.0 + np.random.default_rng(5).normal(size=4000)
    made = located(values, 1)
    column = made.find(0)
    assert column is not None
    count, error = count_outliers(made, 0, column)
    assert 0.0 <= count < 5.0 * error
