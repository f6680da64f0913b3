"""What nodes tell of contributions: sums that add up to those of all rows, about several subjects, without whom has opted out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heliosdb.algorithms import explained
from heliosdb.algorithms.explained import add_contributions, choose_rows
from heliosdb.algorithms.report_figures import read_report, report_fault
from heliosdb.algorithms.report_layout import MOST_CONTRIBUTIONS, ReportLayout
from heliosdb.algorithms.reported import report
from heliosdb.algorithms.table import Table
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Scaling
from heliosdb.scoring.players import Players
from heliosdb.scoring.shapley import Explainer, prepare_explanation
from tests.unit.algorithms.test_report import task_of

SLOPES = np.array([1.0, -2.0, 0.0])
CONTENT = {
    "slopes": SLOPES.tolist(), "fills": [0.0] * 3, "shifts": [0.0] * 3, "intercept": 0.5, "link": "logistic",
    "target_mean": 0.0, "target_scale": 1.0,
}  # fmt: skip


def explainer() -> Explainer:
    return prepare_explanation("linear", CONTENT, NO_STATE, Players(np.arange(3), 3))


def rows(count: int, silent: int = 0, seed: int = 0, subjects: int | None = None) -> Table:
    """Held-out rows, of which the first subjects have opted out."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 3))
    target = (rng.random(count) < 0.5).astype(float)
    codes = np.arange(count) % (subjects or count)
    made = Table.from_rows(features, target, codes, np.ones(count, dtype=bool))
    return replace(made, explains=codes >= silent if silent else None)


def told(table: Table) -> tuple[int, np.ndarray]:
    return add_contributions(table, explainer(), 1, 3, np.random.default_rng(1))


def test_the_sum_over_nodes_is_that_of_all_rows() -> None:
    layout, total = ReportLayout(2, 3, 3), np.zeros(ReportLayout(2, 3, 3).size)
    nodes = [rows(60, seed=seed) for seed in range(3)]
    for table in nodes:
        vector = report(
            table, task_of(Scaling((0.0,) * 3, (1.0,) * 3)), layout, lambda x: x @ SLOPES + 0.5,
            np.random.default_rng(0), explain=explainer(),
        )  # fmt: skip
        assert report_fault(layout, vector) is None
        total += vector
    found = read_report(layout, total, ("0", "1"), ("x", "y", "z"), 1.0)["explanation"]
    pooled = np.concatenate([table.features for table in nodes])
    assert found["rows"] == 180
    np.testing.assert_allclose(found["means"], [np.abs(pooled * SLOPES).mean(axis=0)])


def test_without_rows_that_are_explained_a_report_says_nothing_of_it() -> None:
    layout = ReportLayout(2, 3, 3)
    vector = report(
        rows(60),
        task_of(Scaling((0.0,) * 3, (1.0,) * 3)),
        layout,
        lambda x: x @ SLOPES,
        np.random.default_rng(0),
    )
    assert "explanation" not in read_report(layout, vector, ("0", "1"), ("x", "y", "z"), 1.0)


@pytest.mark.parametrize("silent", [1, 3, 4, 5, 9])
def test_who_has_opted_out_is_left_out_with_four_others_at_least(silent: int) -> None:
    table = rows(40, silent)
    chosen = choose_rows(table, 1, np.random.default_rng(2))
    assert not chosen[:silent].any()
    assert np.count_nonzero(~chosen) == max(5, silent)
    count, sums = told(table)
    assert count == 40 - max(5, silent)
    changed = replace(table, features=np.where(np.arange(40)[:, None] < silent, 1e6, table.features))
    assert told(changed)[1].tobytes() == sums.tobytes()


def test_all_rows_of_a_subject_that_has_opted_out_are_left_out() -> None:
    table = rows(60, 1, subjects=20)
    chosen = choose_rows(table, 1, np.random.default_rng(2))
    assert np.unique(table.subjects[~chosen]).size == 5
    assert not set(table.subjects[chosen]) & set(table.subjects[~chosen])


@pytest.mark.parametrize(("count", "silent"), [(4, 0), (0, 0), (8, 3), (9, 9)])
def test_of_fewer_than_five_subjects_nothing_is_told(count: int, silent: int) -> None:
    explained_rows, sums = told(rows(count, silent))
    assert (explained_rows, sums.any()) == (0, False)


def test_of_many_rows_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explained, "MOST_COST", 360)
    monkeypatch.setattr(explained, "FEWEST_ROWS", 10)
    table = rows(400)
    count, sums = told(table)
    assert count == 120
    np.testing.assert_allclose(sums[0] / count, np.abs(table.features * SLOPES).mean(axis=0), rtol=0.3)


def test_classes_times_features_are_bounded() -> None:
    assert ReportLayout(10, MOST_CONTRIBUTIONS // 10, 3).contributions == (10, MOST_CONTRIBUTIONS // 10)
    assert ReportLayout(100, MOST_CONTRIBUTIONS // 10, 3).contributions == (0, 0)


@pytest.mark.parametrize(
    ("block", "value", "fault"),
    [
        ("explained", 61.0, "explained more rows"), ("explained", 1.5, "explained more rows"),
        ("contributions", -1.0, "sizes of contributions"), ("contributions", 1.7e308, "sizes of contributions"),
        ("explained", 0.0, "of no rows"),
    ],
)  # fmt: skip
def test_what_no_rows_have_is_refused(block: str, value: float, fault: str) -> None:
    layout = ReportLayout(2, 3, 3)
    vector = report(
        rows(60), task_of(Scaling((0.0,) * 3, (1.0,) * 3)), layout, lambda x: x @ SLOPES, np.random.default_rng(0),
        explain=explainer(),
    )  # fmt: skip
    layout.split(vector)[block][:] = value
    assert fault in str(report_fault(layout, vector))
