"""Cox regression over split tables: as statsmodels' PHReg (Breslow) has it on the pooled rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from heliosdb.algorithms.cox import STARTS, demand_same_cells
from heliosdb.algorithms.survival_grid import (
    SMALLEST_CELL,
    count_cells,
    demand_answerable,
    join_cells,
    least_subjects,
)
from heliosdb.algorithms.table import Table
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.state import freeze
from heliosdb.domain.task import Scaling
from tests.support.pooled import Played, make_run, make_tables, play

NAMES = ("a", "b", "c")
ROLES = (("event", "died"),)


def make_survivors(rows: int, seed: int = 0, months: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, whole months, events; who is censored leaves in any month."""
    rng = np.random.default_rng(seed)
    inputs = (
        np.column_stack([rng.normal(size=rows), rng.exponential(1.0, rows), rng.random(rows) < 0.3]) * 1.0
    )
    waited = rng.exponential(np.exp(-inputs @ [0.6, -0.4, 0.8]) * 8.0)
    left = np.minimum(rng.uniform(0.0, 1.5 * months, rows), months)
    times, events = np.ceil(np.minimum(waited, left)), (waited <= left).astype(float)
    return inputs, np.minimum(times, months), events


def cox(tables: list[Table], **options: Any) -> Played:
    return play(make_run("cox_regression", NAMES, event="died", roles=ROLES, **options), tables)


def oracle_of(inputs: np.ndarray, times: np.ndarray, events: np.ndarray) -> Any:
    model = sm.PHReg(times, inputs, status=events, ties="breslow")
    return model.fit(method="newton", tol=1e-14, maxiter=100, disp=0)


@pytest.mark.parametrize(("nodes", "rows"), [(2, 2_000), (5, 5_000), (20, 20_000)])
def test_where_every_time_is_in_the_grid_it_is_that_of_the_pooled_rows(nodes: int, rows: int) -> None:
    inputs, times, events = make_survivors(rows, months=6)
    found = cox(make_tables(inputs, times, nodes, event=events))
    assert found.findings.ended is not None
    assert found.findings.ended.converged
    assert found.rounds <= 12
    assert found.notes == ("the hazard is of 6 distinct times with events",)
    oracle = oracle_of(inputs, times, events)
    np.testing.assert_allclose(found.column("estimate"), oracle.params, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.column("std_error"), oracle.bse, rtol=1e-6)
    np.testing.assert_allclose(found.column("p_value"), oracle.pvalues, rtol=1e-5, atol=1e-12)


def test_times_that_do_not_repeat_are_grouped_and_the_note_says_so() -> None:
    rng = np.random.default_rng(1)
    inputs, times, events = make_survivors(3_000)
    times = times - rng.random(times.size)
    found = cox(make_tables(inputs, times, 3, event=events))
    assert found.findings.ended is not None
    assert "intervals" in found.notes[0]
    oracle = oracle_of(inputs, times, events)
    np.testing.assert_allclose(found.column("estimate"), oracle.params, atol=0.6 * oracle.bse.max())


@pytest.mark.parametrize("seed", range(4))
def test_no_node_answers_about_a_cell_of_a_few(seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, times, events = make_survivors(700, seed)
    times = times if seed % 2 else times - rng.random(times.size)
    tables = make_tables(inputs, times, 3, event=events)
    found = cox(tables)
    assert found.findings.scaling is not None
    for table in tables:
        counts = count_cells(table, found.model.state[STARTS], found.findings.scaling)
        assert ((counts == 0) | (counts >= SMALLEST_CELL)).all()
        total = counts.sum(axis=1)
        assert ((total == 0) | (total >= least_subjects(3))).all()


def test_a_finer_grid_than_a_node_allows_is_refused_there() -> None:
    inputs, times, events = make_survivors(300)
    (table,) = make_tables(inputs, times - np.random.default_rng(0).random(300), 1, event=events)
    with pytest.raises(FederatedError) as caught:
        demand_answerable(table, np.arange(1, 600, dtype=np.int64), Scaling((), (), 5.0, 3.0))
    assert caught.value.code is ErrorCode.NODE_REFUSED


def test_another_grid_than_the_run_began_with_is_refused_and_a_coarser_one_is_not() -> None:
    known = freeze({STARTS: np.array([3, 9, 20])})
    demand_same_cells(known, np.array([3, 20]))
    with pytest.raises(FederatedError) as caught:
        demand_same_cells(known, np.array([3, 10]))
    assert caught.value.code is ErrorCode.NODE_REFUSED


@pytest.mark.parametrize(
    ("event", "time", "text"),
    [(2.0, 3.0, "true or false, or 0 or 1"), (1.0, -1.0, "0 or more")],
)
def test_events_and_times_that_are_none_are_refused(event: float, time: float, text: str) -> None:
    inputs, times, events = make_survivors(300)
    times[5], events[5] = time, event
    with pytest.raises(FederatedError, match=text):
        cox(make_tables(inputs, times, 2, event=events))


def test_without_an_event_there_is_nothing_to_learn() -> None:
    inputs, times, _ = make_survivors(300)
    with pytest.raises(FederatedError, match="no row has the event"):
        cox(make_tables(inputs, times, 2, event=np.zeros(300)))


def test_collinear_inputs_are_named_and_penalties_are_none_the_less_estimates() -> None:
    inputs, times, events = make_survivors(1_500)
    inputs[:, 2] = 2.0 * inputs[:, 0] - 1.0
    tables = make_tables(inputs, times, 2, event=events)
    with pytest.raises(FederatedError, match="collinear"):
        cox(tables)
    found = cox(tables, penalty=0.1)
    assert np.isfinite(found.column("estimate")).all()


def test_a_group_without_events_is_separated() -> None:
    inputs, times, events = make_survivors(2_000)
    events[inputs[:, 2] == 1.0] = 0.0
    found = cox(make_tables(inputs, times, 3, event=events))
    assert found.findings.ended is not None
    assert found.findings.ended.reason.startswith("separation: the estimates of c grow without end")


def test_cells_that_are_refused_are_joined_until_none_is() -> None:
    starts = np.arange(8, dtype=np.int64)
    refused = np.array([1, 1, 1, 0, 1, 0, 0, 1], dtype=bool)
    assert join_cells(starts, refused).tolist() == [0, 3, 5, 6]
    assert join_cells(starts, np.array([1, 0, 0, 0, 0, 0, 1, 1], dtype=bool)).tolist() == [0, 2, 3, 4, 5, 6]
    assert join_cells(np.array([3]), np.array([True])).tolist() == [3]
