"""Private sums of gradients and Hessians: what one subject adds is its own, and no more than the clipping norm.

As test_row_independence.py has it for the other steps, over its tables of every kind of value and its tasks of
hostile numbers: all rows of a subject, 1e300, NaN, copies, a thousand rows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from heliosdb.algorithms import Table
from heliosdb.algorithms.hazards import HAZARDS, HazardSettings, bounded_hazards
from heliosdb.algorithms.linear import (
    LINEAR_REGRESSION,
    LOGISTIC_REGRESSION,
    POISSON_REGRESSION,
    LinearModel,
)
from heliosdb.algorithms.newton import NEWTON
from heliosdb.algorithms.private_newton import NoisyWork
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.works import EvaluateWork
from heliosdb.domain.bounds import COEFFICIENT
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import Contribution, Vector
from heliosdb.node.guards import make_private
from heliosdb.node.scratch import Scratch
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.privacy.mechanisms import STD_STEPS, Integers
from tests.security.private_cases import SEEDS, Case, case, kept, of

Answers = Callable[[Case, Table], Contribution]
EVENTS = [0.0, 1.0, 1.0, 0.5, -7.0, 1e300]


def of_counts(given: Case) -> Scaling:
    """A scaling whose mean is one of counts."""
    return replace(given.scaling, target_mean=max(abs(given.scaling.target_mean), 1e-9))


def evaluation_of_counts(given: Case, table: Table) -> Contribution:
    work = EvaluateWork("poisson_regression", of_counts(given), given.noise_multiplier, classes=0)
    held = replace(table, held_out=np.ones(table.rows, dtype=bool))
    return POISSON_REGRESSION.evaluate(held, given.parameters, work)


def newton(model: LinearModel) -> Answers:
    def answer(given: Case, table: Table) -> Contribution:
        work = NoisyWork(given.noise_multiplier, given.clipping_norm, 0 if model.scales_target else 2)
        scaling = of_counts(given) if model.counts else given.scaling
        return model.bounded_curvature(table, given.parameters, scaling, work)

    return answer


def hazards(given: Case, table: Table) -> Contribution:
    rng = np.random.default_rng(int(1e6 * given.noise_multiplier))
    inside = np.minimum(np.maximum(given.parameters, COEFFICIENT.least), COEFFICIENT.most)
    ends = tuple(sorted({float(one) for one in rng.choice([1e-6, 1e-3, 0.5, 1.0, 2.0, 1e6], size=3)}))
    asked = HazardSettings(ends, given.scaling.target_scale, given.clipping_norm)
    levels = np.resize(inside, len(ends))
    return bounded_hazards(table, inside[:-1], levels, given.scaling, asked, given.noise_multiplier)


ANSWERS: dict[str, Answers] = {
    "logistic": newton(LOGISTIC_REGRESSION),
    "linear": newton(LINEAR_REGRESSION),
    "poisson": newton(POISSON_REGRESSION),
    "cox": hazards,
    "evaluation of counts": evaluation_of_counts,
}
EACH = pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))


def with_events(given: Case, seed: int) -> Case:
    rng = np.random.default_rng(seed)
    return replace(given, table=replace(given.table, roles={"event": rng.choice(EVENTS, given.table.rows)}))


def part(table: Table, rows: np.ndarray) -> Table:
    return replace(kept(table, rows), roles={name: one[rows] for name, one in table.roles.items()})


def steps_of(answer: Answers, given: Case, table: Table) -> Integers:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return of(answer(given, table), given.noise_multiplier)


def check_every_subject(answer: Answers, given: Case) -> None:
    """Taking any subject away takes away exactly what it adds alone, and no more than the noise covers."""
    whole = steps_of(answer, given, given.table)
    for subject in np.unique(given.table.subjects):
        theirs = given.table.subjects == subject
        own = steps_of(answer, given, part(given.table, theirs))
        rest = steps_of(answer, given, part(given.table, ~theirs))
        assert np.array_equal(whole - rest, own)
        covered = STD_STEPS / given.noise_multiplier
        clipped = covered - 4.0 * math.sqrt(own.size)
        assert np.linalg.norm(own) <= clipped + 0.5 * math.sqrt(own.size) + 1e-4 < covered


@EACH
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_what_a_subject_adds_is_its_own_and_at_most_the_clipping_norm(answer: Answers, seed: int) -> None:
    features = 1 + seed % 12
    check_every_subject(answer, with_events(case(seed, features=features), seed))


@EACH
def test_a_subject_of_a_thousand_rows_adds_no_more_than_another(answer: Answers) -> None:
    given = with_events(case(5, rows=1019, features=7), 5)
    subjects = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 20)])
    subjects = np.random.default_rng(1).permutation(subjects)
    check_every_subject(answer, replace(given, table=replace(given.table, subjects=subjects)))


@EACH
def test_copies_of_a_subject_s_row_add_what_the_row_does(answer: Answers) -> None:
    rng = np.random.default_rng(3)
    one = Table.from_rows(
        rng.normal(size=(1, 4)), np.ones(1), np.zeros(1, dtype=int), np.zeros(1, dtype=bool)
    )
    one = replace(one, roles={"event": np.ones(1)})
    given = replace(case(3, rows=1, features=4), table=one, noise_multiplier=0.7, clipping_norm=1.0)
    given = replace(given, parameters=np.full(5, 0.1))
    many = part(replace(one, subjects=np.zeros(1, dtype=int)), np.zeros(64, dtype=int))
    alone, copied = (steps_of(answer, given, table) for table in (one, many))
    assert np.abs(alone - copied).max() <= 64


@EACH
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_the_rows_changes_nothing(answer: Answers, seed: int) -> None:
    given = with_events(case(seed, features=1 + seed % 9), seed)
    turned = part(given.table, np.random.default_rng(seed).permutation(given.table.rows))
    assert np.array_equal(steps_of(answer, given, given.table), steps_of(answer, given, turned))


@EACH
def test_rows_in_files_add_the_same(answer: Answers, tmp_path: Path) -> None:
    for seed in range(4):
        given = with_events(case(seed, rows=300 * seed, features=5), seed)
        ranked = part(given.table, np.argsort(given.table.subjects, kind="stable"))
        stored = replace(ranked, space=Scratch(str(tmp_path)))
        assert np.array_equal(steps_of(answer, given, stored), steps_of(answer, given, given.table))


def tables_of_one_value() -> Iterator[Table]:
    for value in (math.nan, math.inf, 1.7e308, -1.7e308, 5e-324, 0.0):
        for rows in (0, 1, 50):
            table = Table.from_rows(
                np.full((rows, 3), value), np.full(rows, 1e300), np.arange(rows), np.zeros(rows, dtype=bool)
            )
            yield replace(table, roles={"event": np.full(rows, 1e300)})


@EACH
def test_no_table_makes_an_answer_fail(answer: Answers) -> None:
    for number, table in enumerate(tables_of_one_value()):
        given = replace(case(number, rows=0, features=3), table=table)
        assert np.isfinite(released(answer, given)).all()


def released(answer: Answers, given: Case) -> Vector:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return make_private(answer(given, given.table))


def test_no_other_algorithm_has_these_steps() -> None:
    asked = {name for name in ALGORITHMS.names() if {NEWTON, HAZARDS} & algorithm(name).steps.keys()}
    assert asked == {"logistic_regression", "linear_regression", "poisson_regression", "cox_regression"}
