"""DP-SGD: what one subject can do to a step, what is noised, and what the answer gives away."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.algorithms import derive_rng
from heliosdb.algorithms.columns import scale_columns
from heliosdb.algorithms.families import sigmoid
from heliosdb.algorithms.linear import LINEAR_REGRESSION, LOGISTIC_REGRESSION, LinearModel, scale_inputs
from heliosdb.algorithms.private_sgd import SubjectRows
from heliosdb.algorithms.table import Table, group_by_subject
from heliosdb.algorithms.works import PrivateTraining, TrainWork
from heliosdb.domain.privacy import Mechanism
from heliosdb.domain.task import Scaling
from heliosdb.domain.vector import AlreadyPrivate, Contribution
from heliosdb.privacy.mechanisms import STD_STEPS, Lattice, Secret

UNIT = Scaling((0.0, 0.0), (1.0, 1.0))


def table(subjects: np.ndarray, seed: int = 0, size: float = 1.0) -> Table:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(subjects.size, 2)) * size
    target = (rng.random(subjects.size) < 0.5).astype(float)
    return Table.from_rows(features, target, subjects, np.zeros(subjects.size, dtype=bool))


def train(
    data: Table,
    *,
    noise: float = 1.0,
    clipping: float = 1.0,
    rate: float = 1.0,
    steps: int = 1,
    expected: float = 10.0,
    learning_rate: float = 1.0,
    model: LinearModel = LOGISTIC_REGRESSION,
    secret_seed: int | None = 1,
) -> Contribution:
    privacy = PrivateTraining(noise, clipping, rate, steps, expected)
    work = TrainWork(model.name, UNIT, 1, 32, learning_rate, privacy, classes=0 if model.scales_target else 2)
    secret = None if secret_seed is None else Secret(random.Random(secret_seed).randbytes)
    return model.train(data, np.zeros(3), work, derive_rng(1, 1, "a", b""), secret)


def gradient_sum(data: Table, clipping: float, noise: float = 1.0) -> np.ndarray:
    """The sum before the noise, as a step computes it."""
    lattice = Lattice.of(clipping, noise, 3)
    columns = scale_columns(data.features, UNIT)
    rows = SubjectRows.of(columns, data.target, group_by_subject(data.subjects), clipping, lattice)
    everybody = np.ones(rows.subjects, dtype=bool)
    return lattice.total(rows.gradient_steps(everybody, np.zeros(3), LOGISTIC_REGRESSION.residual))


@given(st.integers(0, 10_000), st.floats(0.01, 5.0), st.sampled_from([1.0, 100.0, 1e8]))
def test_removing_a_subject_of_many_rows_moves_the_sum_by_the_clipping_norm_at_most(
    seed: int, clipping: float, size: float
) -> None:
    subjects = np.random.default_rng(seed).permutation(np.array([0] * 40 + [1, 2, 3] * 4 + [4]))
    data = table(subjects, seed, size)
    whole = gradient_sum(data, clipping)
    for subject in range(5):
        keep = subjects != subject
        rest = Table(data.features[keep], data.target[keep], subjects[keep], data.held_out[keep])
        # At noise multiplier 1 the deviation is what the noise covers: the norm and the slack for rounding.
        assert np.linalg.norm(whole - gradient_sum(rest, clipping)) <= Lattice.of(clipping, 1.0, 3).std


def test_all_rows_of_a_subject_are_clipped_together() -> None:
    data = table(np.zeros(500, dtype=int), size=3.0)
    assert np.linalg.norm(gradient_sum(data, 1.0)) == pytest.approx(1.0)


def test_the_quick_way_for_a_row_a_subject_equals_the_general_one() -> None:
    data = table(np.arange(50), size=2.0)
    turned = Table(data.features[::-1], data.target[::-1], data.subjects[::-1], data.held_out)
    assert group_by_subject(turned.subjects).order is not None
    assert np.allclose(gradient_sum(data, 0.7), gradient_sum(turned, 0.7), atol=50 * 0.7 / STD_STEPS)


def test_subjects_across_blocks_are_those_within_one() -> None:
    subjects = np.sort(np.random.default_rng(1).integers(0, 9000, 40_000))
    subjects[5000:25_000] = subjects[5000]  # one of more rows than a block
    data = table(subjects)
    whole = sum(
        gradient_sum(Table(data.features[k], data.target[k], subjects[k], data.held_out[k]), 1.0)
        for k in (subjects % 3 == rest for rest in range(3))
    )
    assert np.allclose(gradient_sum(data, 1.0), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 3])
def test_without_clipping_or_noise_to_speak_of_it_is_gradient_descent(steps: int) -> None:
    copies = np.tile(np.arange(40), 2500)
    data = table(np.arange(40))
    many = Table(
        data.features[copies], data.target[copies], np.arange(100_000), np.zeros(100_000, dtype=bool)
    )
    answer = train(many, noise=1e-2, clipping=5.0, steps=steps, expected=100_000.0, learning_rate=0.5)
    parameters, inputs = np.zeros(3), scale_inputs(data.features, UNIT)
    for _ in range(steps):
        parameters = parameters - 0.5 * inputs.T @ (sigmoid(inputs @ parameters) - data.target) / 40
    assert np.allclose(answer.vector, parameters, atol=1e-5)


def test_the_noise_of_a_step_has_the_declared_size() -> None:
    data = table(np.arange(10))
    still = -gradient_sum(data, 2.0) / 10
    noise = [train(data, noise=30.0, clipping=2.0, secret_seed=seed).vector - still for seed in range(400)]
    # One step: learning_rate 1, divided by 1.0 x 10 expected subjects.
    assert np.std(noise) == pytest.approx(30.0 * 2.0 / 10, rel=0.06)


@pytest.mark.parametrize("rows", [1, 10, 5000])
def test_the_answer_never_gives_away_how_many_there_are(rows: int) -> None:
    answer = train(table(np.arange(rows)), noise=7.0, rate=0.5, steps=3, expected=123.25)
    assert answer.weight == 123.25
    assert answer.guard == AlreadyPrivate(Mechanism(7.0, 0.5, 3))
    assert answer.vector.shape == (3,)


def test_nobody_at_all_still_answers_with_noise() -> None:
    for subjects in (np.arange(0), np.arange(30)):
        data = table(subjects)
        hidden = Table(data.features, data.target, data.subjects, np.ones(data.rows, dtype=bool))
        answer = train(hidden, noise=3.0, rate=0.5, steps=2)
        assert np.all(answer.vector != 0)


def test_the_divisor_is_fixed_whatever_was_sampled() -> None:
    one, twice = (train(table(np.arange(20)), expected=e).vector for e in (10.0, 20.0))
    assert np.allclose(one, 2 * twice, rtol=1e-12)


def test_steps_sample_subjects_and_not_rows() -> None:
    # Two subjects of 100 equal rows each: a sum is 0, 1 or 2 whole clipped subjects.
    subjects = np.repeat([0, 1], 100)
    data = Table.from_rows(np.ones((200, 2)), np.zeros(200), subjects, np.zeros(200, dtype=bool))
    seen = {
        round(
            float(np.linalg.norm(train(data, noise=1e-2, rate=0.5, expected=2.0, secret_seed=seed).vector)), 1
        )
        for seed in range(30)
    }
    assert seen == {0.0, 1.0, 2.0}


def test_noise_is_secret_and_not_from_the_run_s_seed() -> None:
    data = table(np.arange(20))
    assert not np.array_equal(train(data, secret_seed=None).vector, train(data, secret_seed=None).vector)


@pytest.mark.parametrize("value", [1e200, 1e308])
def test_an_extreme_subject_spoils_nothing(value: float) -> None:
    data = table(np.arange(20))
    features, target = data.features.copy(), data.target.copy()
    features[3], target[3] = value, 1.0
    for model in (LOGISTIC_REGRESSION, LINEAR_REGRESSION):
        extreme = Table.from_rows(features, target, data.subjects, data.held_out)
        assert np.all(np.isfinite(train(extreme, model=model, steps=5).vector))


def test_private_training_learns_where_there_are_enough_subjects() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(20_000, 2))
    target = (features @ [2.0, -1.0] > 0).astype(float)
    data = Table.from_rows(features, target, np.arange(20_000), np.zeros(20_000, dtype=bool))
    parameters = train(data, noise=5.0, rate=0.05, steps=100, expected=20_000.0, learning_rate=1.0).vector
    right = (features @ parameters[:2] + parameters[2] > 0) == (target > 0.5)
    assert right.mean() > 0.95
