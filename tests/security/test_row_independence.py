"""Under a budget: what one subject adds is its own and no more than declared, and nobody makes an answer fail.

The attacks that these tests keep: parameters that cancel, so that the remainder rows of a matrix kernel score
differently when a row is taken away; values and parameters that overflow, so that an error (silence) tells of
a row.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms import Table, derive_rng
from heliosdb.algorithms.classes import count_classes
from heliosdb.algorithms.columns import clamp_parameters, scale_columns, scores
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.gradient import GradientWork
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, LinearModel
from heliosdb.algorithms.local_terms import NO_TERMS, LocalTerms
from heliosdb.algorithms.norms import NormsWork, count_norms
from heliosdb.algorithms.private_layout import PrivateLayout
from heliosdb.algorithms.private_report import report_privately
from heliosdb.algorithms.private_sgd import SubjectRows
from heliosdb.algorithms.registry import algorithm
from heliosdb.algorithms.table import RawColumn, group_by_subject
from heliosdb.algorithms.works import (
    ClassesWork,
    EvaluateWork,
    PrivateReportWork,
    PrivateTraining,
    StatisticsWork,
    TrainWork,
)
from heliosdb.domain.bounds import LOCATION, NOISE_MULTIPLIER, PARAMETER, PROXIMAL_TERM, RANGE_WIDTH, SCALE
from heliosdb.domain.encoding import ColumnEncoding, ColumnKind, Encoding
from heliosdb.domain.ids import NodeName, RoundNumber, RunId, StepName, WorkspaceName
from heliosdb.domain.privacy import Budget
from heliosdb.domain.state import NO_STATE, State, make_state
from heliosdb.domain.task import Reading, Scaling, Task, TaskKey, Work
from heliosdb.domain.vector import ClippedSum, Contribution, Vector
from heliosdb.node.encoding import encode_privately
from heliosdb.node.scratch import Scratch
from heliosdb.parts.algorithms import ALGORITHMS, LocalOptimizer, TreeSettings
from heliosdb.privacy.clipping import column_norms, fold
from heliosdb.privacy.mechanisms import STD_STEPS, Integers, Lattice, Secret, add_noise, discrete_gaussian
from heliosdb.privacy.plan import CLASSIFICATION_NOISE

MODELS = (LOGISTIC_REGRESSION, LINEAR_REGRESSION)
SEEDS = st.integers(0, 2**32 - 1)
VALUES = [
    0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 7.25, 1e6, -1e6, 1e9 + 1, 1e150, -1e150, 1e300, -1e300, 1.7e308, 5e-324,
    -1e-310, 2.0**-20, math.nan, math.inf, -math.inf,
]  # fmt: skip
TARGETS = [0.0, 1.0, 0.5, -3.0, 1e300, -1e300, 5e-324]
SCALES = [SCALE.least, 1e-3, 1.0, 1.0, 3.0, SCALE.most]
MEANS = [LOCATION.least, 0.0, 0.0, 1.0, LOCATION.most]
PARAMETERS = [PARAMETER.least, PARAMETER.most, 1e-9, 1e-300, 0.0, 1.0, -1 / 3]


@dataclass(frozen=True, slots=True)
class Case:
    """A table of every kind of value, and a task's numbers as a hostile coordinator chooses them."""

    table: Table
    scaling: Scaling
    parameters: Vector
    ranges: tuple[tuple[float, float], ...]
    noise_multiplier: float
    clipping_norm: float

    def ranges_for(self, model: LinearModel) -> tuple[tuple[float, float], ...]:
        """One for each feature, and one for the target where that is scaled."""
        return self.ranges if model.scales_target else self.ranges[:-1]


