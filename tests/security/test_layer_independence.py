"""Networks and linear models of several classes under a budget: what one subject adds is its own, to the last bit,
and no longer than the clipping norm, whatever its rows, everybody else's, and the task's parameters."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliosdb.algorithms import Table
from heliosdb.algorithms.columns import clamp_parameters, private_targets, scale_columns
from heliosdb.algorithms.convolution import Convolution
from heliosdb.algorithms.gradient import GradientWork, sum_layer_gradients
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION
from heliosdb.algorithms.neural import CNN, NEURAL_NETWORK
from heliosdb.algorithms.norms import NormsWork, count_norms, next_norm
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.private_layered import layered_scores
from heliosdb.algorithms.private_layers import NORM_BITS, LayeredRows, Shape, scores_of
from heliosdb.algorithms.private_measuring import measure_privately
from heliosdb.algorithms.table import group_by_subject
from heliosdb.algorithms.works import EvaluateWork, PrivateTraining, TrainWork
from heliosdb.domain.bounds import CLIPPING_NORM, NOISE_MULTIPLIER, PARAMETER
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import ClippedSum, Vector
from heliosdb.node.scratch import Scratch
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.privacy.mechanisms import STD_STEPS, Integers, Lattice, Secret
from tests.security.private_cases import PARAMETERS, case, held_out, kept, of

SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Kind:
    """A model of layers. classes: of its target."""

    name: str
    classes: int
    make: Callable[[int], tuple[Shape, int]]


def network(classes: int, activation: str, *layers: int) -> Kind:
    output = "linear" if not classes else "sigmoid" if layers[-1] == 1 else "softmax"

    def make(inputs: int) -> tuple[Shape, int]:
        found = Perceptron(inputs, layers, activation, output)
        return shape_of(found), found.size

    return Kind(f"{activation} {layers} {output}", classes, make)


def convolution(classes: int, activation: str, channels: tuple[int, ...], groups: int, *layers: int) -> Kind:
    """One whose image is most of the inputs, in two lines where there are enough."""
    output = "linear" if not classes else "sigmoid" if layers[-1] == 1 else "softmax"

    def make(inputs: int) -> tuple[Shape, int]:
        image = (1, 2, inputs // 2) if inputs >= 4 else (1, 1, inputs)
        settings = ConvolutionSettings(
            activation=activation, output_activation=output, layers=layers,  # type: ignore[arg-type]
            input_shape=image, channels=channels, groups=groups,
        )  # fmt: skip
        found = Convolution.of(inputs, settings)
        return CNN.of(found.begin(1), inputs).layers(0, inputs), found.size

    return Kind(f"cnn {activation} {channels} {layers} {output}", classes, make)


def shape_of(architecture: Perceptron) -> Shape:
    state = architecture.begin(1)
    return NEURAL_NETWORK.of(state, architecture.inputs).layers(0, architecture.inputs)


KINDS = [
    network(2, "relu", 5, 1),
    network(2, "tanh", 3, 4, 2),
    network(3, "gelu", 6, 3),
    network(0, "sigmoid", 4, 1),
    network(2, "relu", 1),
    network(2, "relu", 4, 4, 4, 4, 4, 4, 1),
    convolution(2, "relu", (4,), 2, 1),
    convolution(3, "tanh", (2, 6), 2, 4, 3),
    convolution(0, "gelu", (3, 3), 3, 1),
    Kind("linear of 4 classes", 4, lambda inputs: (LOGISTIC_REGRESSION.layers(4, inputs), 3 * (inputs + 1))),
    Kind("linear of 2 classes", 2, lambda inputs: (LOGISTIC_REGRESSION.layers(2, inputs), inputs + 1)),
    Kind("linear of a number", 0, lambda inputs: (LINEAR_REGRESSION.layers(0, inputs), inputs + 1)),
]
OF_EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@dataclass(frozen=True)
class Asked:
    """A hostile task about a table of every kind of value."""

    table: Table
    scaling: Scaling
    parameters: Vector
    noise_multiplier: float
    clipping_norm: float
    shape: Shape
    classes: int

    def rows(self, table: Table) -> LayeredRows:
        return LayeredRows.of(
            self.shape,
            scale_columns(table.features, self.scaling),
            private_targets(table.target, self.scaling, self.classes),
            group_by_subject(table.subjects),
            clipping_norm=self.clipping_norm,
            lattice=Lattice.of(self.clipping_norm, self.noise_multiplier, self.parameters.size),
        )

    def exact(self, table: Table) -> list[int]:
        """The sum of everybody's clipped gradients, in units of 2^-40 of the clipping norm."""
        rows = self.rows(table)
        found = rows.exact_sum(np.ones(rows.subjects, dtype=bool), self.parameters)
        return [int(high) * 2**20 + int(low) for high, low in zip(found.high, found.low, strict=True)]

    def steps(self, table: Table) -> Integers:
        rows = self.rows(table)
        return rows.gradient_steps(np.ones(rows.subjects, dtype=bool), self.parameters)


