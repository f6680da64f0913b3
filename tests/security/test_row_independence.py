"""Under a budget: what one subject adds is its own and no more than declared, and it is the same to the last bit among any others.

The attacks that these tests keep: parameters that cancel, so that the remainder rows of a matrix kernel score
differently when a row is taken away; values and parameters that overflow, so that an error (silence) tells of
a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from heliosdb.algorithms import Table, derive_rng
from heliosdb.algorithms.classes import count_classes
from heliosdb.algorithms.columns import clamp_parameters, scale_columns, scores
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.gradient import GradientWork
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION, LinearModel
from heliosdb.algorithms.norms import NormsWork, count_norms
from heliosdb.algorithms.private_report import report_privately
from heliosdb.algorithms.private_sgd import SubjectRows
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.table import RawColumn, group_by_subject
from heliosdb.algorithms.vocabulary import WIDTH, VocabularyStep
from heliosdb.algorithms.works import (
    ClassesWork,
    EvaluateWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
    privacy_of_sum,
)
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.state import NO_STATE
from heliosdb.domain.task import Work
from heliosdb.domain.vector import Vector
from heliosdb.node.scratch import Scratch
from heliosdb.parts.algorithms import ALGORITHMS, TreeSettings
from heliosdb.privacy.clipping import column_norms, fold
from heliosdb.privacy.mechanisms import STD_STEPS, Integers, Lattice, Secret
from heliosdb.privacy.plan import CLASSIFICATION_NOISE
from tests.security.private_cases import (
    MODELS,
    SEEDS,
    VALUES,
    Case,
    case,
    check_task,
    held_out,
    kept,
    of,
    report_task,
)


def grid_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    work = StatisticsWork(model.name, given.noise_multiplier, classes=0 if model.scales_target else 2)
    return of(statistics(table, work), given.noise_multiplier)


def window_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    columns = given.ranges_for(model)
    means, scales = (*given.scaling.means, given.scaling.target_mean), (*given.scaling.scales, 1.0)
    windows = tuple(zip(means, scales, strict=True))[: len(columns)]
    work = StatisticsWork(
        model.name, given.noise_multiplier, windows=windows, classes=0 if model.scales_target else 2
    )
    return of(statistics(table, work), given.noise_multiplier)


def range_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    work = StatisticsWork(
        model.name, given.noise_multiplier, given.ranges_for(model), classes=0 if model.scales_target else 2
    )
    return of(statistics(table, work), given.noise_multiplier)


def evaluation_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    work = EvaluateWork(
        model.name, given.scaling, given.noise_multiplier, classes=0 if model.scales_target else 2
    )
    return of(model.evaluate(held_out(table), given.parameters, work), given.noise_multiplier)


def gradient_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    lattice = Lattice.of(given.clipping_norm, given.noise_multiplier, given.parameters.size)
    columns = scale_columns(table.features, given.scaling, table.space)
    targets = model._private_targets(table, given.scaling)
    rows = SubjectRows.of(columns, targets, group_by_subject(table.subjects), given.clipping_norm, lattice)
    return rows.gradient_steps(np.ones(rows.subjects, dtype=bool), given.parameters, model.residual)


def summed_gradient_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    """Of the step in which nodes share the noise, with every subject sampled."""
    work = GradientWork(
        model.name,
        given.scaling,
        given.noise_multiplier,
        1.0,
        given.clipping_norm,
        0 if model.scales_target else 2,
    )
    return of(model.sum_gradients(table, given.parameters, work, Secret()), given.noise_multiplier)


def class_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    """Of rows whose target is no class nothing is known but whose they are."""
    neither = ~np.isin(table.target, (0.0, 1.0))
    found = replace(table.where(~neither), others=table.subjects[neither])
    return of(count_classes(found, ClassesWork(model.name, given.noise_multiplier)), given.noise_multiplier)


def norm_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    classes = 0 if model.scales_target else 2
    work = NormsWork(model.name, given.scaling, given.noise_multiplier, given.clipping_norm, classes)
    shape = model.layers(classes, given.parameters.size - 1)
    return of(count_norms(shape, table, given.parameters, work), given.noise_multiplier)


Steps = Callable[[Case, LinearModel, Table], Integers]


def report_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    return of(report_privately(model, held_out(table), report_task(given, model)), given.noise_multiplier)


NAMES = tuple(f"{'x' * (3 * place)}{place}" for place in range(len(VALUES)))


def vocabulary_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    """Of a column of numbers that is read as a category, and one of texts of all lengths."""
    numbers, texts = table.features[:, 0], np.isin(table.features[:, -1], VALUES[:8]) * 1.0
    texts = np.where(
        np.isnan(table.features[:, -1]), np.nan, texts * (np.abs(numbers) > 1.0) * 7 + texts - 1.0
    )
    columns = (RawColumn(), RawColumn(ColumnKind.CATEGORY, levels=NAMES))
    read = replace(table, features=np.stack([numbers, texts], axis=1), columns=columns)
    unnamed = tuple(ColumnEncoding(name, ColumnKind.CATEGORY) for name in ("a", "b"))
    work = Work(model.name, 2 * WIDTH, privacy=privacy_of_sum(given.noise_multiplier))
    asked = replace(check_task(model, "vocabulary", ("a", "b"), work, encoding=Encoding(unnamed)))
    return of(
        VocabularyStep(model.name).compute(read, asked, NO_STATE, TaskDraws(asked, b"key")),
        given.noise_multiplier,
    )


OF_STEPS: dict[str, tuple[Steps, ...]] = {
    "classes": (class_steps,),
    "vocabulary": (vocabulary_steps,),
    "statistics": (grid_steps, range_steps),
    "refine": (window_steps,),
    "train": (gradient_steps,),
    "gradient": (summed_gradient_steps,),
    "norms": (norm_steps,),
    "evaluate": (evaluation_steps,),
    "report": (report_steps,),
}
ANSWERS = [steps for several in OF_STEPS.values() for steps in several]


def test_every_step_that_has_a_private_form_is_among_them() -> None:
    """The others are refused: test_refusals_under_a_budget.py. Those of trees: test_private_trees.py; sums of
    derivatives: test_bounded_curvature.py."""
    for name in ALGORITHMS.names():
        kind = ALGORITHMS.entry(name).settings
        if getattr(kind, "has_private_form", True) and not issubclass(kind, TreeSettings):
            private = algorithm(name).steps.keys() - {"bins", "levels", "grid", "times", "personalize"}
            assert private <= OF_STEPS.keys() | {"newton", "hazards"}


def check_every_subject(given: Case, model: LinearModel, steps: Steps) -> None:
    """Taking any subject away takes away exactly what it adds alone, and no more than the noise covers."""
    whole = steps(given, model, given.table)
    for subject in np.unique(given.table.subjects):
        theirs = given.table.subjects == subject
        own = steps(given, model, kept(given.table, theirs))
        rest = steps(given, model, kept(given.table, ~theirs))
        assert np.array_equal(whole - rest, own)
        covered = STD_STEPS / given.noise_multiplier
        clipped = covered - 4.0 * math.sqrt(own.size)
        assert np.linalg.norm(own) <= clipped + 0.5 * math.sqrt(own.size) + 1e-4 < covered


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("steps", ANSWERS)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_what_a_subject_adds_is_its_own_and_at_most_the_sensitivity(
    steps: Steps, model: LinearModel, seed: int
) -> None:
    check_every_subject(case(seed), model, steps)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("steps", ANSWERS)
def test_a_subject_of_a_thousand_rows_adds_no_more_than_another(steps: Steps, model: LinearModel) -> None:
    given = case(5, rows=1019, features=7)
    subjects = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 20)])
    subjects = np.random.default_rng(1).permutation(subjects)
    check_every_subject(replace(given, table=replace(given.table, subjects=subjects)), model, steps)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_it_is_so_wherever_steps_of_training_have_led(model: LinearModel, seed: int) -> None:
    given = case(seed)
    for steps in (1, 3):
        privacy = PrivateTraining(given.noise_multiplier, given.clipping_norm, 0.6, steps, 1.0)
        work = TrainWork(
            model.name, given.scaling, 1, 32, 1e3, privacy, classes=0 if model.scales_target else 2
        )
        moved = model.train(given.table, given.parameters, work, derive_rng(1, 1, "n", b""))
        led = clamp_parameters(given.parameters + moved.vector)
        check_every_subject(replace(given, parameters=led), model, gradient_steps)


@pytest.mark.parametrize("steps", ANSWERS)
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_the_order_of_the_rows_changes_nothing(steps: Steps, seed: int) -> None:
    given = case(seed)
    turned = kept(given.table, np.random.default_rng(seed).permutation(given.table.rows))
    for model in MODELS:
        assert np.array_equal(steps(given, model, given.table), steps(given, model, turned))


@pytest.mark.parametrize("steps", ANSWERS)
def test_rows_in_files_add_the_same(steps: Steps, tmp_path: Path) -> None:
    for seed in range(8):
        given = case(seed, rows=200 * seed)
        ranked = kept(given.table, np.argsort(given.table.subjects, kind="stable"))
        for model in MODELS:
            stored = replace(ranked, space=Scratch(str(tmp_path)))
            assert np.array_equal(steps(given, model, stored), steps(given, model, given.table))


@pytest.mark.parametrize("n", range(1, 35))
def test_a_row_s_values_are_the_same_bits_among_any_others(n: int) -> None:
    given = case(n, rows=n, features=1 + n % 40)

    def values(table: Table) -> np.ndarray:
        columns = scale_columns(table.features, given.scaling)
        per_row = [column_norms(columns), scores(table.features, given.scaling, given.parameters)]
        for model in MODELS:
            targets = model._private_targets(table, given.scaling)
            # Also at scores of which no function is saturated.
            for score in (per_row[1], np.remainder(fold(columns.copy()), 9.0) - 4.5):
                losses = model.loss(score, targets)
                per_row += [model.residual(score, targets), *model.measure.row_values(losses, score, targets)]
        return np.stack([*columns, *per_row])

    whole = values(given.table)
    for row in range(n):
        keep = np.arange(n) != row
        assert values(kept(given.table, keep)).tobytes() == np.ascontiguousarray(whole[:, keep]).tobytes()


def old_evaluation(inputs: np.ndarray, parameters: Vector) -> Vector:
    """The sums of a private evaluation as they were once computed: scores from a matrix product."""
    values, targets = inputs @ parameters, np.ones(len(inputs))
    loss = LOGISTIC_REGRESSION.loss(values, targets)
    quality = LOGISTIC_REGRESSION.measure.row_values(loss, values, targets)[1]
    sums = [np.sum(np.clip(loss, 0.0, 4.0) / 4.0 - 0.5), np.sum(quality - 0.5), 0.5 * len(inputs)]
    return np.array(sums)


def old_gradient(inputs: np.ndarray, parameters: Vector) -> Vector:
    """A step's sum of gradients clipped to 1 as it was once computed."""
    slopes = LOGISTIC_REGRESSION.residual(inputs @ parameters, np.full(len(inputs), 0.5))
    norms = np.sqrt(np.einsum("ij,ij->i", inputs, inputs))
    return (slopes * np.minimum(1.0, 1.0 / np.maximum(np.abs(slopes) * norms, 1e-9))) @ inputs


def test_parameters_that_cancel_moved_others_by_the_remainder_rows_of_a_matrix_product() -> None:
    """Equal rows of equal subjects: one is taken away, and the last of the others score otherwise."""
    evaluation, gradient = 0.0, 0.0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n, d = int(rng.integers(4, 40)), int(rng.integers(3, 24))
        row, parameters = rng.normal(size=d), rng.normal(size=d) * 1e30
        # Terms that cancel: what is left is rounding, whose sign the order of the additions decides.
        parameters[-1] = -(row[:-1] @ parameters[:-1]) / row[-1]
        inputs = np.tile(row, (n, 1))
        moved = [
            old(inputs, parameters) - old(inputs[1:], parameters) for old in (old_evaluation, old_gradient)
        ]
        evaluation = max(evaluation, float(np.linalg.norm(moved[0])))
        gradient = max(gradient, float(np.linalg.norm(moved[1])))
        columns = [np.tile(row[:, None], rows) for rows in range(1, n + 1)]
        assert (
            len({score for column in columns for score in fold(column * parameters[:, None]).tolist()}) == 1
        )
    assert evaluation > 3 * CLASSIFICATION_NOISE.sensitivity
    assert gradient > 3 * 1.0
