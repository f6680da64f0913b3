"""Where the bins of numbers end: about as many values in each, from counts that are about nobody alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.binning import BINS, LOOKS, BinsStep, first_of_round_0
from heliosdb.algorithms.encoding import encode
from heliosdb.algorithms.levels import LEVELS
from heliosdb.algorithms.statistics import STATISTICS
from heliosdb.algorithms.steps import Taken
from heliosdb.algorithms.table import Table
from heliosdb.coordinator.course import Course, ModelState
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.errors import ErrorCode, FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Task
from heliosdb.domain.update import Total, Update
from heliosdb.domain.vector import Vector
from heliosdb.parts.algorithms import ALGORITHMS
from tests.contracts.journeys import compute, survives, travel
from tests.support.runs import RUN, with_options

STEP = BinsStep("logistic_regression")
NUMBER = ColumnKind.NUMBER


def table(*columns: Vector) -> Table:
    rows = columns[0].size
    nobody = np.zeros(rows, dtype=np.bool_)
    return Table(np.column_stack(columns), np.zeros(rows), np.arange(rows), nobody)


def plan_of(*transforms: str, kinds: Sequence[ColumnKind] = (NUMBER, NUMBER)) -> RunPlan:
    run = with_options(RUN, features=("age", "stay"), target="ill", feature_transforms=transforms)
    columns = zip(("age", "stay"), kinds, strict=True)
    encoding = Encoding(tuple(ColumnEncoding(name, kind) for name, kind in columns), ("0", "1"))
    return RunPlan(run, Findings(encoding=encoding), RoundNumber(0))


def ask(plan: RunPlan, state: State = NO_STATE) -> Task:
    question = Course.of(plan.run).ask(plan, 0, BINS, ModelState(state), 2)
    return question.task(NodeName("n"), "d", NO_STATE)


def run(plan: RunPlan, tables: Sequence[Table]) -> Taken:
    """All its exchanges: asked, checked, computed, judged, summed and read."""
    state = NO_STATE
    for _ in range(LOOKS):
        task, total = ask(plan, state), 0.0
        STEP.check(task)
        for number, one in enumerate(tables):
            made = compute(STEP, one, task)
            assert made.vector.shape == (task.work.size,)
            assert (
                STEP.fault(plan, task.work, Update(NodeName(f"n{number}"), made.vector, made.weight)) is None
            )
            total = total + made.vector
        taken = STEP.read(plan, state, Total(np.asarray(total), 1.0, len(tables)))
        if taken.following != BINS:
            return taken
        state = taken.state
    raise AssertionError("it goes on for ever")


def edges(taken: Taken, place: int = 0) -> tuple[float, ...]:
    assert taken.findings is not None
    assert taken.findings.encoding is not None
    column = taken.findings.encoding.columns[place]
    assert column.form == "bins"
    return column.edges


@pytest.mark.parametrize(
    ("kind", "scale", "shift"),
    [
        (NUMBER, 10.0, 50.0),
        (NUMBER, 1e-9, 0.0),
        (ColumnKind.TIME, 400.0, 19_000.0),
        (NUMBER, 1e6, 1e9),
        (NUMBER, 1e200, 0.0),
    ],
)
def test_bins_hold_about_as_many_values_each(kind: ColumnKind, scale: float, shift: float) -> None:
    rng = np.random.default_rng(3)
    values = shift + scale * rng.normal(size=4_000)
    plan = plan_of("bins(age, 10)", kinds=(kind, NUMBER))
    tables = [table(part, part) for part in np.split(values, [1_000, 1_500])]
    found = edges(run(plan, tables))
    assert len(found) == 9
    shares = np.diff([0, *np.searchsorted(np.sort(values), found), 4_000]) / 4_000
    assert np.all(np.abs(shares - 0.1) < 0.03), shares


def test_a_number_with_few_values_has_an_edge_between_each_two_and_columns_bins_of_their_own() -> None:
    plan = plan_of("bins(age, 10)", "bins(stay, 2)")
    whole = np.repeat([0.0, 1.0, 2.0, 7.0], 50)
    taken = run(plan, [table(whole, np.arange(200.0)), table(-whole, np.arange(200.0))])
    assert len(edges(taken)) == 6
    assert all(np.searchsorted(edges(taken), [-7, -2, -1, 0, 1, 2, 7]) == np.arange(7))
    assert edges(taken, 1) == pytest.approx((99.5,), abs=15)
    assert taken.following == STATISTICS


def test_constants_missing_values_and_what_has_none_are_defined() -> None:
    plan = plan_of("bins(age, 4)", "bins(stay, 4)")
    stay = np.concatenate([np.full(50, np.nan), np.full(10, np.inf), np.linspace(0, 1e280, 140)])
    taken = run(plan, [table(np.full(200, 7.0), stay)])
    assert edges(taken) == ()
    assert taken.notes == ("age cannot be cut into bins",)
    assert len(edges(taken, 1)) == 3
    with pytest.raises(FederatedError, match="the same value in every row"):
        run(plan, [table(np.full(200, 7.0), np.full(200, np.nan))])


def test_round_0_begins_with_it_and_goes_on_with_levels() -> None:
    assert first_of_round_0(plan_of()) == STATISTICS
    plan = plan_of("bins(age, 4)", kinds=(NUMBER, ColumnKind.CATEGORY))
    assert first_of_round_0(plan) == BINS
    assert run(plan, [table(np.arange(200.0), np.zeros(200))]).following == LEVELS


PRODUCTS = [name for name in ALGORITHMS.names() if isinstance(ALGORITHMS.entry(name).part, str)]
IMAGES = {name for name in PRODUCTS if hasattr(ALGORITHMS.entry(name).settings, "input_shape")}
"""Of which the first inputs are the numbers of one image, one each."""


@pytest.mark.parametrize("name", sorted(IMAGES))
def test_an_image_is_not_put_into_bins(name: str) -> None:
    with pytest.raises(FederatedError, match='ends within feature "pressure"'):
        travel(name, binned=True)


@pytest.mark.parametrize("name", [name for name in PRODUCTS if name not in IMAGES])
def test_every_algorithm_learns_from_bins(name: str) -> None:
    journey = travel(name, newton=survives(name), binned=True)
    encoding = journey.findings.encoding
    assert encoding is not None
    age, pressure, weight = encoding.columns
    assert (age.form, pressure.form, weight.form) == ("value", "bins", "value")
    assert len(pressure.edges) == 3
    assert len(encoding.inputs) == 5
    # What the node's rows are told apart by, the prediction is, too.
    prediction = journey.course.algorithm.predict(journey.model.state, journey.findings)
    scaling = journey.findings.scaling
    assert scaling is not None
    assert len(scaling.means) == 5
    assert scaling.means[1] > scaling.means[2] > scaling.means[3] > 0.0
    assert prediction.content


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": NO_STATE}, "the cells alone"),
        ({"state": make_state(cells=np.array([2.0, 1.0, 0.0]), n_cells=np.array([2, 1]))}, "do not fit"),
        ({"state": make_state(cells=np.array([1.0, 2.0]), n_cells=np.array([2]))}, "do not fit"),
        ({"columns": ()}, "not among"),
        ({"columns": (1, 0)}, "not among"),
        ({"columns": (0, 2)}, "not among"),
        ({"size": 7}, "asks for 7 values"),
        ({"kind": ColumnKind.CATEGORY}, "numbers, times and intervals"),
        ({"budget": Budget(1.0, 1e-5)}, "privacy budget"),
    ],
)
def test_a_node_refuses_a_task_that_is_none(changed: dict[str, Any], said: str) -> None:
    plan = plan_of("bins(age, 4)", "bins(stay, 4)")
    task = ask(plan)
    work, encoding = task.work, task.encoding
    assert encoding is not None
    settings = {**work.settings, "columns": changed.get("columns", work.settings["columns"])}
    work = replace(work, settings=settings, size=changed.get("size", work.size))
    first = replace(encoding.columns[0], kind=changed.get("kind", NUMBER))
    encoding = Encoding((first, encoding.columns[1]), encoding.classes)
    kept = {name: changed[name] for name in ("state", "budget") if name in changed}
    with pytest.raises(FederatedError, match=said) as caught:
        STEP.check(replace(task, work=work, encoding=encoding, **kept))
    assert caught.value.code is ErrorCode.INVALID_VALUE


def test_counts_that_no_rows_have_are_rejected() -> None:
    plan = plan_of("bins(age, 4)", "bins(stay, 4)")
    task = ask(plan)
    honest = compute(STEP, table(np.arange(200.0), np.arange(200.0)), task)
    spoilt = honest.vector.copy()
    spoilt[0] += 1.0
    for vector, weight in (
        (spoilt, 200.0),
        (honest.vector, 199.0),
        (honest.vector / 2, 200.0),
        (-honest.vector, 200.0),
    ):
        assert STEP.fault(plan, task.work, Update(NodeName("n"), vector, weight)) is not None


def test_no_cell_and_no_edges_of_a_coordinators_choice_tell_one_row_from_its_neighbours() -> None:
    """Cells and edges about every single value, one after the other: all sums are of five rows or of none."""
    values = np.sort(np.random.default_rng(5).normal(50.0, 10.0, 203))
    rows = table(values, values)
    plan = plan_of("bins(age, 4)")
    between = 0.5 * values[1:] + 0.5 * values[:-1]
    state = make_state(cells=between, n_cells=np.array([between.size]), look=np.array([2]))
    counts = compute(STEP, rows, ask(plan, state)).vector
    assert counts.sum() == 203
    assert not np.any((counts > 0) & (counts < 5))

    def above(edge: float) -> Vector:
        column = ColumnEncoding("age", form="bins", edges=(edge,))
        made = encode(rows, Encoding((column, ColumnEncoding("stay"))), smallest_cell=5)
        first: Vector = made.features[:, 0]
        return first

    told = np.array([above(edge) for edge in between])
    # Whatever two of these tasks are subtracted from each other.
    classes = np.unique(told, axis=1, return_counts=True)[1]
    assert classes.min() >= 5
