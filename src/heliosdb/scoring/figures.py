"""The figures of predictions on rows that count by weights: `measure_of` says which, by what is predicted.

What always holds: a figure of rows that all weigh 1 is that of `algorithms/measures` and of the report over
the same rows; rows that weigh k are as k equal rows; what is not defined is NaN, and `why` says of each such
figure when that is so. What does not depend on weights is computed once, so that weighing anew takes O(n).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from heliosdb.scoring.evaluated import LARGEST, LEAST_PROBABILITY, LEAST_REST, log_odds
from heliosdb.scoring.ordering import ClassOrder, SurvivalOrder
from heliosdb.scoring.recalibration import Recalibration

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

UNDEFINED: Final = math.nan

_ONE_CLASS = "the rows are of one class"
_UNCORRECTED = "the probabilities separate the classes, or are all the same, or the rows are of one class"
_ALIKE = "the targets are all the same"
_ROUNDING = 1e-12
"""A variance below this part of the mean square is one of targets that are all the same."""


class Measure(Protocol):
    """Figures of rows whose predictions are known."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the figures are called, in order."""
        ...

    @property
    def why(self) -> Mapping[str, str]:
        """When a figure is not defined, of each of which that may be."""
        ...

    def prepare(self, weights: Vector) -> Iterator[None]:
        """Do what is done once, in steps of bounded work. weights: of the rows as they are, with mean 1."""
        ...

    def figures(self, weights: Vector) -> Vector:
        """Return the figures of rows that count so often; `prepare` is done. (n,) → (names,)"""
        ...


class BinaryMeasure:
    """Of the probability of the second of two classes, which is called positive."""

    names = (
        "loss", "base_loss", "accuracy", "precision", "recall", "f1_score", "auc", "brier",
        "calibration_intercept", "calibration_slope",
    )  # fmt: skip
    why: Mapping[str, str] = {
        "precision": "no row is predicted positive",
        "recall": "no row is positive",
        "f1_score": "no row is positive or predicted to be",
        "auc": _ONE_CLASS,
        "calibration_intercept": _UNCORRECTED,
        "calibration_slope": _UNCORRECTED,
    }

    def __init__(self, values: Matrix) -> None:
        """values: (n, 2), probability and class, the probabilities ascending."""
        chances, positive = values[:, 0], values[:, 1] > 0.5
        predicted = chances > 0.5
        with np.errstate(all="ignore"):
            losses = np.where(
                positive,
                -np.log(np.maximum(chances, LEAST_PROBABILITY)),
                -np.where(chances < 0.5, np.log1p(-chances), np.log(np.maximum(1.0 - chances, LEAST_REST))),
            )
        brier = np.square(chances - positive)
        self._values = np.column_stack([losses, brier, predicted & positive, predicted, positive])
        self._order = ClassOrder(chances, positive)
        self._recalibration = Recalibration(log_odds(chances), positive)

    def prepare(self, weights: Vector) -> Iterator[None]:
        """Find the recalibration."""
        yield from self._recalibration.prepare(weights)

    def figures(self, weights: Vector) -> Vector:
        """Return them."""
        rows = float(weights.sum())
        loss, brier, hits, predicted, positives = map(float, weights @ self._values)
        rate = min(max(positives, 0.5), rows - 0.5) / rows
        base = -rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate) if 0.0 < rate < 1.0 else UNDEFINED
        in_order = self._order.share_in_order(weights)
        corrected = np.full(2, UNDEFINED)
        if not math.isnan(in_order):
            # A step from rows of both classes would be finite, and no estimate, of rows of one.
            corrected = self._recalibration.again(weights @ self._recalibration.values)
        return np.array(
            [
                loss / rows,
                base,
                (rows - predicted - positives + 2.0 * hits) / rows,
                _share(hits, predicted),
                _share(hits, positives),
                _share(2.0 * hits, predicted + positives),
                in_order,
                brier / rows,
                *corrected,
            ]
        )


