"""What nodes tell of contributions: sums that are those of whole groups of subjects, without whoever has opted out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from heliosdb.algorithms import explained
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.explained import add_contributions, choose_rows, find_explainer
from heliosdb.algorithms.linear import LINEAR_REGRESSION
from heliosdb.algorithms.report import ReportStep
from heliosdb.algorithms.report_figures import read_report, report_fault
from heliosdb.algorithms.report_layout import MOST_CONTRIBUTIONS, ReportLayout
from heliosdb.algorithms.reported import report
from heliosdb.algorithms.table import Table, first_part, places_of
from heliosdb.algorithms.works import ReportWork
from heliosdb.domain.folds import Fold
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Scaling
from heliosdb.scoring.players import Players
from heliosdb.scoring.shapley import Explainer, prepare_explanation
from tests.unit.algorithms.test_checks import EVALUATION, SCALING, task
from tests.unit.algorithms.test_report import task_of

SLOPES = np.array([1.0, -2.0, 0.0])
CONTENT = {
    "slopes": SLOPES.tolist(), "fills": [0.0] * 3, "shifts": [0.0] * 3, "intercept": 0.5, "link": "logistic",
    "target_mean": 0.0, "target_scale": 1.0,
}  # fmt: skip


def explainer() -> Explainer:
    return prepare_explanation("linear", CONTENT, NO_STATE, Players(np.arange(3), 3))


def rows(
    count: int, silent: Iterable[int] = (), seed: int = 0, subjects: int | None = None, min_rows: int = 1
) -> Table:
    """Held-out rows. silent: the subjects that have opted out."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 3))
    target = (rng.random(count) < 0.5).astype(float)
    codes = np.arange(count) % (subjects or max(1, count))
    made = Table.from_rows(features, target, codes, np.ones(count, dtype=bool))
    places = places_of([b"%d" % code for code in codes.tolist()], b"the node's")
    silent = list(silent)
    explains = ~np.isin(codes, silent) if silent else None
    return replace(made, explains=explains, places=places, min_rows=min_rows)


def chosen_of(table: Table, cost: int | None = 1) -> frozenset[int]:
    """The subjects that are explained, of whom all rows are."""
    chosen = choose_rows(table, cost)
    found = frozenset(table.subjects[chosen].tolist())
    assert not found & set(table.subjects[~chosen].tolist())
    return found


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
    pooled = np.concatenate([table.features[choose_rows(table, 1)] for table in nodes])
    assert found["rows"] == 165
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


def test_who_has_opted_out_is_left_out_with_the_whole_group() -> None:
    everybody = chosen_of(rows(40))
    assert len(everybody) == 35
    for silent in everybody:
        table = rows(40, [silent])
        left = everybody - chosen_of(table)
        assert silent in left
        assert len(left) == 5
        # Nobody's opt-out but theirs changes who is explained with them.
        for other in left:
            assert chosen_of(rows(40, [other])) == chosen_of(table)
        count, sums = told(table)
        assert count == 30
        changed = replace(
            table, features=np.where(np.isin(table.subjects, list(left))[:, None], 1e6, table.features)
        )
        assert told(changed)[1].tobytes() == sums.tobytes()


def test_a_group_is_whole_where_subjects_have_several_rows() -> None:
    assert len(chosen_of(rows(90, subjects=30))) == 25
    assert len(chosen_of(rows(90, [3], subjects=30))) in (20, 25)


@pytest.mark.parametrize(
    ("count", "min_rows"), [(9, 1), (0, 1), (4, 5), (19, 10), (39, 11), (159, 81)]
)  # fmt: skip
def test_of_fewer_than_two_groups_nothing_is_told(count: int, min_rows: int) -> None:
    explained_rows, sums = told(rows(count, min_rows=min_rows))
    assert (explained_rows, sums.any()) == (0, False)


def test_without_an_order_of_the_node_nothing_is_told() -> None:
    assert not chosen_of(replace(rows(40), places=np.empty(0, dtype=np.uint64)))


