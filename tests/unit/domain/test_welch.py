"""The interval of a difference of means is scipy's, from half a degree of freedom to a trillion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from heliosdb.domain.welch import half_width, upper_quantile


@pytest.mark.parametrize("degrees", [0.5, 1, 1.3, 2, 3.7, 29.99, 500.5, 999, 1000, 1000.1, 5e3, 1e6, 1e12])
def test_the_quantile_is_student_s(degrees: float) -> None:
    assert upper_quantile(degrees) == pytest.approx(special.stdtrit(degrees, 0.975), rel=1e-12)


@pytest.mark.parametrize("degrees", [0.0, -1.0, math.nan])
def test_there_is_no_quantile_without_degrees_of_freedom(degrees: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        upper_quantile(degrees)


@pytest.mark.parametrize(("count", "other_count", "spread"), [(2, 2, 1.0), (5, 400, 1e3), (3000, 2500, 1e-3)])
def test_the_interval_is_welch_s(count: int, other_count: int, spread: float) -> None:
    draw = np.random.default_rng(count)
    one, other = draw.normal(0, spread, count), draw.normal(1, 1, other_count)
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    found = half_width(one.var(ddof=1), count, other.var(ddof=1), other_count)
    assert found == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)


def test_samples_that_do_not_vary_have_no_interval_and_extreme_ones_one_that_is_finite() -> None:
    assert half_width(0.0, 5, 0.0, 9) is None
    assert half_width(1e200, 2, 1e-200, 3) == pytest.approx(math.sqrt(1e200 / 2) * special.stdtrit(1, 0.975))
    assert half_width(5e-324, 2, 0.0, 2) in (None, pytest.approx(0.0, abs=1e-150))