def case(seed: int, *, rows: int | None = None, features: int | None = None) -> Case:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 61)) if rows is None else rows
    d = int(rng.integers(1, 41)) if features is None else features
    values = np.where(rng.random((n, d)) < 0.5, rng.normal(size=(n, d)), rng.choice(VALUES, size=(n, d)))
    subjects = np.arange(n) if rng.random() < 0.5 else rng.integers(0, 1 + n // 4, size=n)
    table = Table.from_rows(values, rng.choice(TARGETS, size=n), subjects, np.zeros(n, dtype=bool))
    width = float(rng.choice([RANGE_WIDTH.least, 1.0, RANGE_WIDTH.most]))
    return Case(
        table,
        Scaling(
            tuple(rng.choice(MEANS, size=d).tolist()),
            tuple(rng.choice(SCALES, size=d).tolist()),
            float(rng.choice(MEANS)),
            float(rng.choice(SCALES)),
        ),
        rng.choice(PARAMETERS, size=d + 1),
        ((0.0, width),) * (d + 1),
        float(rng.choice([NOISE_MULTIPLIER.least, 0.7, 5.0, 300.0])),
        float(rng.choice([1e-6, 0.3, 1.0, 1e6])),
    )


def kept(table: Table, keep: np.ndarray) -> Table:
    return Table(table.features[keep], table.target[keep], table.subjects[keep], table.held_out[keep])


def held_out(table: Table) -> Table:
    return replace(table, held_out=np.ones(table.rows, dtype=bool))


def of(answer: Contribution, noise_multiplier: float) -> Integers:
    """The integers that the release door finds in an answer before it adds noise."""
    assert isinstance(answer.guard, ClippedSum)
    lattice = Lattice.of(answer.guard.sensitivity, noise_multiplier, answer.vector.size)
    return np.rint(answer.vector / lattice.step).astype(np.int64)


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


def report_task(given: Case, model: LinearModel) -> Task:
    """A task for a report, checked as a node checks it."""
    names = tuple(f"f{i}" for i in range(given.table.features.shape[1]))
    classes = 0 if model.scales_target else 2
    work = PrivateReportWork(model.name, given.scaling, given.noise_multiplier, classes=classes)
    asked, state = work.to_work(PrivateLayout(classes, len(names)).size), given.parameters
    return check_task(model, "report", names, asked, given.scaling, make_state(parameters=state))


def report_steps(given: Case, model: LinearModel, table: Table) -> Integers:
    return of(report_privately(model, held_out(table), report_task(given, model)), given.noise_multiplier)


OF_STEPS: dict[str, tuple[Steps, ...]] = {
    "classes": (class_steps,),
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
            private = algorithm(name).steps.keys() - {"bins", "levels", "grid", "times"}
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


def answers(given: Case, model: LinearModel) -> list[Vector]:
    """Every private answer about a table, with its noise, and each checked as a task first."""
    names = tuple(f"f{i}" for i in range(given.table.features.shape[1]))
    privacy = PrivateTraining(given.noise_multiplier, given.clipping_norm, 0.6, 4, 1.0)
    training = TrainWork(
        model.name, given.scaling, 1, 32, 1e3, privacy, classes=0 if model.scales_target else 2
    )
    evaluation = EvaluateWork(
        model.name, given.scaling, given.noise_multiplier, classes=0 if model.scales_target else 2
    )
    released = []
    for ranges in (None, given.ranges_for(model)):
        work = StatisticsWork(
            model.name, given.noise_multiplier, ranges, classes=0 if model.scales_target else 2
        )
        check_task(model, "statistics", names, work.to_work(len(names)))
        released.append(_noised(statistics(given.table, work), given.noise_multiplier))
    state, size = make_state(parameters=given.parameters), given.parameters.size
    check_task(model, "evaluate", names, evaluation.to_work(), given.scaling, state)
    for optimizer, terms in LOCAL:
        asked = replace(training, optimizer=optimizer, terms=terms)
        check_task(model, "train", names, asked.to_work(size), given.scaling, state)
        trained = model.train(given.table, given.parameters, asked, derive_rng(1, 1, "n", b""))
        assert trained.weight == 1.0
        assert np.all(np.abs(given.parameters + trained.vector) <= PARAMETER.most * (1 + 1e-9))
        released.append(trained.vector)
    measured = model.evaluate(held_out(given.table), given.parameters, evaluation)
    counted = count_classes(given.table, ClassesWork(model.name, given.noise_multiplier))
    reported = report_privately(model, held_out(given.table), report_task(given, model))
    return [*released, *(_noised(one, given.noise_multiplier) for one in (measured, counted, reported))]


LOCAL: tuple[tuple[LocalOptimizer, LocalTerms], ...] = (
    ("sgd", NO_TERMS),
    ("sgd", LocalTerms(PROXIMAL_TERM.most)),
    ("momentum", NO_TERMS),
    ("adam", LocalTerms(1.0)),
)
"""What a private task may make of its gradients."""


def check_task(
    model: LinearModel,
    step: str,
    names: tuple[str, ...],
    work: Work,
    scaling: Scaling | None = None,
    state: State = NO_STATE,
) -> Task:
    """As a node checks a task before it charges it; returns it."""
    name = StepName(step)
    key = TaskKey(WorkspaceName("w"), RunId(UUID(int=1)), RoundNumber(1), 0, name, NodeName("n"))
    reading = Reading(None, names, "t", 0.2, 1)
    task = Task(key, reading, work, scaling, state, Budget(1.0, 1e-5))
    model.steps[name].check(task)
    return task


def _noised(answer: Contribution, noise_multiplier: float) -> Vector:
    assert isinstance(answer.guard, ClippedSum)
    assert answer.weight == 1.0
    return add_noise(answer.vector, answer.guard.sensitivity, noise_multiplier)


def check_answers(given: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in MODELS:
            assert all(np.all(np.isfinite(vector)) for vector in answers(given, model))


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_no_table_makes_a_private_answer_fail(seed: int) -> None:
    check_answers(case(seed))


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.7e308, -1.7e308, 5e-324, 0.0])
@pytest.mark.parametrize("rows", [0, 1, 1000])
@pytest.mark.parametrize("one_subject", [False, True])
def test_nobody_and_one_value_only_are_answered_too(value: float, rows: int, one_subject: bool) -> None:
    subjects = np.zeros(rows, dtype=int) if one_subject else np.arange(rows)
    table = Table.from_rows(np.full((rows, 3), value), np.ones(rows), subjects, np.zeros(rows, dtype=bool))
    check_answers(replace(case(rows, rows=0, features=3), table=table))


@pytest.mark.parametrize("scale", [SCALE.least, SCALE.most, 1e-300, 5e-324])
def test_scaling_and_noise_cannot_be_chosen_so_that_one_row_silences_a_node(scale: float) -> None:
    # The least noise has the finest lattice; beside it a scaled value of 1e150 and parameters of 1e9 are the
    # largest sums that a task can bring about.
    table = Table.from_rows(np.ones((9, 2)), np.ones(9), np.arange(9), np.ones(9, dtype=bool))
    parameters, scaling = np.full(3, PARAMETER.most), Scaling((0.0, 0.0), (scale, scale), 0.0, scale)
    privacy = PrivateTraining(NOISE_MULTIPLIER.least, 1e-6, 1.0, 3, 1.0)
    for model in MODELS:
        evaluation = EvaluateWork(
            model.name, scaling, NOISE_MULTIPLIER.least, classes=0 if model.scales_target else 2
        )
        answer = model.evaluate(table, parameters, evaluation)
        assert np.all(np.isfinite(_noised(answer, NOISE_MULTIPLIER.least)))
        training = TrainWork(
            model.name, scaling, 1, 32, 1e3, privacy, classes=0 if model.scales_target else 2
        )
        trained = model.train(
            replace(table, held_out=~table.held_out), parameters, training, derive_rng(1, 1, "n", b"")
        )
        assert np.all(np.isfinite(trained.vector))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_the_door_s_noise_is_added_to_the_very_integers(model: LinearModel, seed: int) -> None:
    given = case(seed)
    noise_multiplier = given.noise_multiplier
    for answer in (
        statistics(
            given.table, StatisticsWork(model.name, noise_multiplier, classes=0 if model.scales_target else 2)
        ),
        statistics(
            given.table,
            StatisticsWork(
                model.name, noise_multiplier, given.ranges_for(model), classes=0 if model.scales_target else 2
            ),
        ),
        model.evaluate(
            held_out(given.table),
            given.parameters,
            EvaluateWork(
                model.name, given.scaling, noise_multiplier, classes=0 if model.scales_target else 2
            ),
        ),
    ):
        assert isinstance(answer.guard, ClippedSum)
        lattice = Lattice.of(answer.guard.sensitivity, noise_multiplier, answer.vector.size)
        noise = discrete_gaussian(answer.vector.size, random.Random(seed).randbytes)
        expected = lattice.release_steps(of(answer, noise_multiplier), noise)
        entropy = random.Random(seed).randbytes
        released = add_noise(answer.vector, answer.guard.sensitivity, noise_multiplier, entropy)
        assert released.tobytes() == expected.tobytes()


CATEGORIES = (
    ColumnEncoding("c", ColumnKind.CATEGORY, "indicators", ("", "a", "b"), null_level=True, other_level=True),
    ColumnEncoding("d", ColumnKind.CATEGORY, "indicators", ("1", "2"), missing_indicator=True),
    ColumnEncoding("x", form="log1p", missing_indicator=True),
    ColumnEncoding("t", ColumnKind.TIME),
)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_under_a_budget_a_row_s_inputs_are_its_own_and_no_value_makes_them_fail(seed: int) -> None:
    """The node's rules about few subjects are of answers without noise: here they would tell of others."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 30))
    levels = rng.choice([-1.0, 0.0, 1.0, math.nan], size=n)
    values = np.column_stack([levels, *(rng.choice(VALUES, size=n) for _ in range(3))])
    columns = (RawColumn(ColumnKind.CATEGORY, levels=("a", "rare")), *(RawColumn(),) * 3)
    table = Table(values, np.zeros(n), np.arange(n), np.zeros(n, dtype=bool), columns=columns)
    encoding = Encoding(CATEGORIES)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = encode_privately(table, encoding).features
        for row in range(n):
            one = replace(
                table,
                features=values[row : row + 1],
                target=np.zeros(1),
                subjects=np.zeros(1, dtype=np.int64),
                held_out=np.zeros(1, dtype=bool),
            )
            alone = encode_privately(one, encoding).features
            assert alone.tobytes() == whole[row : row + 1].tobytes()