def asked(kind: Kind, seed: int, *, rows: int | None = None, features: int | None = None) -> Asked:
    found, rng = case(seed, rows=rows, features=features), np.random.default_rng(seed)
    shape, size = kind.make(found.table.features.shape[1])
    # Honest parameters, with which no sum is cut, or hostile ones.
    drawn = rng.normal(size=size) if seed % 2 else rng.choice([*PARAMETERS, *rng.normal(size=9)], size=size)
    return Asked(
        found.table, found.scaling, drawn, found.noise_multiplier, found.clipping_norm, shape, kind.classes
    )


def check_every_subject(given: Asked, subjects: np.ndarray) -> None:
    """Taking a subject away takes away exactly what it adds alone, and no more than the noise covers."""
    whole, steps = given.exact(given.table), given.steps(given.table)
    for subject in subjects:
        theirs = given.table.subjects == subject
        own = given.exact(kept(given.table, theirs))
        rest = given.exact(kept(given.table, ~theirs))
        assert [one - other for one, other in zip(whole, rest, strict=True)] == own
        assert np.linalg.norm(np.array(own, dtype=float)) <= 2.0**NORM_BITS * (1 + 1e-12)
        moved = steps - given.steps(kept(given.table, ~theirs))
        assert np.linalg.norm(moved) < STD_STEPS / given.noise_multiplier


@OF_EVERY_KIND
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_what_a_subject_adds_is_its_own_and_at_most_the_clipping_norm(kind: Kind, seed: int) -> None:
    given = asked(kind, seed)
    check_every_subject(given, np.unique(given.table.subjects)[:6])


@OF_EVERY_KIND
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_a_sum_of_gradients_is_that_of_every_subject_s_clipped_one(kind: Kind, seed: int) -> None:
    """Where the noise is of the nodes' sum, one answer of a node's is such a sum at one set of parameters."""
    given = asked(kind, seed)
    noise, norm = given.noise_multiplier, given.clipping_norm
    work = GradientWork("neural_network", given.scaling, noise, 1.0, norm, given.classes)
    made = sum_layer_gradients(given.shape, given.table, given.parameters, work, Secret())
    assert made.guard == ClippedSum(norm, work.mechanism) and made.weight == 1.0
    lattice = Lattice.of(norm, noise, given.parameters.size)
    assert np.array_equal(np.rint(made.vector / lattice.step), given.steps(given.table))


@OF_EVERY_KIND
@pytest.mark.parametrize("others", [1, 7, 1500])
def test_it_is_so_among_any_number_of_others_in_any_order(kind: Kind, others: int) -> None:
    given = asked(kind, 2 * others + 1, rows=others + 1, features=9)
    check_every_subject(given, given.table.subjects[:2])
    turned = kept(given.table, np.random.default_rng(1).permutation(others + 1))
    assert given.exact(turned) == given.exact(given.table)


@OF_EVERY_KIND
def test_a_subject_of_a_thousand_rows_adds_no_more_than_another(kind: Kind) -> None:
    given = asked(kind, 7, rows=2519, features=5)
    subjects = np.concatenate([np.zeros(2500, dtype=int), np.arange(1, 20)])
    given.table.subjects[:] = np.random.default_rng(1).permutation(subjects)
    check_every_subject(given, np.array([0, 1]))


