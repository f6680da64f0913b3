"""Under a budget how wide the layers are that a task brings decides no more than how long a node takes: the memory for
its rows does not grow with how many there are.

The attack that this test keeps: a coordinator has layers stay that are ever wider, or blocks of an image of ever more
channels, and finds out by which task fails how many rows a node has.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from heliosdb.algorithms import Table
from heliosdb.algorithms.convolution import Convolution
from heliosdb.algorithms.draws import TaskDraws
from heliosdb.algorithms.frozen import hold_layers
from heliosdb.algorithms.gradient import GradientWork
from heliosdb.algorithms.neural import CNN, NEURAL_NETWORK, NeuralNetwork
from heliosdb.algorithms.norms import NormsStep, NormsWork
from heliosdb.algorithms.perceptron import Perceptron
from heliosdb.algorithms.works import PARAMETERS, PrivateTraining, TrainWork
from heliosdb.domain.state import NO_STATE, State
from heliosdb.domain.task import Reading, Scaling, Task
from heliosdb.parts.algorithms import ConvolutionSettings
from heliosdb.privacy.mechanisms import Secret
from tests.support.federation import key

FEW, MANY = 40, 400
INPUTS = 8


@dataclass(frozen=True)
class Wide:
    """A network of which one row alone is many numbers on its way."""

    method: NeuralNetwork
    state: State


def with_wide_layers_that_stay() -> Wide:
    state = Perceptron(INPUTS, (65_536, 1), "relu", "sigmoid").begin(1)
    return Wide(NEURAL_NETWORK, hold_layers(state, INPUTS, 1))


def with_blocks_of_many_channels() -> Wide:
    settings = ConvolutionSettings(input_shape=(INPUTS, 1, 1), channels=(64,), kernel=11)
    return Wide(CNN, Convolution.of(INPUTS, settings).begin(1))


def table(count: int) -> Table:
    rng = np.random.default_rng(count)
    target = (rng.random(count) < 0.5).astype(np.float64)
    nobody = np.zeros(count, dtype=np.bool_)
    return Table.from_rows(rng.normal(size=(count, INPUTS)), target, np.arange(count), nobody)


def train(wide: Wide, count: int) -> None:
    privacy = PrivateTraining(4.0, 1.0, 1.0, 2, float(count))
    work = TrainWork(wide.method.name, scaling(), 1, 32, 0.1, privacy, classes=2)
    made = wide.method.of(wide.state, INPUTS)
    made.train(table(count), wide.state[PARAMETERS], work, np.random.default_rng(1), Secret())


def gradient(wide: Wide, count: int) -> None:
    work = GradientWork(wide.method.name, scaling(), 4.0, 1.0, 1.0, 2)
    made = wide.method.of(wide.state, INPUTS)
    made.sum_gradients(table(count), wide.state[PARAMETERS], work, Secret())


def norms(wide: Wide, count: int) -> None:
    work = NormsWork(wide.method.name, scaling(), 4.0, 1.0, 2)
    reading = Reading(None, tuple(f"x{place}" for place in range(INPUTS)), "y", 0.0, 1)
    task = Task(key(NormsStep(wide.method.name).name), reading, work.to_work(), scaling(), wide.state)
    NormsStep(wide.method.name).compute(table(count), task, NO_STATE, TaskDraws(task, bytes(32)))


def scaling() -> Scaling:
    return Scaling((0.0,) * INPUTS, (1.0,) * INPUTS)


def most_memory(asked: Callable[[Wide, int], None], wide: Wide, count: int) -> int:
    tracemalloc.start()
    try:
        asked(wide, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("asked", [train, gradient, norms], ids=lambda one: one.__name__)
@pytest.mark.parametrize("make", [with_wide_layers_that_stay, with_blocks_of_many_channels])
def test_ten_times_as_many_rows_take_no_more_memory(
    make: Callable[[], Wide], asked: Callable[[Wide, int], None]
) -> None:
    wide = make()
    few, many = (most_memory(asked, wide, count) for count in (FEW, MANY))
    assert many < 1.2 * few + 4_000_000
