"""Counting what is certified: against every way in which so many votes can be others, over pooled rows."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from heliosdb.algorithms.certifying import (
    CERTIFIED,
    CERTIFY,
    CERTIFY_STEP,
    Certifying,
    CertifyStep,
    lowered,
    tell,
)
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.table import Table
from heliosdb.domain.encoding import ColumnEncoding, Encoding
from heliosdb.domain.errors import FederatedError
from heliosdb.domain.findings import Findings, RunPlan
from heliosdb.domain.ids import NodeName, RoundNumber
from heliosdb.domain.prediction import Prediction
from heliosdb.domain.privacy import Budget, Mechanism
from heliosdb.domain.state import NO_STATE, freeze
from heliosdb.domain.task import Privacy, Task
from heliosdb.domain.update import Total, Update
from heliosdb.scoring.ballot import Ballot, Candidate, hold_ballot
from heliosdb.scoring.votes import certified, winners
from tests.support.federation import READING, key
from tests.support.runs import RUN, with_options


def changed(votes: tuple[int, ...]) -> set[tuple[int, ...]]:
    """All that one node can make of the votes: its own is another."""
    found = set()
    for giver, taker in product(range(len(votes)), repeat=2):
        if votes[giver]:
            found.add(tuple(n - (p == giver) + (p == taker) for p, n in enumerate(votes)))
    return found


def withstood(votes: tuple[int, ...]) -> int:
    """How many changed votes never have another class win, by looking at all of them."""
    first, reached = votes.index(max(votes)), {votes}
    for count in range(sum(votes)):
        reached = {other for one in reached for other in changed(one)}
        if any(one.index(max(one)) != first for one in reached):
            return count
    return sum(votes)


def test_as_many_are_certified_as_no_change_of_votes_reaches() -> None:
    cases = [v for n in (2, 3, 4) for v in product(range(6), repeat=n) if 3 <= sum(v) <= 7]
    for votes in cases:
        (got,) = certified(np.array([votes]), 99)
        assert got == min(withstood(votes), sum(votes)), votes
        assert certified(np.array([votes]), 1)[0] == min(got, 1)
        assert winners(np.array([votes]))[0] == votes.index(max(votes))
    assert len(cases) > 200


def table(rows: int, *, least: int, subjects: Any = None) -> Table:
    own = np.arange(rows) if subjects is None else subjects
    made = Table(np.zeros((rows, 1)), np.zeros(rows), own, np.ones(rows, dtype=np.bool_))
    return replace(made, min_cell=least)


def test_figures_of_few_subjects_count_as_lower_ones() -> None:
    radii = np.repeat([0, 1, 2], [20, 3, 30])
    right = np.ones(53, dtype=np.bool_)
    right[:10] = False

    told = tell(table(53, least=5), radii, right, 3).reshape(2, 3)

    assert told.tolist() == [[10, 0, 0], [13, 0, 30]]


def test_what_is_told_is_never_more_than_what_is_so_nor_of_too_few() -> None:
    for counts in product((0, 1, 3, 5, 6, 12), repeat=4):
        told = lowered(counts, counts, 5)
        assert sum(told) == sum(counts)
        for place in range(4):
            assert sum(told[place:]) <= sum(counts[place:])
        assert sum(counts) < 5 or all(count == 0 or count >= 5 for count in told), counts
        if sum(counts) < 5:
            assert told == [sum(counts), 0, 0, 0]


def test_how_many_of_few_there_are_does_not_show() -> None:
    assert {tuple(lowered((few, 0, 40 - few), (few, 0, 40 - few), 5)) for few in range(1, 6)} == {(5, 0, 35)}
    # Many rows of few subjects: their number would tell of these.
    assert lowered((9, 0, 40), (2, 0, 40), 5) == [49, 0, 0]


def test_of_one_subject_all_rows_are_told_together() -> None:
    radii, right = np.repeat([0, 1], [50, 50]), np.ones(100, dtype=np.bool_)
    one = np.zeros(100, dtype=np.int64)
    assert tell(table(100, least=5, subjects=one), radii, right, 2).tolist() == [0, 0, 100, 0]
    assert tell(table(100, least=5), radii, right, 2).tolist() == [0, 0, 50, 50]


def test_nothing_is_told_of_no_rows() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert not tell(table(0, least=5), none, none.astype(np.bool_), 3).any()


NODES = 3
INTERCEPTS = (-0.6, -0.1, 0.0, 0.3, 0.9)


def ballot() -> Ballot:
    """Five models of one column that differ in where they say yes."""
    columns = Encoding((ColumnEncoding("x"),))

    def of(intercept: float) -> Prediction:
        numbers = {"intercept": intercept, "slopes": [1.0], "fills": [0.0], "shifts": [0.0]}
        return Prediction("linear", {**numbers, "link": "logistic", "target_mean": 0.0, "target_scale": 1.0})

    return hold_ballot([Candidate(n, of(one), columns, ("0", "1")) for n, one in enumerate(INTERCEPTS, 1)])


def asked() -> tuple[CertifyStep, RunPlan, Task]:
    """The question of a run, as a node gets it."""
    run = with_options(
        RUN, algorithm="logistic_regression", features=("x",), target="y", validation_split=0.2
    )
    step = CertifyStep(ballot())
    plan = RunPlan(run, Findings(), RoundNumber(0))
    plan = replace(plan, findings=Certifying(algorithm("logistic_regression"), step).prepare(plan))
    what = step.ask(plan, NO_STATE)
    reading = replace(READING, features=("x",), target="y")
    task = Task(
        key(CERTIFY, round_number=0), reading, what.work, state=what.state, encoding=plan.findings.encoding
    )
    return step, plan, task


def test_the_sum_of_nodes_is_what_pooled_rows_show() -> None:
    rng = np.random.default_rng(5)
    x, noise = rng.normal(size=(2, 3000))
    y = (x + 0.3 * noise > 0).astype(np.float64)
    step, plan, task = asked()
    CERTIFY_STEP.check(task)
    total = np.zeros(task.work.size)
    for rows in np.array_split(np.arange(x.size), NODES):
        made = Table(x[rows, None], y[rows], np.arange(rows.size), rows % 2 == 0)
        answer = CERTIFY_STEP.compute(made, task, NO_STATE, TaskDraws(task, b"k" * 32))
        update = Update(NodeName("n"), answer.vector, answer.weight)
        assert step.fault(plan, task.work, update) is None
        total += answer.vector

    taken = step.read(plan, NO_STATE, Total(total, float(total.sum()), NODES))

    held = np.arange(x.size) % 2 == 0
    votes = [tuple(int(n) for n in (5 - yes, yes)) for yes in sum(x[held] + b > 0 for b in INTERCEPTS)]
    margin = ballot().prediction.content["margin"]
    radii = [min(withstood(one), margin) for one in votes]
    right = [(one[1] > one[0]) == bool(is_so) for one, is_so in zip(votes, y[held], strict=True)]
    assert taken.report is not None
    expected = {
        name: [sum(r == k and hit == is_right for r, hit in zip(radii, right, strict=True)) for k in range(3)]
        for name, is_right in (("wrong", False), ("right", True))
    }
    assert taken.report[CERTIFIED] == expected
    assert taken.findings is not None and taken.findings.ended is not None
    assert len(set(radii)) == 3, "not every figure was tried"


def test_votes_for_many_classes_are_counted_some_rows_at_a_time() -> None:
    _, _, task = asked()
    content = json.loads(task.state["content"].tobytes()) | {"labels": 500}
    written = np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)
    task = replace(task, state=freeze({**task.state, "content": written}))
    rows, target = np.zeros((40_000, 1)), np.zeros(40_000)
    made = Table(rows, target, np.arange(target.size), np.ones(target.size, dtype=np.bool_))
    tracemalloc.start()
    try:
        answer = CERTIFY_STEP.compute(made, task, NO_STATE, TaskDraws(task, b"k" * 32))
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert answer.weight == target.size


def test_a_margin_beyond_all_models_is_none() -> None:
    _, _, task = asked()
    content = json.loads(task.state["content"].tobytes()) | {"margin": 10**30}
    written = np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)
    with pytest.raises(FederatedError, match="none that can vote"):
        CERTIFY_STEP.check(replace(task, state=freeze({**task.state, "content": written})))


@pytest.mark.parametrize(
    "change",
    [
        lambda task: replace(task, state=NO_STATE),
        lambda task: replace(task, state=freeze({"content": np.frombuffer(b"[", dtype=np.uint8)})),
        lambda task: replace(task, state=freeze({"content": np.frombuffer(b"{}", dtype=np.uint8)})),
        lambda task: replace(task, state=freeze({**task.state, "9/more": np.zeros(3)})),
        lambda task: replace(task, encoding=None),
        lambda task: replace(task, encoding=Encoding((ColumnEncoding("x"),) * 2, ("0", "1"))),
        lambda task: replace(task, work=replace(task.work, size=5)),
        lambda task: replace(task, work=replace(task.work, settings={"classes": 2, "more": 1})),
        lambda task: replace(task, budget=Budget(1.0, 1e-5)),
        lambda task: replace(task, work=replace(task.work, privacy=Privacy(Mechanism(1.0), 1.0))),
    ],
)
def test_a_node_refuses_what_is_no_question_about_a_vote(change: Callable[[Task], Task]) -> None:
    _, _, task = asked()
    with pytest.raises(FederatedError):
        CERTIFY_STEP.check(change(task))


def test_counts_that_no_rows_lead_to_are_a_fault() -> None:
    step, plan, task = asked()
    for vector, weight in (
        ([1.5, 0, 0, 0, 0, 0], 1.5),
        ([-1, 2, 0, 0, 0, 0], 1.0),
        ([9, 0, 0, 0, 0, 0], 1.0),
    ):
        update = Update(NodeName("n"), np.array(vector, dtype=np.float64), weight)
        assert step.fault(plan, task.work, update) is not None
