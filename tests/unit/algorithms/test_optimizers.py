"""Local optimizers: their steps are the papers', in plain training and behind the noise of private training."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliosdb.algorithms import Table
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.local_terms import LocalTerms
from heliosdb.algorithms.optimizers import REACH, adam_reach, make_optimizer
from heliosdb.algorithms.sgd import HeldRows, derive_rng, descend, shrinking
from heliosdb.algorithms.training import private_reach
from heliosdb.algorithms.works import PrivateTraining, TrainWork
from heliosdb.domain.task import Scaling
from heliosdb.privacy.mechanisms import Secret

GRADIENTS = np.random.default_rng(4).normal(size=(6, 3))
NAMES: list[Any] = ["sgd", "momentum", "adam"]


def test_momentum_keeps_nine_tenths_of_what_it_was() -> None:
    step, velocity = make_optimizer("momentum", 0.5, 3), np.zeros(3)
    for gradient in GRADIENTS:
        velocity = 0.9 * velocity + gradient
        assert step(4.0 * gradient, 4.0) == pytest.approx(0.5 * velocity)


def test_adam_is_that_of_kingma_and_ba() -> None:
    step, m, v = make_optimizer("adam", 0.5, 3), np.zeros(3), np.zeros(3)
    for t, gradient in enumerate(GRADIENTS, 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected = 0.5 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert step(4.0 * gradient, 4.0) == pytest.approx(expected)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_no_sequence_of_gradients_moves_further_than_is_reckoned(gradients: list[float]) -> None:
    grown = [(0.9 / 0.999) ** (60 - place) for place in range(60)]
    for sequence in (gradients, grown):
        for name in NAMES:
            step = make_optimizer(name, 0.1, 1)
            moved = [abs(float(step(np.array([one]), 1.0)[0])) for one in sequence]
            if name == "adam":
                assert max(moved) <= adam_reach(0.1, 1, 1) * (1 + 1e-9)
            else:
                assert sum(moved) <= REACH[name] * 0.1 * sum(map(abs, sequence)) * (1 + 1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_model_descends_by_its_optimizer_and_each_time_anew(name: Any) -> None:
    rng = np.random.default_rng(2)
    inputs, targets = np.column_stack([rng.normal(size=(40, 2)), np.ones(40)]), rng.normal(size=40)
    how: Any = {"epochs": 3, "batch_size": 40, "learning_rate": 0.05, "optimizer": name}

    def residual(scores: Any, targets: Any) -> Any:
        return scores - targets

    current, step = np.zeros(3), make_optimizer(name, 0.05, 3)
    for _ in range(3):
        current = current - step(residual(inputs @ current, targets) @ inputs, 40)
    found = [
        descend(HeldRows(inputs, targets), np.zeros(3), residual, rng=derive_rng(1, 1, "a", b""), **how)
        for _ in range(2)
    ]
    assert found[0] == pytest.approx(current)
    assert np.array_equal(*found)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
@pytest.mark.parametrize("weight", [0.1, 1.0, 5.0])
def test_a_term_and_a_penalty_weigh_what_they_say_whatever_the_optimizer(name: Any, weight: float) -> None:
    rows = HeldRows(np.column_stack([np.ones(8), np.zeros(8)]), np.ones(8))
    how: Any = {"epochs": 3000, "batch_size": 8, "learning_rate": 0.01, "optimizer": name}
    for more in ({"terms": LocalTerms(weight)}, {"shrink": shrinking(weight, 0.0)}):
        found = descend(rows, np.zeros(2), lambda s, t: s - t, rng=derive_rng(1, 1, "a", b""), **how, **more)
        # Of (w - 1)² / 2 + weight w² / 2.
        assert found[0] == pytest.approx(1.0 / (1.0 + weight), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_private_steps_are_the_optimizers_of_noised_gradients_and_stay_within_reach(name: Any) -> None:
    rng = np.random.default_rng(0)
    rows = Table.from_rows(
        rng.normal(size=(50, 2)) * 1e9,
        (rng.random(50) < 0.5).astype(float),
        np.arange(50),
        np.zeros(50, dtype=bool),
    )
    privacy, scaling = PrivateTraining(5.0, 1.0, 1.0, 30, 10.0), Scaling((0.0, 0.0), (1.0, 1.0))
    work = TrainWork("logistic_regression", scaling, 1, 32, 0.1, privacy, optimizer=name, classes=2)
    moved = [
        LOGISTIC_REGRESSION.train(
            rows, np.zeros(3), work, derive_rng(1, 1, "a", b""), Secret(random.Random(seed).randbytes)
        ).vector
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(moved[0], moved[1])
    assert not np.array_equal(moved[0], moved[2])
    most = adam_reach(0.1, 30, 3) if name == "adam" else REACH[name] * private_reach(privacy, 0.1, 3, 50.0)
    assert 0 < np.linalg.norm(moved[0]) <= most
