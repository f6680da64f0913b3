"""Trees under a budget: what one subject adds to a round's leaves is its own, and no more than declared.

A hostile coordinator chooses edges, splits, values of earlier trees, noise and clipping norm; a subject has
one row or a thousand, of every kind of value.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings

from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.steps import REPORT
from heliosdb.algorithms.table import Table
from heliosdb.algorithms.trees.bins import Ragged
from heliosdb.algorithms.trees.grown import Trees
from heliosdb.algorithms.trees.structure import Drawing
from heliosdb.algorithms.trees.work import Model
from heliosdb.algorithms.works import EvaluateWork, PrivateReportWork
from heliosdb.domain.bounds import NOISE_MULTIPLIER
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.ids import StepName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Reading, Scaling, Task
from heliosdb.domain.vector import ClippedSum, Contribution
from heliosdb.node.guards import check_contribution, make_private
from heliosdb.privacy.mechanisms import STD_STEPS, Integers, Lattice
from tests.security.private_cases import MEANS, SCALES, SEEDS, TARGETS, VALUES, kept
from tests.security.private_trees import BOOSTING, EVALUATE, FOREST, leaves_task

BUDGET = Budget(1e6, 1e-5)
KINDS = [(FOREST, 2), (FOREST, 5), (FOREST, 0), (BOOSTING, 2), (BOOSTING, 0)]


@dataclass(frozen=True, slots=True)
class Case:
    """A table of every kind of value, and tasks as a hostile coordinator makes them up."""

    table: Table
    leaves: Task
    evaluation: Task
    report: Task
    noise_multiplier: float

    def asked(self) -> list[tuple[Task, Table]]:
        """Each task with the table that it is about."""
        held = held_out(self.table)
        return [(self.leaves, self.table), (self.evaluation, held), (self.report, held)]


def case(seed: int, kind: tuple[str, int], rows: int | None = None) -> Case:
    rng = np.random.default_rng(seed)
    name, classes = kind
    n, d = int(rng.integers(0, 25)) if rows is None else rows, int(rng.integers(1, 6))
    levels = tuple(int(one) for one in rng.choice([0, 0, 3], size=d))
    values = np.where(rng.random((n, d)) < 0.5, rng.normal(size=(n, d)), rng.choice(VALUES, size=(n, d)))
    for place, many in enumerate(levels):
        if many:
            values[:, place] = rng.choice([0.0, 1.0, 2.0, np.nan], size=n)
    subjects = np.arange(n) if rng.random() < 0.4 else rng.integers(0, 1 + n // 4, size=n)
    table = Table.from_rows(
        values, rng.choice([*TARGETS, 2.0, 4.0], size=n), subjects, np.zeros(n, dtype=bool)
    )
    model, finished = hostile_model(rng, name, classes, levels)
    noise = float(rng.choice([NOISE_MULTIPLIER.least, 0.7, 5.0, 300.0]))
    scaling = Scaling(
        tuple(rng.choice(MEANS, size=d).tolist()),
        tuple(rng.choice(SCALES, size=d).tolist()),
        float(rng.choice(MEANS)),
        float(rng.choice(SCALES)),
    )
    names = tuple(f"f{place}" for place in range(d))
    leaves = leaves_task(
        name,
        model,
        finished=finished,
        classes=classes,
        noise=noise,
        clipping_norm=float(rng.choice([1e-6, 0.3, 1.0, 7.0, 1e6])),
        budget=BUDGET,
        reading=Reading(None, names, "t", 0.2, 1),
        scaling=scaling,
    )
    leaves = replace(leaves, encoding=encoding_of(names, levels, classes))
    work = EvaluateWork(name, scaling, noise, classes=classes).to_work()
    evaluation = replace(leaves, key=replace(leaves.key, step=EVALUATE), work=work)
    covered = {**leaves.state, "cover": np.zeros(leaves.state["tree"].shape)}
    reported = PrivateReportWork(name, scaling, noise, classes=classes)
    report = replace(
        leaves,
        key=replace(leaves.key, step=REPORT),
        work=reported.to_work(PrivateLayout(classes, d).size),
        state=covered,
    )
    return Case(table, leaves, evaluation, report, noise)


def hostile_model(
    rng: np.random.Generator, name: str, classes: int, levels: tuple[int, ...]
) -> tuple[Model, int]:
    points = np.unique(np.array([one for one in VALUES if np.isfinite(one)]) + 0.0)
    edges = Ragged.of(
        [
            np.arange(many - 1) + 0.5 if many else np.sort(rng.choice(points, size=6, replace=False))
            for many in levels
        ]
    )
    outputs = max(1, classes - 1) if name == FOREST else 1
    widest = max((many + 1 for many in levels if many), default=0)
    finished = int(rng.integers(0, 4)) if name == BOOSTING else 0
    drawing = Drawing(edges, levels, int(rng.integers(0, 5)), int(rng.integers(1000)))
    trees = drawing.added(Trees.empty(outputs, widest), finished + int(rng.integers(1, 6)))
    said = rng.choice([0.0, 1.0, -1e9, 1e9, 1e-300, 1 / 3], size=trees.values.shape)
    base = rng.choice([0.0, 1e3, -1e3], size=1) if name == BOOSTING else np.empty(0)
    return Model(edges, levels, base, replace(trees, values=said)), finished


def encoding_of(names: tuple[str, ...], levels: tuple[int, ...], classes: int) -> Encoding:
    columns = [
        ColumnEncoding(name, ColumnKind.CATEGORY, "index", ("a", "b", "c")) if many else ColumnEncoding(name)
        for name, many in zip(names, levels, strict=True)
    ]
    return Encoding(tuple(columns), tuple(str(one) for one in range(classes)))


def answer(task: Task, table: Table) -> Contribution:
    step = algorithm(task.work.algorithm).steps[task.key.step]
    step.check(task)
    made = step.compute(table, task, NO_STATE, TaskDraws(task, b"secret"))
    check_contribution(task, made)
    return made


def steps_of(task: Task, table: Table) -> Integers:
    """The integers that the door finds."""
    made = answer(task, table)
    assert isinstance(made.guard, ClippedSum)
    lattice = Lattice.of(made.guard.sensitivity, made.guard.mechanism.noise_multiplier, made.vector.size)
    return np.rint(made.vector / lattice.step).astype(np.int64)


def held_out(table: Table) -> Table:
    return replace(table, held_out=np.ones(table.rows, dtype=bool))


def check_every_subject(given: Case) -> None:
    """Taking any subject away takes away exactly what it adds alone, and no more than the noise covers."""
    for task, table in given.asked():
        whole = steps_of(task, table)
        for subject in np.unique(table.subjects):
            theirs = table.subjects == subject
            own = steps_of(task, kept(table, theirs))
            rest = steps_of(task, kept(table, ~theirs))
            assert np.array_equal(whole - rest, own)
            covered = STD_STEPS / given.noise_multiplier
            clipped = covered - 4.0 * math.sqrt(own.size)
            assert np.linalg.norm(own) <= clipped + 0.5 * math.sqrt(own.size) + 1e-4 < covered


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_what_a_subject_adds_is_its_own_and_at_most_the_sensitivity(kind: tuple[str, int], seed: int) -> None:
    check_every_subject(case(seed, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_subject_of_a_thousand_rows_adds_no_more_than_another(kind: tuple[str, int]) -> None:
    given = case(5, kind, rows=1006)
    subjects = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 7)])
    subjects = np.random.default_rng(1).permutation(subjects)
    check_every_subject(replace(given, table=replace(given.table, subjects=subjects)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_subject_s_rows_are_clipped_together_and_not_one_by_one(kind: tuple[str, int]) -> None:
    """Ten equal rows of one subject add as much as one row where the norm is a row's, ten times it where it
    is ten rows'."""
    given = case(3, kind, rows=1)
    several = replace(given.table.at(np.zeros(10, dtype=np.int64)), subjects=np.zeros(10, dtype=int))
    asked = given.leaves

    def length(norm: float, table: Table) -> float:
        task = replace(
            asked, work=replace(asked.work, settings={**asked.work.settings, "clipping_norm": norm})
        )
        return float(np.linalg.norm(answer(task, table).vector))

    alone = length(10.0, given.table)
    assert length(10.0, several) == pytest.approx(10.0 * alone, rel=1e-3)
    assert length(alone, several) == pytest.approx(alone, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_no_table_makes_an_answer_fail(kind: tuple[str, int], seed: int) -> None:
    given = case(seed, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for task, table in given.asked():
            assert np.isfinite(make_private(answer(task, table))).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_the_rows_changes_nothing(kind: tuple[str, int], seed: int) -> None:
    given = case(seed, kind)
    turned = kept(given.table, np.random.default_rng(seed).permutation(given.table.rows))
    for (task, table), (_, other) in zip(given.asked(), replace(given, table=turned).asked(), strict=True):
        assert np.array_equal(steps_of(task, table), steps_of(task, other))


def test_a_sampled_subject_is_there_whole_or_not_at_all() -> None:
    given = case(11, (FOREST, 2), rows=400)
    subjects = np.arange(400) // 2
    table = replace(given.table, subjects=subjects)
    mechanism = replace(given.leaves.work.privacy.mechanism, sampling_rate=0.3)  # type: ignore[union-attr]
    privacy = replace(given.leaves.work.privacy, mechanism=mechanism)  # type: ignore[type-var]
    norms = {**given.leaves.work.settings, "clipping_norm": 1e3}
    task = replace(given.leaves, work=replace(given.leaves.work, privacy=privacy, settings=norms))
    trees = len(np.unique(np.asarray(task.state["tree"])))
    counts = [float(answer(task, table).vector.sum()) / math.sqrt(trees) for _ in range(40)]
    # 400 rows in pairs, of which three tenths are taken: 120, with a deviation of 13.
    assert np.mean(counts) == pytest.approx(120.0, abs=10.0)
    assert np.std(counts) == pytest.approx(13.0, rel=0.4)


def test_every_step_that_has_a_private_form_is_tested() -> None:
    """Every step of trees that has a private form is tested here, or in test_row_independence.py."""
    own = {StepName("leaves"), EVALUATE, REPORT}
    shared = {"vocabulary", "classes", "statistics", "refine"}
    refused = {"bins", "levels", "quantiles", "histograms"}
    for name in (FOREST, BOOSTING):
        assert algorithm(name).steps.keys() == own | shared | refused
