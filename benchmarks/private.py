"""What privacy costs in computation: one private answer of each kind, on the rows alone, without a database.

A training task is one local epoch: as many Poisson samples as see each subject once. The plain epoch stands
beside it. Runs against any checkout (PYTHONPATH), so that two versions can be measured in turn.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.harness import Figure, median_seconds, publish
from heliosdb.algorithms import Table, derive_rng
from heliosdb.algorithms.features import statistics
from heliosdb.algorithms.linear import LOGISTIC_REGRESSION
from heliosdb.algorithms.works import EvaluateWork, PrivateTraining, StatisticsWork, TrainWork
from heliosdb.domain.task import Scaling

NOISE = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """rows x features, in batches; subjects: fewer than rows where one has several."""

    rows: int
    features: int
    batch: int
    subjects: int
    repetitions: int

    @property
    def label(self) -> str:
        """As the table names it."""
        grouped = f", {self.subjects} subjects" if self.subjects < self.rows else ""
        return f"{self.rows} x {self.features}{grouped}, batch {self.batch}"


SHAPES = (
    Shape(200, 4, 32, 200, 101),
    Shape(10_000, 30, 256, 10_000, 21),
    Shape(100_000, 30, 1024, 100_000, 5),
    Shape(10_000, 30, 256, 2_000, 21),
)


def main() -> None:
    """Run all shapes, or those whose number is named."""
    chosen = [SHAPES[int(number)] for number in sys.argv[1:]] or SHAPES
    publish("private", [figure for shape in chosen for figure in _measure(shape)])


def _tables(shape: Shape) -> tuple[Table, Table]:
    """Return rows to train on, and the same held out."""
    rng = np.random.default_rng(1)
    features = rng.normal(size=(shape.rows, shape.features)) * 3.0 + 1.0
    features[rng.random(features.shape) < 0.01] = np.nan
    target = (rng.random(shape.rows) < 0.5).astype(float)
    every = np.arange(shape.rows)
    subjects = every if shape.subjects == shape.rows else rng.integers(0, shape.subjects, shape.rows)
    none = np.zeros(shape.rows, dtype=np.bool_)
    training, held_out = (Table.from_rows(features, target, subjects, held) for held in (none, ~none))
    return training, held_out


def _measure(shape: Shape) -> list[Figure]:
    table, held_out = _tables(shape)
    model = LOGISTIC_REGRESSION
    scaling = Scaling((1.0,) * shape.features, (3.0,) * shape.features)
    rate = min(1.0, shape.batch / shape.subjects)
    privacy = PrivateTraining(NOISE, 1.0, rate, math.ceil(1.0 / rate), float(shape.subjects))
    plain = TrainWork(model.name, scaling, 1, shape.batch, 0.1, classes=0 if model.scales_target else 2)
    private = TrainWork(
        model.name, scaling, 1, shape.batch, 0.1, privacy, classes=0 if model.scales_target else 2
    )
    evaluation = EvaluateWork(model.name, scaling, NOISE, classes=0 if model.scales_target else 2)
    grid = StatisticsWork(model.name, NOISE, classes=0 if model.scales_target else 2)
    ranges = StatisticsWork(
        model.name, NOISE, ((-10.0, 10.0),) * shape.features, classes=0 if model.scales_target else 2
    )
    start = np.linspace(-0.1, 0.1, shape.features + 1)
    actions: dict[str, Callable[[], object]] = {
        "plain epoch": lambda: model.train(table, start, plain, derive_rng(1, 1, "a", b"")),
        "private epoch": lambda: model.train(table, start, private, derive_rng(1, 1, "a", b"")),
        "private evaluation": lambda: model.evaluate(held_out, start, evaluation),
        "private statistics, grid": lambda: statistics(table, grid),
        "private statistics, ranges": lambda: statistics(table, ranges),
    }
    return [
        Figure(f"{shape.label}: {name}", 1e3 * median_seconds(action, shape.repetitions), "ms")
        for name, action in actions.items()
    ]


if __name__ == "__main__":
    main()