@pytest.mark.parametrize(("count", "subjects"), [(150, None), (203, None), (400, None), (400, 100)])
@pytest.mark.parametrize("min_rows", [1, 7, 10])
def test_whatever_a_coordinator_varies_reports_differ_by_nobody_or_by_min_rows_subjects(
    monkeypatch: pytest.MonkeyPatch, count: int, subjects: int | None, min_rows: int
) -> None:
    monkeypatch.setattr(explained, "MOST_COST", 100_000)
    monkeypatch.setattr(explained, "FEWEST_ROWS", 10)
    rng, met = np.random.default_rng(count), set()
    # As an attacker pads trees until all but one row fit; and shares of rows that are held out.
    costs = [None, 1, *(100_000 // some for some in range(count - 3, count + 3)), 2_000, 10_000, 1_000_000]
    for cost in costs:
        for share in (0.99, 0.95, 0.9, 0.5, 0.25):
            for silent in ([], [3], *(rng.choice(count, size, replace=False) for size in (1, 5, 6))):
                table = rows(count, silent, subjects=subjects, min_rows=min_rows)
                held = first_part(table.places, share)
                met.add(chosen_of(replace(table, held_out=held).validation(), cost))
    assert len(met) > 5
    for one, other in combinations(met, 2):
        for apart in (one - other, other - one):
            assert not apart or len(apart) >= max(5, min_rows)


def test_datasets_of_other_min_rows_have_groups_of_the_same_groups() -> None:
    met = {chosen_of(rows(203, min_rows=least)) for least in range(1, 60)}
    for one, other in combinations(met, 2):
        assert min(len(some) for some in (one - other, other - one) if some) >= 5


def test_the_seed_of_a_task_draws_nobody() -> None:
    table = rows(400)
    sums = [add_contributions(table, explainer(), 1, 3, np.random.default_rng(seed)) for seed in (1, 2)]
    assert sums[0][0] == sums[1][0] == 395
    assert sums[0][1].tobytes() == sums[1][1].tobytes()


@pytest.mark.parametrize(
    ("count", "cost", "expected"),
    [(204, None, 190), (224, None, 160), (3_000, None, 160), (400, 3, 80), (400, 1, 390), (400, 10**6, 80)],
)
def test_of_many_rows_a_power_of_two_of_groups_is_explained(
    monkeypatch: pytest.MonkeyPatch, count: int, cost: int | None, expected: int
) -> None:
    monkeypatch.setattr(explained, "MOST_COST", 390)
    assert len(chosen_of(rows(count, min_rows=10), cost)) == expected


@pytest.mark.parametrize(("a_subject", "explained_rows"), [(30, 300), (100, 1_000), (101, 0)])
def test_a_group_that_is_too_large_is_explained_up_to_a_bound(a_subject: int, explained_rows: int) -> None:
    table = rows(40 * a_subject, subjects=40, min_rows=10)
    assert np.count_nonzero(choose_rows(table, None)) == explained_rows


def test_what_takes_too_long_of_one_row_explains_none_at_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = task(EVALUATION, (0.5, 1.0, -1.0))
    assert find_explainer(LINEAR_REGRESSION, asked, 0) is not None
    monkeypatch.setattr(explained, "MOST_COST", 1)
    assert find_explainer(LINEAR_REGRESSION, asked, 0) is None


@pytest.mark.parametrize(("fold", "told_of"), [(None, 35), (Fold(0, 5), 0), (Fold(3, 5), 0)])
def test_a_fold_has_no_explanation(fold: Fold | None, told_of: int) -> None:
    """It begins elsewhere in the order of all subjects, so that its groups are others."""
    layout, table = ReportLayout(0, 2, 2), rows(40)
    asked = task(EVALUATION, (0.5, 1.0, -1.0))
    work = ReportWork("linear_regression", SCALING, classes=0).to_work(layout)
    asked = replace(asked, work=work, reading=replace(asked.reading, fold=fold), budget=None)
    table = replace(table, features=table.features[:, :2])
    vector = (
        ReportStep("linear_regression").compute(table, asked, NO_STATE, TaskDraws(asked, b"k" * 32)).vector
    )
    assert layout.split(vector)["explained"][0] == told_of


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
