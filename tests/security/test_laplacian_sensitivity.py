"""Under Laplace noise one subject moves what is noised by at most the L1 norm that the noise is calibrated by.

The tables, values and parameters are those of private_cases.py: all rows of a subject, 1e300, NaN,
duplicates, a thousand rows, and a task's numbers as a hostile coordinator chooses them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from heliosdb.algorithms import Table, derive_rng
from heliosdb.algorithms.classes import count_classes
from heliosdb.algorithms.columns import scale_columns
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.linear import LinearModel
from heliosdb.algorithms.private_sgd import SubjectRows
from heliosdb.algorithms.table import group_by_subject
from heliosdb.algorithms.works import ClassesWork, EvaluateWork, PrivateTraining, StatisticsWork, TrainWork
from heliosdb.domain.vector import AlreadyPrivate, ClippedSum, Contribution
from heliosdb.node.guards import make_private
from heliosdb.privacy.mechanisms import STD_STEPS, Integers, Lattice
from tests.security.private_cases import MODELS, SEEDS, Case, case, held_out, kept


def classes_of(model: LinearModel) -> int:
    return 0 if model.scales_target else 2


def found_again(answer: Contribution | Integers) -> Integers:
    """The integers that the release door finds before it adds noise."""
    if not isinstance(answer, Contribution):
        return answer
    assert isinstance(answer.guard, ClippedSum)
    assert answer.guard.mechanism.noise == "laplacian"
    lattice = Lattice.of(
        answer.guard.sensitivity, answer.guard.mechanism.noise_multiplier, answer.vector.size, "laplacian"
    )
    return np.rint(answer.vector / lattice.step).astype(np.int64)


def grid_answer(given: Case, model: LinearModel, table: Table) -> Contribution:
    work = StatisticsWork(model.name, given.noise_multiplier, classes=classes_of(model), noise="laplacian")
    return statistics(table, work)


def range_answer(given: Case, model: LinearModel, table: Table) -> Contribution:
    work = StatisticsWork(
        model.name,
        given.noise_multiplier,
        given.ranges_for(model),
        classes=classes_of(model),
        noise="laplacian",
    )
    return statistics(table, work)


def window_answer(given: Case, model: LinearModel, table: Table) -> Contribution:
    means, scales = (*given.scaling.means, given.scaling.target_mean), (*given.scaling.scales, 1.0)
    windows = tuple(zip(means, scales, strict=True))[: len(given.ranges_for(model))]
    work = StatisticsWork(
        model.name, given.noise_multiplier, windows=windows, classes=classes_of(model), noise="laplacian"
    )
    return statistics(table, work)


def evaluation_answer(given: Case, model: LinearModel, table: Table) -> Contribution:
    work = EvaluateWork(
        model.name, given.scaling, given.noise_multiplier, classes=classes_of(model), noise="laplacian"
    )
    return model.evaluate(held_out(table), given.parameters, work)


def gradient_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    lattice = Lattice.of(given.clipping_norm, given.noise_multiplier, given.parameters.size, "laplacian")
    columns = scale_columns(table.features, given.scaling, table.space)
    targets = model._private_targets(table, given.scaling)
    rows = SubjectRows.of(columns, targets, group_by_subject(table.subjects), given.clipping_norm, lattice)
    return rows.gradient_steps(np.ones(rows.subjects, dtype=bool), given.parameters, model.residual)


def class_answer(given: Case, model: LinearModel, table: Table) -> Contribution:
    neither = ~np.isin(table.target, (0.0, 1.0))
    found = replace(table.where(~neither), others=table.subjects[neither])
    return count_classes(found, ClassesWork(model.name, given.noise_multiplier, "laplacian"))


Steps = Callable[[Case, LinearModel, Table], Contribution | Integers]
ANSWERS: list[Steps] = [
    class_answer, grid_answer, range_answer, window_answer, gradient_steps, evaluation_answer,
]  # fmt: skip


def check_every_subject(given: Case, model: LinearModel, steps: Steps) -> None:
    """Taking any subject away takes away exactly what it adds alone, and no more than the noise covers."""
    answer = steps(given, model, given.table)
    if isinstance(answer, Contribution):
        # Noise is dear, and is the same for a table that lacks some rows.
        assert np.all(np.isfinite(make_private(answer)))
    whole = found_again(answer)
    for subject in np.unique(given.table.subjects):
        theirs = given.table.subjects == subject
        own = found_again(steps(given, model, kept(given.table, theirs)))
        rest = found_again(steps(given, model, kept(given.table, ~theirs)))
        assert np.array_equal(whole - rest, own)
        covered = STD_STEPS / given.noise_multiplier
        clipped = covered - 4.0 * own.size
        assert np.abs(own).sum() <= clipped + 0.5 * own.size + 1e-4 * own.size < covered


def bounded(given: Case) -> Case:
    """With noise that the lattice takes for so many values: the others are refused before a row is read."""
    return replace(given, noise_multiplier=min(given.noise_multiplier, 5.0))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("steps", ANSWERS)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_what_a_subject_adds_is_its_own_and_at_most_the_sensitivity(
    steps: Steps, model: LinearModel, seed: int
) -> None:
    check_every_subject(bounded(case(seed)), model, steps)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("steps", ANSWERS)
def test_a_subject_of_a_thousand_rows_adds_no_more_than_another(steps: Steps, model: LinearModel) -> None:
    given = bounded(case(5, rows=1019, features=7))
    subjects = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 20)])
    subjects = np.random.default_rng(1).permutation(subjects)
    check_every_subject(replace(given, table=replace(given.table, subjects=subjects)), model, steps)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_training_is_charged_as_the_laplace_releases_that_it_makes(model: LinearModel) -> None:
    given = bounded(case(11, rows=60, features=3))
    privacy = PrivateTraining(2.0, given.clipping_norm, 0.6, 3, 20.0, "laplacian")
    work = TrainWork(model.name, given.scaling, 1, 32, 1e3, privacy, classes=classes_of(model))
    one, other = (
        model.train(given.table, given.parameters, work, derive_rng(1, 1, "n", b"")) for _ in range(2)
    )
    assert isinstance(one.guard, AlreadyPrivate)
    assert one.guard.mechanism == privacy.mechanism
    assert one.guard.mechanism.noise == "laplacian"
    assert np.all(one.vector != other.vector)