@OF_EVERY_KIND
@pytest.mark.parametrize("n", [1, 2, 7, 33, 1100])
def test_scores_are_the_same_bits_alone_and_among_others(kind: Kind, n: int) -> None:
    for seed in (2 * n, 2 * n + 1):
        given = asked(kind, seed, rows=n, features=1 + n % 40)
        passing = given.shape.passing(given.parameters)
        columns = scale_columns(given.table.features, given.scaling)
        whole = scores_of(passing, columns)
        for row in {0, n // 2, n - 1}:
            alone = scores_of(passing, columns[:, row : row + 1])
            assert alone.tobytes() == whole[:, row : row + 1].tobytes()
            slopes = given.shape.slopes(whole, np.zeros(n))
            one = given.shape.slopes(alone, np.zeros(1))
            assert one.tobytes() == np.ascontiguousarray(slopes[:, row : row + 1]).tobytes()


@OF_EVERY_KIND
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_subject_s_bit_about_its_norm_is_its_own(kind: Kind, seed: int) -> None:
    given = asked(kind, seed)
    work = NormsWork("any", given.scaling, given.noise_multiplier, given.clipping_norm, given.classes)

    def steps(table: Table) -> int:
        return int(of(count_norms(given.shape, table, given.parameters, work), given.noise_multiplier)[0])

    whole = steps(given.table)
    for subject in np.unique(given.table.subjects)[:6]:
        theirs = given.table.subjects == subject
        own = steps(kept(given.table, theirs))
        assert whole - steps(kept(given.table, ~theirs)) == own
        assert abs(own) == np.rint(0.5 / work.lattice.step)


@OF_EVERY_KIND
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_what_a_subject_adds_to_an_evaluation_is_its_own(kind: Kind, seed: int) -> None:
    given = asked(kind, seed)
    passing = given.shape.passing(clamp_parameters(given.parameters))
    work = EvaluateWork("any", given.scaling, given.noise_multiplier, classes=given.classes)
    reduced = given.classes > 2 and passing.units < given.classes
    if given.classes == 2 and passing.units == 2:
        return  # Two units are measured as one.

    scores = layered_scores(passing, given.scaling, is_reduced=reduced)

    def steps(table: Table) -> Integers:
        return of(measure_privately(scores, held_out(table), work), given.noise_multiplier)

    whole = steps(given.table)
    for subject in np.unique(given.table.subjects)[:6]:
        theirs = given.table.subjects == subject
        own = steps(kept(given.table, theirs))
        assert np.array_equal(whole - steps(kept(given.table, ~theirs)), own)
        assert np.linalg.norm(own) < STD_STEPS / given.noise_multiplier


@pytest.mark.parametrize("rows", [0, 1, 300])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_table_and_no_parameters_make_private_training_fail(rows: int, optimizer: str) -> None:
    architecture = Perceptron(3, (4, 4, 3), "gelu", "softmax")
    for seed in range(6):
        found, rng = case(seed, rows=rows, features=3), np.random.default_rng(seed)
        privacy = PrivateTraining(found.noise_multiplier, found.clipping_norm, 0.6, 3, 1.0)
        work = TrainWork(
            "neural_network",
            found.scaling,
            1,
            32,
            1e3,
            privacy,
            optimizer,
            classes=3,  # type: ignore[arg-type]
        )
        start = rng.choice([PARAMETER.least, PARAMETER.most, 0.1], size=architecture.size).astype(np.float32)
        network = NEURAL_NETWORK.of(architecture.to_state(start), 3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            moved = network.train(found.table, start, work, rng, Secret())
            measured = network.evaluate(
                held_out(found.table), start, EvaluateWork("any", found.scaling, 1.0, classes=3)
            )
        assert np.all(np.isfinite(moved.vector))
        assert np.all(np.isfinite(measured.vector))
        assert moved.weight == 1.0
        assert np.all(np.abs(start + moved.vector) <= PARAMETER.most * (1 + 1e-6))


THREADS = """
import numpy as np
from tests.security.test_layer_independence import digest
print(digest())
"""


def digest() -> str:
    """Of a sum over many rows, large enough for a product to be divided among threads."""
    given = asked(network(2, "tanh", 64, 32, 1), 3, rows=3000, features=40)
    return hashlib.sha256(repr(given.exact(given.table)).encode()).hexdigest()


def test_how_many_threads_share_the_products_changes_nothing() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", THREADS],
            env={**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for threads in (1, 2, 4)
    }
    assert len(found) == 1


def test_a_clipping_norm_moves_towards_the_median_by_at_most_a_tenth_and_stays_in_its_bounds() -> None:
    assert next_norm(1.0, 50.0, 100.0) == pytest.approx(np.exp(-0.1))
    assert next_norm(1.0, -50.0, 100.0) == pytest.approx(np.exp(0.1))
    assert next_norm(1.0, 0.0, 100.0) == 1.0
    assert next_norm(1.0, 1e300, 1.0) == pytest.approx(np.exp(-0.1))
    assert next_norm(CLIPPING_NORM.most, -50.0, 100.0) == CLIPPING_NORM.most
    assert next_norm(CLIPPING_NORM.least, 50.0, 100.0) == CLIPPING_NORM.least


def test_the_least_noise_and_the_largest_clipping_norm_keep_sums_exact() -> None:
    """At the finest lattice a subject's integers are the largest: they still add up as they are."""
    kind = network(2, "relu", 3, 1)
    shape, size = kind.make(2)
    given = asked(kind, 11, rows=40, features=2)
    hostile = Asked(
        given.table, given.scaling, np.full(size, PARAMETER.most), NOISE_MULTIPLIER.least,
        CLIPPING_NORM.most, shape, 2,
    )  # fmt: skip
    check_every_subject(hostile, np.unique(given.table.subjects)[:4])


@OF_EVERY_KIND
def test_rows_in_files_add_the_same(kind: Kind, tmp_path: Path) -> None:
    given = asked(kind, 9, rows=300, features=6)
    ranked = kept(given.table, np.argsort(given.table.subjects, kind="stable"))
    stored = replace(ranked, space=Scratch(str(tmp_path)))
    columns = scale_columns(stored.features, given.scaling, stored.space)
    in_files = replace(given.rows(ranked), columns=columns)
    found = in_files.exact_sum(np.ones(in_files.subjects, dtype=bool), given.parameters)
    assert [
        int(high) * 2**20 + int(low) for high, low in zip(found.high, found.low, strict=True)
    ] == given.exact(given.table)


def test_no_private_step_of_a_network_needs_all_rows_in_memory() -> None:
    """Else whether rows fit would be told by a refusal, after the charge."""
    for name, step in NEURAL_NETWORK.steps.items():
        if name not in ("bins", "levels", "report", "personalize"):
            assert getattr(step, "streams", False) or getattr(step, "streams_privately", False), name
