"""What a plain answer says that is not finite: which column, where it can be told."""

from __future__ import annotations

import numpy as np
import pytest

from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.node.disclosure import check_values


def table(feature: float, target: float) -> Table:
    features = np.array([[1.0, 2.0], [np.nan, feature]])
    return Table(features, np.array([0.0, target]), np.arange(2), np.zeros(2, dtype=np.bool_))


@pytest.mark.parametrize(
    ("feature", "target", "column"), [(1e300, 1.0, "b"), (-1e300, 1.0, "b"), (1.0, 1e200, "y")]
)
def test_the_column_that_is_too_large_is_named_and_its_value_is_not(
    feature: float, target: float, column: str
) -> None:
    with pytest.raises(FederatedError) as raised:
        check_values(table(feature, target), ("a", "b"), "y", "d")
    assert raised.value.code is ErrorCode.UPDATE_REJECTED
    assert f'column "{column}" of dataset "d" holds values beyond 1e+150' in raised.value.message
    assert raised.value.hint


def test_ordinary_values_name_no_column() -> None:
    check_values(table(1e149, -1e149), ("a", "b"), "y", "d")
