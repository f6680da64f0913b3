"""What a Cox regression's report says of held-out survivors: pairs of each node, added up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.steps import REPORT
from heliosdb.algorithms.table import Table
from heliosdb.domain.findings import RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.update import Update
from tests.support.pooled import Played, make_tables
from tests.unit.algorithms.test_concordance import counted_one_by_one
from tests.unit.algorithms.test_cox import cox, make_survivors


def third_held_out(table: Table) -> Table:
    return replace(table, held_out=table.subjects % 3 == 0)


def reported(played: Played, tables: list[Table]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report over all nodes, and what is said of each."""
    stated = {NodeName(f"n{place}"): float(table.rows) for place, table in enumerate(tables)}
    plan = RunPlan(played.course.run, played.findings, RoundNumber(played.rounds), stated)
    question = played.course.ask(plan, 1, REPORT, played.model, len(tables))
    gathering, described = question.gathering(), []
    for node, table in zip(stated, tables, strict=True):
        task = question.task(node, None, NO_STATE)
        question.step.check(task)
        made = question.step.compute(table, task, NO_STATE, TaskDraws(task, b"secret"))
        update = Update(node, made.vector, made.weight)
        question.check(update)
        gathering.take(update)
        described.append(dict(question.step.describe(plan, update)["figures"] or {}))  # type: ignore[attr-defined]
    conclusion = played.course.conclude(question, played.model, gathering.result())
    assert conclusion.taken.report is not None
    return dict(conclusion.taken.report), described


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_c_index_is_that_of_the_pairs_within_nodes(nodes: int) -> None:
    inputs, times, events = make_survivors(600, months=6)
    inputs[3, 0], inputs[6, 1] = np.nan, np.nan
    played = cox(make_tables(inputs, times, nodes, event=events))
    tables = [third_held_out(table) for table in make_tables(inputs, times, nodes, event=events)]
    found, each = reported(played, tables)

    estimates = played.column("estimate")
    scaling = played.findings.scaling
    assert scaling is not None
    pairs = []
    for table in tables:
        rows = table.validation()
        filled = np.where(np.isnan(rows.features), scaling.means, rows.features)
        pairs.append(counted_one_by_one(rows.target, rows.roles["event"], filled @ estimates))
    ordered, comparable = np.sum(pairs, axis=0)
    assert found == {
        "rows": sum(int(table.held_out.sum()) for table in tables),
        "c_index": pytest.approx(ordered / comparable, abs=1e-12),
    }
    assert found["c_index"] > 0.6
    own = [one["c_index"] for one in each]
    assert own == pytest.approx([one / of for one, of in pairs], abs=1e-12)


def test_a_node_with_few_events_held_out_counts_no_pairs() -> None:
    inputs, times, events = make_survivors(600, months=6)
    tables = make_tables(inputs, times, 2, event=events)
    played = cox(tables)
    few, many = map(third_held_out, tables)
    died = np.flatnonzero(few.held_out & (few.roles["event"] > 0))
    event = np.array(few.roles["event"])
    event[died[4:]] = 0.0
    few = replace(few, roles={"event": event})
    found, (first, second) = reported(played, [few, many])
    assert first == {"rows": int(few.held_out.sum()), "c_index": None}
    assert found["c_index"] == second["c_index"]
    assert found["rows"] == first["rows"] + second["rows"]

    nobody = [replace(table, held_out=np.zeros(table.rows, dtype=bool)) for table in tables]
    assert reported(played, nobody) == ({"rows": 0, "c_index": None}, [{}, {}])


@pytest.mark.parametrize(
    "vector", [[-1.0, 0.0, 0.0], [50.0, 3.0, 2.0], [50.0, 1.0, 1251.0], [700.0, 0.0, 0.0]]
)
def test_pairs_that_no_rows_have_are_faults(vector: list[float]) -> None:
    inputs, times, events = make_survivors(600, months=6)
    played = cox(make_tables(inputs, times, 1, event=events))
    plan = RunPlan(played.course.run, played.findings, RoundNumber(3), {NodeName("n0"): 600.0})
    question = played.course.ask(plan, 1, REPORT, played.model, 1)
    node = NodeName("n0")
    update = Update(node, np.array(vector), max(1.0, vector[0]))
    assert question.step.fault(plan, question.task(node, None, NO_STATE).work, update) is not None