class ClassesMeasure:
    """Of the probabilities of several classes; precision, recall and F1 are means over the classes that occur
    among the rows or their predictions, as `algorithms/measures/multiclass.py` has it."""

    names = ("loss", "base_loss", "accuracy", "precision", "recall", "f1_score", "brier")
    why: Mapping[str, str] = {}

    def __init__(self, values: Matrix, classes: int) -> None:
        """values: (n, 4), log loss, squared error, predicted and actual class."""
        self._sums = np.ascontiguousarray(values[:, :2])
        self._predicted, self._actual = values[:, 2].astype(np.int64), values[:, 3].astype(np.int64)
        self._right = (self._predicted == self._actual).astype(np.float64)
        self._classes = classes

    def prepare(self, weights: Vector) -> Iterator[None]:
        """There is nothing to do."""
        del weights
        return iter(())

    def figures(self, weights: Vector) -> Vector:
        """Return them."""
        rows = float(weights.sum())
        loss, brier = map(float, weights @ self._sums)
        hits, predicted, actual = (
            _counted(chosen, counted, self._classes)
            for chosen, counted in (
                (self._actual, weights * self._right), (self._predicted, weights), (self._actual, weights)
            )
        )  # fmt: skip
        there = predicted + actual > 0.0
        return np.array(
            [
                loss / rows,
                _entropy(actual, rows),
                hits.sum() / rows,
                _mean_share(hits[there], predicted[there]),
                _mean_share(hits[there], actual[there]),
                _mean_share(2.0 * hits[there], (predicted + actual)[there]),
                brier / rows,
            ]
        )


class NumberMeasure:
    """Of a number: mean squared error, its root, mean absolute error and R squared; of a count's mean too the
    mean deviance of Poisson's distribution."""

    why: Mapping[str, str] = {"base_loss": _ALIKE, "r2": _ALIKE}

    def __init__(self, values: Matrix, *, is_count: bool) -> None:
        """values: (n, 2), prediction and target."""
        predicted, target = values.T
        # About a middle of their own, so that squares keep their digits.
        self._least = np.square(_ROUNDING * np.abs(target).max(initial=0.0))
        centred = target - np.mean(target)
        columns = [np.square(predicted - target), np.abs(predicted - target), centred, np.square(centred)]
        self.names: tuple[str, ...] = ("loss", "base_loss", "rmse", "mae", "r2")
        if is_count:
            self.names += ("mean_poisson_deviance",)
            columns.append(_poisson_deviance(predicted, target))
        self._values = np.column_stack(columns)

    def prepare(self, weights: Vector) -> Iterator[None]:
        """There is nothing to do."""
        del weights
        return iter(())

    def figures(self, weights: Vector) -> Vector:
        """Return them."""
        square, error, mean, around, *deviance = (weights @ self._values / weights.sum()).tolist()
        base = around - mean * mean
        if base <= max(_ROUNDING * around, self._least):
            base = UNDEFINED
        return np.array([square, base, math.sqrt(square), error, 1.0 - square / base, *deviance])


class SurvivalMeasure:
    """Of a hazard: Harrell's C."""

    names = ("c_index",)
    why: Mapping[str, str] = {"c_index": "of no pair of rows it is known who had the event first"}

    def __init__(self, values: Matrix) -> None:
        """values: (n, 3), hazard, time and event."""
        self._order = SurvivalOrder(values[:, 1], values[:, 2], values[:, 0])

    def prepare(self, weights: Vector) -> Iterator[None]:
        """Sort the rows."""
        del weights
        return self._order.prepare()

    def figures(self, weights: Vector) -> Vector:
        """Return it."""
        return np.array([self._order.share_in_order(weights)])


def measure_of(kind: str, values: Matrix, classes: int) -> Measure:
    """Return what measures predictions of a kind; values: (n, …), what `reduce_block` keeps behind a row's
    subject, sorted by the first of them."""
    match kind:
        case "binary":
            return BinaryMeasure(values)
        case "classes":
            return ClassesMeasure(values, classes)
        case "survival":
            return SurvivalMeasure(values)
        case _:
            return NumberMeasure(values, is_count=kind == "counts")


def _counted(chosen: NDArray[np.int64], weights: Vector, classes: int) -> Vector:
    found: Vector = np.bincount(chosen, weights=weights, minlength=classes).astype(np.float64)
    return found


def _share(chosen: float, of: float) -> float:
    return chosen / of if of > 0.0 else UNDEFINED


def _mean_share(chosen: Vector, of: Vector) -> float:
    return float(np.mean(np.divide(chosen, of, out=np.zeros_like(chosen), where=of > 0.0)))


def _entropy(counts: Vector, rows: float) -> float:
    """Return the log loss of the base rates; where one class has all rows, half a row counts as another's."""
    shares = counts[counts > 0.0] / rows
    if shares.size < 2:
        shares = np.array([max(0.5, rows - 0.5), 0.5]) / rows
    return float(-(shares * np.log(shares)).sum())


def _poisson_deviance(predicted: Vector, target: Vector) -> Vector:
    """Return twice target * log(target / predicted) - target + predicted; of a target of 0, twice the
    prediction."""
    means = np.maximum(predicted, LEAST_PROBABILITY)
    logs = np.log(np.where(target > 0.0, target, 1.0)) - np.log(means)
    found: Vector = 2.0 * np.minimum(target * np.where(target > 0.0, logs, 0.0) - target + means, LARGEST)
    return found
