"""What is kept of a node's own plain answers, and which of them are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from heliosdb.algorithms.described import describe_statistics
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.report_layout import ReportLayout
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.works import StatisticsWork
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.update import Update
from heliosdb.domain.vector import Vector
from tests.contracts.journeys import NODES, Stop, travel

NAN = float("nan")


def table_of(*columns: list[float]) -> Table:
    features = np.array(columns, dtype=float).T
    rows = features.shape[0]
    return Table.from_rows(
        features, (np.arange(rows) % 2).astype(np.float64), np.arange(rows), np.zeros(rows, dtype=bool)
    )


def test_columns_are_described_as_they_are() -> None:
    table = table_of([1.0, 2.0, 3.0, 4.0, 5.0, NAN], [1e300] * 6, [7.0] * 4 + [NAN] * 2)
    vector = statistics(table, StatisticsWork("logistic_regression", None, classes=2)).vector
    found = describe_statistics(vector, ("x", "huge", "few"))
    assert found == {
        "rows": 6,
        "columns": {
            "x": {"missing": 1, "mean": 3.0, "scale": pytest.approx(2.0**0.5)},
            "huge": {"missing": 0, "mean": 1e300, "scale": 0.0},
            "few": {"missing": 2, "mean": None, "scale": None},
        },
    }
    json.dumps(found, allow_nan=False)


def report_of(name: str) -> Stop:
    stop = travel(name).stops[-1]
    assert stop.step.name == "report"
    return stop


@pytest.mark.parametrize("name", ["logistic_regression", "linear_regression"])
def test_a_report_is_described_by_the_figures_of_its_node(name: str) -> None:
    stop = report_of(name)
    made = stop.made[NODES[0]]
    found = stop.question.describe(Update(NODES[0], made.vector, made.weight))
    assert found is not None
    assert found["figures"]["rows"] == made.weight
    assert found["figures"].keys() & {"auc", "mae"}
    assert found["outliers"] == {"age": 0, "pressure": 0, "weight": 0}
    json.dumps(found, allow_nan=False)


def test_only_numbers_in_units_of_their_spread_have_outliers() -> None:
    """The rows of a rare level lie many deviations from its share, and are what they are."""
    stop = report_of("logistic_regression")
    encoding = Encoding(
        (
            ColumnEncoding("age", missing_indicator=True),
            ColumnEncoding("raw", scaled=False),
            ColumnEncoding("flag", ColumnKind.BOOLEAN),
            ColumnEncoding("city", ColumnKind.CATEGORY, "indicators", levels=("a", "b")),
            ColumnEncoding("seen", ColumnKind.TIME),
        ),
        classes=("0", "1"),
    )
    plan = replace(stop.question.plan, findings=replace(stop.question.plan.findings, encoding=encoding))
    layout = ReportLayout(2, len(plan.run.options.features), len(encoding.inputs))
    vector = np.zeros(layout.size)
    layout.split(vector)["outliers"][:] = 7.0
    found = stop.step.describe(plan, Update(NODES[0], vector, 1.0))
    assert found is not None
    assert found["outliers"] == {"age": 7, "seen": 7}


def heavier(vector: Vector, weight: float) -> tuple[Vector, float]:
    return vector, weight + 1.0


def more_rows_than_stated(vector: Vector, weight: float) -> tuple[Vector, float]:
    vector[0] += 1000.0
    return vector, vector[0]


def more_outliers_than_rows(vector: Vector, weight: float) -> tuple[Vector, float]:
    ReportLayout(2, 3, 3).split(vector)["outliers"][1] = 81.0
    return vector, weight


def more_cells_than_rows(vector: Vector, weight: float) -> tuple[Vector, float]:
    ReportLayout(2, 3, 3).split(vector)["cells"][1, 4] += 1.0
    return vector, weight


@pytest.mark.parametrize(
    "lie", [heavier, more_rows_than_stated, more_outliers_than_rows, more_cells_than_rows]
)
def test_a_report_that_cannot_be_of_the_rows_that_were_stated_is_refused(
    lie: Callable[[Vector, float], tuple[Vector, float]],
) -> None:
    stop = report_of("logistic_regression")
    made = stop.made[NODES[0]]
    stop.question.check(Update(NODES[0], made.vector.copy(), made.weight))
    with pytest.raises(FederatedError):
        stop.question.check(Update(NODES[0], *lie(made.vector.copy(), made.weight)))
